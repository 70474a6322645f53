"""One picture: options -> inputs -> painted -> files, watched and stopped."""

"""Pictures in memory -> better pictures in memory."""

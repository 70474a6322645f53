"""Features -> statistics -> losses, whole or in tiles."""

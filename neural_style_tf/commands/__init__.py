"""Command lines: arguments -> exit status."""

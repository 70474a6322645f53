"""Painting: pictures in memory -> better pictures in memory."""

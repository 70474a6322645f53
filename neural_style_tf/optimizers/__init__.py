"""Gradients -> a better picture."""

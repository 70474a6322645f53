"""Optimizers: a picture and the gradient of its loss -> a better picture."""

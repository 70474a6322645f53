"""The run as a generator: `from stylize import stylize`. What it does is in its docstring."""

from neural_style_tf.painting.stylize import NotFiniteError, Step, stylize

__all__ = ["NotFiniteError", "Step", "stylize"]

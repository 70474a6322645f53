"""Neural style: repaints a photo in the style of paintings (Gatys, Ecker and Bethge 2015, 2016)."""

from neural_style_tf import version

__all__ = ["__version__"]

__version__ = version.VERSION

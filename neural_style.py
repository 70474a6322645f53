"""Repaints a photo in the style of one or more paintings.

python neural_style.py --content photo.jpg --styles painting.jpg --output out.jpg
"""

from neural_style_tf.commands.neural_style import main, start

__all__ = ["main"]

if __name__ == "__main__":
    start()

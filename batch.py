"""Paints many photos in the styles of many paintings, and a gallery page of the results.

python batch.py --contents photos/ --styles paintings/ --output-dir gallery/
"""

from neural_style_tf.commands.batch import main, start

__all__ = ["main"]

if __name__ == "__main__":
    start()

"""`python -m neural_style_tf` is the command `neural-style`."""

import sys

from neural_style_tf.commands.neural_style import start
from neural_style_tf.commands.parser import MODULE_CALL

if __name__ == "__main__":
    sys.argv[0] = MODULE_CALL
    start()

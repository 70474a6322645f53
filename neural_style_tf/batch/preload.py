"""Preload: the modules that painting needs, for the process that workers are forked from."""

from neural_style_tf.machine import tensorflow_setup

tensorflow_setup.load()

from neural_style_tf.optimizers import adam, lbfgs, scipy_lbfgsb  # noqa: E402, F401
from neural_style_tf.painting import painter  # noqa: E402, F401
from neural_style_tf.runs import painting_run, progress, writer  # noqa: E402, F401

"""Imported: what painting takes, for the process that workers are forked from."""

import hardware

hardware.import_tensorflow()

import optimizers  # noqa: E402, F401
import progress  # noqa: E402, F401
import results  # noqa: E402, F401
import stylize  # noqa: E402, F401

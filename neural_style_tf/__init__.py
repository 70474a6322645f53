"""Neural style: repaints a photo in the style of paintings (Gatys, Ecker and Bethge 2016,
Kolkin et al. 2022).

    from neural_style_tf import paint_file

    paint_file("photo.jpg", ["painting.jpg"], "out.jpg", size=512)

What is listed here is imported when it is used first: TensorFlow takes seconds to import.
"""

import importlib
from typing import TYPE_CHECKING, Any

from neural_style_tf import version
from neural_style_tf.machine import cpu

if TYPE_CHECKING:
    from neural_style_tf.errors import NotFiniteError, UsageError, UserError
    from neural_style_tf.network.vgg import load as load_network
    from neural_style_tf.painting.step import Step
    from neural_style_tf.painting.stylize import stylize
    from neural_style_tf.runs.api import PaintedFile, paint_file, read_picture, save_picture
    from neural_style_tf.runs.notebook import NotebookDisplay
    from neural_style_tf.settings import Settings

__all__ = [
    "NotFiniteError",
    "NotebookDisplay",
    "PaintedFile",
    "Settings",
    "Step",
    "UsageError",
    "UserError",
    "__version__",
    "load_network",
    "paint_file",
    "read_picture",
    "save_picture",
    "stylize",
]

__version__ = version.VERSION

cpu.choose_onednn()  # before anything imports TensorFlow

_PLACES = {  # the module of each name, and its name there
    "NotFiniteError": ("errors", "NotFiniteError"),
    "NotebookDisplay": ("runs.notebook", "NotebookDisplay"),
    "PaintedFile": ("runs.api", "PaintedFile"),
    "Settings": ("settings", "Settings"),
    "Step": ("painting.step", "Step"),
    "UsageError": ("errors", "UsageError"),
    "UserError": ("errors", "UserError"),
    "load_network": ("network.vgg", "load"),
    "paint_file": ("runs.api", "paint_file"),
    "read_picture": ("runs.api", "read_picture"),
    "save_picture": ("runs.api", "save_picture"),
    "stylize": ("painting.stylize", "stylize"),
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "load_network":
        from neural_style_tf.machine import tensorflow_setup

        tensorflow_setup.load()  # without its messages
    module, attribute = _PLACES[name]
    value = getattr(importlib.import_module(f"{__name__}.{module}"), attribute)
    globals()[name] = value  # so that it is looked up once
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""Usual: settings -> the optimizer, style loss, layers and steps where these are not set.

By default each place of the picture is compared with the nearest of the painting (neighbors). Who
sets weights or layers, as published programs have them, gets statistics alone (moments).
"""

from typing import Any

from neural_style_tf.combinations import excludes_neighbors

# Gatys, Ecker and Bethge 2016, section 2: the layers that stand for style, and for content; the
# second is what `content_weight_blend` mixes in.
STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
CONTENT_LAYERS = ("relu4_2", "relu5_2")
# The same with neighbors: lines and faces are clearer, see docs/quality.md.
STYLE_LAYERS_OF_NEIGHBORS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_1")
CONTENT_LAYERS_OF_NEIGHBORS = ("relu3_2", "relu5_2")
# The layers whose columns neighbors compare besides: two of each block up to the fourth.
NEIGHBOR_LAYERS = ("relu1_2", "relu2_2", "relu3_1", "relu3_3", "relu4_1", "relu4_2")

# Steps of each optimizer. Neighbors begin with smaller stages, and take more.
ITERATIONS = {"lbfgs": 100, "adam": 300, "l-bfgs-b": 10}
ITERATIONS_OF_NEIGHBORS = {"lbfgs": 140, "adam": 420, "l-bfgs-b": 14}
# Of Adam. Passing one of these, and no optimizer, selects it.
ADAM_DEFAULTS = {
    "learning_rate": 5.0,
    "learning_rate_schedule": "cosine",
    "decay_every": 100,
    "decay_factor": 0.5,
    "beta1": 0.9,
    "beta2": 0.999,
    "eps": 1e-8,
}


def optimizer(settings: Any) -> str:
    """Adam if one of its settings is set."""
    is_adam = any(getattr(settings, name) is not None for name in ADAM_DEFAULTS)
    return "adam" if is_adam else "lbfgs"


def style_loss(settings: Any) -> str:
    """Neighbors; moments without a photo, and with losses as published programs set them."""
    is_published = settings.style_weight is not None or settings.style_layers is not None
    return "moments" if is_published or excludes_neighbors(settings) else "neighbors"


def unusable(settings: Any) -> set[str]:
    """The names of settings that others exclude: neighbors, and what only neighbors have."""
    if settings.style_loss == "neighbors" and excludes_neighbors(settings):
        return {"style_loss", "style_rotations"}
    chosen = settings.style_loss or style_loss(settings)
    return set() if chosen == "neighbors" else {"style_rotations"}


def iterations(settings: Any) -> int:
    """Steps, by the `optimizer` and the `style_loss` of the settings."""
    return _of(settings, ITERATIONS, ITERATIONS_OF_NEIGHBORS)[settings.optimizer]


def style_layers(settings: Any) -> tuple[str, ...]:
    """The layers whose statistics stand for style."""
    return _of(settings, STYLE_LAYERS, STYLE_LAYERS_OF_NEIGHBORS)


def content_layers(settings: Any) -> tuple[str, str]:
    """The layer that stands for the photo, and the one that `content_weight_blend` mixes in."""
    return _of(settings, CONTENT_LAYERS, CONTENT_LAYERS_OF_NEIGHBORS)


def _of(settings: Any, others: Any, neighbors: Any) -> Any:
    return neighbors if settings.style_loss == "neighbors" else others

"""Settings under which every objective is tried, and how far apart two gradients are."""

import contextlib

import numpy as np
import tensorflow as tf

from neural_style_tf.objective.objective import make_objective, measure_targets
from neural_style_tf.settings import Settings

VARIANTS = {
    "default": {},
    "zero padding": {"padding": "zero", "pooling": "max"},
    "deeper content": {"content_weight_blend": 0.3},
    "only relu5_2": {"content_weight_blend": 0},
    "layer weights": {"style_layer_weight_exp": 1.7},
    "no smoothness": {"tv_weight": 0, "content_weight": 2, "style_weight": 33},
    "l2 pooling": {"pooling": "l2"},
    "average pooling, rescaled": {"pooling": "avg", "pooling_rescale": True},
    "l2 pooling, rescaled": {"pooling": "l2", "pooling_rescale": True},
    "blend": {"style_blend_weights": (3, 1)},
}
# those that the NumPy reference knows
VARIANTS = {
    name: Settings(**{"style_loss": "mean", "style_weight": 5000, **options})
    for name, options in VARIANTS.items()
}


MORE_VARIANTS = VARIANTS | {
    "one layer for both": Settings(content_layers={"relu3_1": 1}, style_layers={"relu3_1": 1}),
    "before the ReLU": Settings(
        content_layers={"conv3_2": 1, "pool1": 0.1}, style_layers={"conv2_1": 1, "pool2": 1}
    ),
    "published sums": Settings(content_loss="sum", style_loss="layer", tv_loss="power"),
    "moments": Settings(style_loss="moments"),
    "wasserstein": Settings(style_loss="wasserstein", pooling="max"),
    "Chollet's sums": Settings(style_loss="picture", pooling="max"),
}
# Few layers, soon traced, for tests that are not about which layers count.
TWO_BLOCKS = {"content_layers": {"relu2_1": 1}, "style_layers": {"relu1_1": 1, "relu2_1": 1}}


@contextlib.contextmanager
def untraced():
    """Runs graphs operation by operation: sooner done than traced, if they are called once."""
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)


def objective_of(network, content, styles, settings, dtype=tf.float32):
    batch = [tf.constant(array[np.newaxis]) for array in (content, *styles)]
    return make_objective(
        network, measure_targets(network, batch[0], batch[1:], settings), settings, dtype
    )


def apart(ours, theirs):
    return np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)

"""The objective in its simplest form: TensorFlow's own operations and GradientTape.

The fast one is compared with this, for its gradient (tests/network/test_backprop.py) and its speed.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from neural_style_tf.network import operations, vgg
from neural_style_tf.objective import losses
from neural_style_tf.objective.evaluation import Evaluation
from neural_style_tf.objective.statistics import STYLE_UNIT
from neural_style_tf.settings import Settings

Features = dict[str, tf.Tensor]  # [1, h, w, channels] by layer name

POOLINGS = {
    "max": lambda features: tf.nn.max_pool2d(features, 2, 2, "SAME"),
    "avg": lambda features: tf.nn.avg_pool2d(features, 2, 2, "SAME"),
    "l2": lambda features: tf.sqrt(tf.nn.avg_pool2d(features**2, 2, 2, "SAME") + 1e-12),
}


def features(
    network: vgg.Network, image: tf.Tensor, wanted: list[str], settings: Settings, padding: str
) -> Features:
    """The features of a picture [1, H, W, 3] float32 RGB, 0..255."""
    collected, current = {}, image - network.mean_pixel
    scales = operations.POOLING_SCALES if settings.pooling_rescale else {}
    rescale = scales.get(settings.pooling, 1.0)
    for layer in network.layers:
        if layer.kind == "conv":
            edge, (height, width) = "SAME", current.shape[1:3]
            if not collected and padding == "replicate":
                current = tf.pad(current, [[0, 0], [1, 1], [1, 1], [0, 0]], "SYMMETRIC")
                edge = "VALID"
            elif padding == "wrap":
                current = tf.tile(current, [1, 3, 3, 1])[:, height - 1 :, width - 1 :]
                current, edge = current[:, : height + 2, : width + 2], "VALID"
            current = tf.nn.bias_add(tf.nn.conv2d(current, layer.kernel, 1, edge), layer.bias)
        elif layer.kind == "relu":
            current = tf.nn.relu(current)
        else:
            current = POOLINGS[settings.pooling](current) * rescale
        collected[layer.name] = current
        if set(wanted) <= set(collected):
            return collected
    raise ValueError(f"the network lacks some of {wanted}")


def make_objective(
    network: vgg.Network, content: tf.Tensor, styles: list[tf.Tensor], settings: Settings
) -> Callable[[tf.Tensor], Evaluation]:
    """The function picture -> `Evaluation`, for pictures [1, H, W, 3] float32 RGB, 0..255: Gatys et
    al. 2016 eq. 7 plus total variation."""
    wanted = [*settings.content_layer_weights(), *settings.style_layer_weights()]
    photo = features(network, content, wanted, settings, settings.padding)
    padding = settings.padding_of_parts()
    targets = [
        style_targets(features(network, style, wanted, settings, padding), settings)
        for style in styles
    ]

    @tf.function
    def objective(picture: tf.Tensor) -> Evaluation:
        with tf.GradientTape() as tape:
            tape.watch(picture)
            ours = features(network, picture, wanted, settings, settings.padding)
            pixels = picture.shape[1] * picture.shape[2]
            style = style_loss(ours, targets, settings, pixels)
            terms = {
                "content": settings.content_weight * content_loss(ours, photo, settings),
                "style": settings.weight_of_style() * style,
                "tv": settings.tv_weight
                * losses.total_variation(picture, settings.tv_loss, settings.wraps),
            }
            terms["total"] = sum(terms.values())
        return Evaluation(tape.gradient(terms["total"], picture), terms)

    return objective


def content_loss(ours: Features, photo: Features, settings: Settings) -> tf.Tensor:
    weights = settings.content_layer_weights()
    distances = {name: losses.distance(ours[name], photo[name]) for name in weights}
    return sum(
        weight * losses.content_loss(distances[name], settings.content_loss)
        for name, weight in weights.items()
    )


def style_loss(
    ours: Features, targets: list[dict[str, Any]], settings: Settings, pixels: int
) -> tf.Tensor:
    """targets: of each style, from `style_targets`."""
    weights, kind = settings.style_layer_weights(), settings.style_loss
    grams = {name: gram(ours[name], settings) for name in weights}
    total = tf.zeros(())
    for share, target in zip(settings.style_shares(len(targets)), targets, strict=True):
        units = dict.fromkeys(weights, 1.0)
        if settings.equalizes_styles:
            roots = {
                name: losses.loss_of_nothing(target[name], kind, pixels) ** 0.5 for name in weights
            }
            whole = sum(weight * roots[name] for name, weight in weights.items())
            units = {name: whole * root / STYLE_UNIT for name, root in roots.items()}
        total += share * sum(
            weight / units[name] * losses.style_loss(grams[name], target[name], kind, pixels)
            for name, weight in weights.items()
        )
    return total


def style_targets(painting: Features, settings: Settings) -> dict[str, Any]:
    """What the style loss compares with, by layer name."""
    return {
        name: losses.style_target(gram(painting[name], settings), settings.style_loss)
        for name in settings.style_layer_weights()
    }


def gram(features: tf.Tensor, settings: Settings) -> Any:
    return losses.gram(features, with_sums=settings.style_loss in losses.WITH_SUMS)

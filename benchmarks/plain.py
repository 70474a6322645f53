"""The objective as one would write it down first: TensorFlow's own operations and GradientTape.

What is fast is held against this one, for its gradient (tests/network/test_backprop.py) and for
its time.
"""

import functools
from collections.abc import Callable

import tensorflow as tf

from neural_style_tf.network import operations, vgg
from neural_style_tf.objective import losses
from neural_style_tf.objective.evaluation import Evaluation
from neural_style_tf.settings import Settings

POOLINGS = {
    "max": lambda features: tf.nn.max_pool2d(features, 2, 2, "SAME"),
    "avg": lambda features: tf.nn.avg_pool2d(features, 2, 2, "SAME"),
    "l2": lambda features: tf.sqrt(tf.nn.avg_pool2d(features**2, 2, 2, "SAME") + 1e-12),
}


def features(
    network: vgg.Network, image: tf.Tensor, wanted: list[str], settings: Settings
) -> dict[str, tf.Tensor]:
    """Features of a picture [1, H, W, 3] RGB by layer name."""
    by_layer, current = {}, image - network.mean_pixel
    scales = operations.POOLING_SCALES if settings.pooling_rescale else {}
    rescale = scales.get(settings.pooling, 1.0)
    for layer in network.layers:
        if layer.kind == "conv":
            edge = "SAME"
            if not by_layer and settings.padding == "replicate":
                current = tf.pad(current, [[0, 0], [1, 1], [1, 1], [0, 0]], "SYMMETRIC")
                edge = "VALID"
            current = tf.nn.bias_add(tf.nn.conv2d(current, layer.kernel, 1, edge), layer.bias)
        elif layer.kind == "relu":
            current = tf.nn.relu(current)
        else:
            current = POOLINGS[settings.pooling](current) * rescale
        by_layer[layer.name] = current
        if set(wanted) <= set(by_layer):
            return by_layer
    raise ValueError(f"the network lacks some of {wanted}")


def make_objective(
    network: vgg.Network, content: tf.Tensor, styles: list[tf.Tensor], settings: Settings
) -> Callable[[tf.Tensor], Evaluation]:
    """`picture -> Evaluation`, for pictures [1, H, W, 3] RGB: Gatys et al. 2016 eq. 7 with total
    variation."""
    content_weights, style_weights = (
        settings.content_layer_weights(),
        settings.style_layer_weights(),
    )
    wanted = [*content_weights, *style_weights]
    of_content = features(network, content, wanted, settings)
    of_styles = [features(network, style, wanted, settings) for style in styles]
    gram = functools.partial(losses.gram, with_sums=settings.style_loss in losses.WITH_SUMS)
    grams = [
        {
            name: losses.style_target(gram(by_layer[name]), settings.style_loss)
            for name in style_weights
        }
        for by_layer in of_styles
    ]
    shares = settings.style_shares(len(styles))

    @tf.function
    def objective(picture: tf.Tensor) -> Evaluation:
        with tf.GradientTape() as tape:
            tape.watch(picture)
            by_layer = features(network, picture, wanted, settings)
            pixels = picture.shape[1] * picture.shape[2]
            content = sum(
                weight
                * losses.content_loss(
                    losses.distance(by_layer[name], of_content[name]), settings.content_loss
                )
                for name, weight in content_weights.items()
            )
            ours = {name: gram(by_layer[name]) for name in style_weights}
            style = sum(
                share
                * weight
                * losses.style_loss(ours[name], target[name], settings.style_loss, pixels)
                for share, target in zip(shares, grams, strict=True)
                for name, weight in style_weights.items()
            )
            terms = {
                "content": settings.content_weight * content,
                "style": settings.weight_of_style() * style,
                "tv": settings.tv_weight * losses.total_variation(picture, settings.tv_loss),
            }
            terms["total"] = sum(terms.values())
        return Evaluation(tape.gradient(terms["total"], picture), terms)

    return objective

"""Products: features -> the sums over their positions, of each channel and of every two.

On a GPU they may be left as those of blocks of positions, in the type of the features: `summed`
adds these up where a compiled function takes them anyway.
"""

import tensorflow as tf

from neural_style_tf.network import device

# Low precision is summed by blocks, in float32: TensorFlow rounds each product to the type of its
# factors. Divided by the channels: 32 blocks for 64 channels on a CPU. A GPU has a tile for each
# block, and 128 of them; the rounding of more blocks averages out better.
LOW_PRECISION_BLOCKS = 2048
LOW_PRECISION_BLOCKS_ON_GPU = 8192
SUM_BLOCKS = 64


def of(positions: tf.Tensor, in_blocks: bool = False) -> tf.Tensor:
    """F^T F [channels, channels] float32 of features F [positions, channels]. in_blocks: whether it
    may be that of blocks, [blocks, channels, channels]."""
    count, channels = positions.shape
    if not device.is_gpu() and positions.dtype == tf.bfloat16:
        blocks = min(count, LOW_PRECISION_BLOCKS // channels)
        positions = tf.pad(positions, [[0, -count % blocks], [0, 0]])
        return summed(_products_of_blocks(positions, blocks))
    if not device.is_gpu():
        return tf.matmul(positions, positions, transpose_a=True)
    blocks = max(1, min(LOW_PRECISION_BLOCKS_ON_GPU // channels, count // channels))
    whole = count - count % blocks
    products = _products_of_blocks(positions[:whole], blocks)
    if whole == count:
        return products if in_blocks else summed(products)
    rest = tf.cast(positions[whole:], tf.float32)
    return summed(products) + tf.matmul(rest, rest, transpose_a=True)


def _products_of_blocks(positions: tf.Tensor, blocks: int) -> tf.Tensor:
    """[blocks, channels, channels]."""
    positions = tf.reshape(positions, (blocks, -1, positions.shape[-1]))
    return tf.matmul(positions, positions, transpose_a=True)


def summed(blocks: tf.Tensor) -> tf.Tensor:
    """The sum over the first axis, in float32."""
    return tf.reduce_sum(tf.cast(blocks, tf.float32), 0)


def sums(features: tf.Tensor, in_blocks: bool = False) -> tf.Tensor:
    """The sums over positions [channels] float32 of features [1, h, w, channels]. in_blocks:
    whether they may be those of blocks, [blocks, channels]."""
    channels = features.shape[-1]
    if not device.is_gpu() or features.dtype == tf.float16:
        return tf.reduce_sum(tf.cast(features, tf.float32), (0, 1, 2))
    # a product with ones reads the features once, in their type, and adds in float32
    positions = tf.reshape(features, (-1, channels))
    count = positions.shape[0]
    blocks = min(SUM_BLOCKS, count)
    whole = count - count % blocks
    ones = tf.ones((8, whole // blocks), features.dtype)  # the least rows of a fast product
    total = tf.matmul(ones, tf.reshape(positions[:whole], (-1, blocks * channels)))
    total = tf.reshape(total[0], (blocks, channels))
    if whole == count:
        return total if in_blocks else summed(total)
    return summed(total) + summed(positions[whole:])

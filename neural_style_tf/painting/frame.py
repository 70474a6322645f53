"""The frame: what of the picture is painted, and in which colours it may be.

Where a content mask says so, parts of the photo stay in the picture. Where photo and paintings are
grey, it stays grey.
"""

import numpy as np
import tensorflow as tf


class Frame:
    """Combines what is painted with the photo around it; without a mask all of it is painted.

    The network sees the picture with the photo in place, so that the painting continues up to its
    edge. What is painted behind the photo is not visible and has no gradient; nor has colour beyond
    its limit.
    """

    def __init__(
        self,
        photo: np.ndarray | None = None,
        mask: np.ndarray | None = None,
        limit: np.ndarray | None = None,
    ):
        """photo: [1, H, W, 3] float32 RGB, 0..255. mask: [1, H, W, 1], 1 where it is painted.
        limit: [1, H, W, 1] or [1, 1, 1, 1], grey levels that a channel may be from the mean of its
        pixel's; None for any number."""
        self._mask = None if mask is None else tf.constant(mask)
        self._behind = None if mask is None else tf.constant((1 - mask) * photo)
        self._limit = None if limit is None else tf.constant(limit)

    def picture(self, painted: tf.Tensor) -> tf.Tensor:
        """The visible picture, for a painted one [1, H, W, 3]."""
        painted = self.limited(painted)
        return painted if self._mask is None else self._mask * painted + self._behind

    def limited(self, painted: tf.Tensor) -> tf.Tensor:
        """The painted picture with its colours within their limit."""
        return painted if self._limit is None else _limited(painted, self._limit)

    def gradient(self, visible: tf.Tensor, painted: tf.Tensor) -> tf.Tensor:
        """The gradient with respect to the painted picture, from that of the visible one."""
        if self._mask is not None:
            visible = self._mask * visible
        return visible if self._limit is None else _gradient(visible, painted, self._limit)


@tf.function(autograph=False)
def _limited(picture: tf.Tensor, limit: tf.Tensor) -> tf.Tensor:
    """The picture with paler colours where they are beyond the limit."""
    grey = tf.reduce_mean(picture, -1, keepdims=True)
    color = picture - grey
    most = tf.reduce_max(tf.abs(color), -1, keepdims=True)
    return grey + color * tf.minimum(limit / tf.maximum(most, 1e-6), 1.0)


@tf.function(autograph=False)
def _gradient(gradient: tf.Tensor, picture: tf.Tensor, limit: tf.Tensor) -> tf.Tensor:
    """That of `_limited` at a picture, from that of its result."""
    with tf.GradientTape() as tape:
        tape.watch(picture)
        result = _limited(picture, limit)
    return tape.gradient(result, picture, output_gradients=gradient)


NO_FRAME = Frame()

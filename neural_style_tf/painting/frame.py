"""The frame: the parts of the photo that stay in the picture, where a content mask says so."""

import numpy as np
import tensorflow as tf


class Frame:
    """Combines what is painted with the photo around it; without a mask all of it is painted.

    The network sees the picture with the photo in place, so that the painting continues up to its
    edge. What is painted behind the photo is not visible and has no gradient.
    """

    def __init__(self, photo: np.ndarray | None = None, mask: np.ndarray | None = None):
        """photo: [1, H, W, 3] float32 RGB, 0..255. mask: [1, H, W, 1], 1 where it is painted."""
        self._mask = None if mask is None else tf.constant(mask)
        self._behind = None if mask is None else tf.constant((1 - mask) * photo)

    def picture(self, painted: tf.Tensor) -> tf.Tensor:
        """The visible picture, for a painted one [1, H, W, 3]."""
        return painted if self._mask is None else self._mask * painted + self._behind

    def gradient(self, visible: tf.Tensor) -> tf.Tensor:
        """The gradient with respect to the painted picture, from that of the visible one."""
        return visible if self._mask is None else self._mask * visible


NO_FRAME = Frame()

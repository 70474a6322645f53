"""TensorBoard: a run's losses, pictures and settings -> TensorBoard's files."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from neural_style_tf.errors import UserError
from neural_style_tf.painting.step import Step
from neural_style_tf.pictures import files


class TensorBoardLog:
    """One run in a folder, which `tensorboard --logdir FOLDER` shows."""

    def __init__(self, folder: str, description: Mapping[str, Any]):
        """Raises `UserError` for a folder that cannot be written to, as `see` and `add_picture` do;
        once, and then they do nothing."""
        self._folder, self._is_broken, self._last = folder, False, 0
        self._try(lambda: self._begin(json.dumps(description, indent=2)))

    def see(self, step: Step) -> None:
        """Takes the losses of a step in."""
        self._try(lambda: self._add_losses(step))

    def add_picture(self, iteration: int, image: np.ndarray) -> None:
        """Takes a picture in, [H, W, 3] float32 RGB, 0..255."""
        self._try(lambda: self._add_picture(iteration, image))

    def _begin(self, settings: str) -> None:
        self._writer = tf.summary.create_file_writer(self._folder)
        with self._writer.as_default(step=0):
            tf.summary.text("settings", f"```\n{settings}\n```")

    def _add_losses(self, step: Step) -> None:
        self._last = self._last + 1 if step.iteration is None else step.iteration
        with self._writer.as_default(step=self._last):
            for name, loss in step.losses().items():
                tf.summary.scalar(f"loss/{name}", loss)
        if step.iteration is None:
            self._writer.flush()

    def _add_picture(self, iteration: int, image: np.ndarray) -> None:
        with self._writer.as_default(step=iteration):
            tf.summary.image("picture", np.clip(image, 0, 255)[np.newaxis] / 255)

    def _try(self, write: Callable[[], None]) -> None:
        if self._is_broken:
            return
        try:
            write()
        except (tf.errors.OpError, OSError) as error:
            self._is_broken = True
            raise UserError(
                f"cannot write to the folder {self._folder} ({files.reason(error)}): give another"
            ) from error

"""Logs: a run's losses, pictures and settings -> TensorBoard's files."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

import files
from settings import UserError

if TYPE_CHECKING:
    from stylize import Step


class Logs:
    """One run in a folder, which TensorBoard shows: `tensorboard --logdir FOLDER`."""

    def __init__(self, folder: str, description: Mapping[str, Any]):
        """Raises `UserError` for a folder that cannot be written to."""
        try:
            self._writer = tf.summary.create_file_writer(folder)
        except tf.errors.OpError as error:
            raise UserError(
                f"cannot write to the folder {folder} ({files.reason(error)}): give another"
            ) from error
        settings = json.dumps(description, indent=2)
        with self._writer.as_default(step=0):
            tf.summary.text("settings", f"```\n{settings}\n```")

    def see(self, step: "Step") -> None:
        """Takes the losses of a step in."""
        with self._writer.as_default(step=step.total if step.iteration is None else step.iteration):
            for name, loss in step.losses().items():
                tf.summary.scalar(f"loss/{name}", loss)
        if step.iteration is None:
            self._writer.flush()

    def add_picture(self, iteration: int, image: np.ndarray) -> None:
        """Takes a picture in, [H, W, 3] float32 RGB, 0..255."""
        with self._writer.as_default(step=iteration):
            tf.summary.image("picture", np.clip(image, 0, 255)[np.newaxis] / 255)

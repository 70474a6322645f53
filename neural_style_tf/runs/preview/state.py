"""State of the preview page: steps and pictures of a run -> what the page shows now.

No network. The run calls it on its own thread and the server on another; neither waits for the
other longer than a moment, and least of all while a picture is encoded.
"""

import functools
import io
import json
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from neural_style_tf.painting.stages import Stage
from neural_style_tf.painting.step import LOSSES, Step
from neural_style_tf.pictures import reading, writing
from neural_style_tf.runs.progress import seconds_remaining

TIME_SHARE = 0.02  # of the run's time that its pictures may cost
PICTURE_EVERY_SECONDS = 1.0  # at most this often
LOSSES_EVERY_SECONDS = 0.25  # reading them waits for the device
MOST_POINTS = 400  # of the curves; when there are more, every other one is dropped
LONGEST_SIDE = 2048  # pixels, of a picture on the page
CHECKPOINTS_CACHED = 16  # encoded for the page


class PageState:
    """What the page of a run shows, and which of its buttons were pressed.

    on_change: called after every change, on the thread that made it.
    """

    def __init__(self, on_change: Callable[[], None] = lambda: None):
        self.on_change = on_change
        self._plan: list[Stage] = []
        self._photo = self._picture = b""  # JPEG files
        self._newest: np.ndarray | None = None  # not yet encoded
        self._version = 0  # of the picture
        self._state: dict[str, Any] = {"status": "starting", "message": "starting", "closed": False}
        self._curves: list[list[float | None]] = []
        self._losses_read, self._point_every = 0, 1  # of the losses that are read
        self._checkpoints: list[tuple[int, str]] = []
        self.viewers = 0  # pages that are open
        self._losses_time = self._picture_time = -np.inf  # when they were last asked for
        self._picture_cost = 0.0  # seconds, of the last one
        self._lock = threading.Lock()  # held for moments only: the run waits for it
        self._encoding = threading.Lock()  # held while a picture is encoded
        self._checkpoint_file = functools.lru_cache(CHECKPOINTS_CACHED)(_checkpoint_jpeg)
        self.changes = 0
        self._message = -1, ""  # the last message, and the number of changes it was made after
        self._stopping, self._saving, self._closing = (threading.Event() for _ in range(3))

    # What the run calls

    def begin(
        self,
        photo: np.ndarray,
        plan: list[Stage],
        stop: Callable[[], None],
        as_saved: Callable[[np.ndarray], np.ndarray],
    ) -> None:
        """Shows the photo, [H, W, 3] RGB 0..255, until there is a picture. stop: asks the run to
        stop; called on another thread. as_saved: a picture -> what its file would show."""
        self._plan, self._photo = plan, _jpeg(as_saved(photo))
        self._stop, self._as_saved = stop, as_saved
        self._publish(status="running", message="", width=photo.shape[1], height=photo.shape[0])

    def see(self, step: Step) -> None:
        """Takes a step in. Fetches its picture only while somebody is looking."""
        now = time.monotonic()
        if step.iteration is not None and now - self._losses_time >= LOSSES_EVERY_SECONDS:
            self._losses_time = now
            self._take_losses(step, step.iteration + 1)
        pause = max(PICTURE_EVERY_SECONDS, self._picture_cost / TIME_SHARE)
        if self.viewers and now - self._picture_time >= pause:
            began = time.perf_counter()
            self.show(self._as_saved(step.image()))
            self._picture_cost = time.perf_counter() - began

    def show(self, picture: np.ndarray) -> None:
        """Shows a picture, [H, W, 3] RGB 0..255, now."""
        with self._lock:
            self._newest = picture
        self._picture_time = time.monotonic()
        self._version += 1
        self._publish(width=picture.shape[1], height=picture.shape[0])

    def add_checkpoint(self, iteration: int, path: str) -> None:
        """Offers a checkpoint's file in the slider."""
        self._checkpoints.append((iteration, path))
        self._publish()

    def save_is_asked_for(self) -> bool:
        """Whether the button was pressed since the last call."""
        asked = self._saving.is_set()
        self._saving.clear()
        return asked

    def tell(self, message: str, status: str = "running") -> None:
        """Shows a line. status: running; done or failed once the run is over."""
        self._publish(message=message, status=status)

    @property
    def has_stopped_the_run(self) -> bool:
        return self._stopping.is_set()

    # What the server calls

    @property
    def photo(self) -> bytes:
        """The photo, as a JPEG file."""
        return self._photo

    @property
    def is_closed(self) -> bool:
        """Whether the server is about to end, as the page shows."""
        return self._state["closed"]

    def message(self) -> tuple[int, str]:
        """The number of changes so far, and all that the page shows after them, as JSON; made once
        for all viewers."""
        with self._lock:
            changes, state = self.changes, self._state
        if self._message[0] != changes:
            message = state | {
                "version": self._version,
                "checkpoints": [iteration for iteration, _ in self._checkpoints],
                "curves": list(self._curves),
            }
            self._message = changes, json.dumps(message)
        return self._message

    def newest_file(self) -> bytes:
        """The newest picture as a JPEG file, encoded when the first viewer asks for it."""
        with self._encoding:
            with self._lock:
                picture, self._newest = self._newest, None
            if picture is not None:
                self._picture = _jpeg(picture)
            return self._picture or self._photo

    def checkpoint_path(self, number: int) -> str | None:
        """The file of a checkpoint, from 0; None for an unknown number."""
        return self._checkpoints[number][1] if number < len(self._checkpoints) else None

    def checkpoint_file(self, path: str) -> bytes:
        """A checkpoint's file as a JPEG. Raises anything for a file that others have changed."""
        with self._encoding:
            return self._checkpoint_file(path, os.stat(path).st_mtime_ns)

    def viewer_comes(self) -> None:
        self.viewers += 1
        self._picture_time = -np.inf  # a picture for them, soon

    def viewer_leaves(self) -> None:
        self.viewers -= 1

    def press_stop(self) -> None:
        if self._state["status"] == "running":
            self._stopping.set()
            self._stop()

    def press_save(self) -> None:
        self._saving.set()

    def press_close(self) -> None:
        self._closing.set()

    def _take_losses(self, step: Step, done: int) -> None:
        losses = {name: _rounded(loss) for name, loss in step.losses().items()}
        if self._losses_read % self._point_every == 0:
            self._curves.append([done, *(losses[name] for name in LOSSES)])
        self._losses_read += 1
        if len(self._curves) >= MOST_POINTS:
            self._curves = self._curves[::2]
            self._point_every *= 2
        self._publish(
            iteration=done,
            total=step.total,
            stage=f"{step.stage.number} of {step.stage.count}",
            size=f"{step.stage.width}x{step.stage.height}",
            seconds=step.seconds,
            remaining=seconds_remaining(self._plan, done, step.seconds),
            losses=losses,
        )

    def _publish(self, **changes: Any) -> None:
        """Changes what the page shows."""
        with self._lock:
            self._state = self._state | changes
            self.changes += 1
        self.on_change()


def _rounded(loss: float) -> float | None:
    """To four digits; None if it is not finite, which JSON cannot write."""
    return float(f"{loss:.4g}") if np.isfinite(loss) else None


def _jpeg(picture: np.ndarray) -> bytes:
    """A picture [H, W, 3] RGB 0..255 as a JPEG file of at most `LONGEST_SIDE`."""
    image = Image.fromarray(writing.to_bytes(picture))
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue()


def _checkpoint_jpeg(path: str, _: int) -> bytes:
    """A picture's file, last changed at a time, as a JPEG of at most `LONGEST_SIDE`."""
    return _jpeg(reading.read(path).pixels)

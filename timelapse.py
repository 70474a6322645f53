"""Timelapse: the checkpoints of a run -> a film of it, through imageio."""

import io
from collections.abc import Iterator
from pathlib import Path

import imageio.v2 as imageio
import imageio.v3 as iio
import numpy as np

import files
import images
from settings import UsageError, UserError, nearest

FORMATS = (".mp4", ".gif", ".webp")
FRAMES_PER_SECOND = 10
HELD_SECONDS = 2  # the last frame
LONGEST_SIDE = 1080  # pixels


class Timelapse:
    """Frames of one size, kept as PNG files in memory until `save`."""

    @staticmethod
    def check(path: str) -> None:
        """Raises `UserError` for an ending without a film format, or one that lacks its package."""
        suffix = Path(path).suffix.lower()
        if suffix not in FORMATS:
            raise UsageError(
                f"--timelapse {path} has no known ending{nearest(suffix, list(FORMATS))}: "
                f"end it in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
            )
        if suffix != ".mp4":
            return
        try:
            import imageio_ffmpeg

            imageio_ffmpeg.get_ffmpeg_exe()
        except (ImportError, RuntimeError):
            told = "a .mp4 needs imageio-ffmpeg: pip install -r requirements-video.txt"
            raise UserError(told) from None

    def __init__(self, path: str, height: int, width: int):
        """height, width: of the result; frames are as large, up to `LONGEST_SIDE`."""
        scale = min(1.0, LONGEST_SIDE / max(height, width))
        # a multiple of two: the usual video formats halve the sides of their colours
        self._size = tuple(max(2, round(scale * side / 2) * 2) for side in (height, width))
        self._path = path
        self._frames: list[bytes] = []

    def add(self, image: np.ndarray) -> None:
        """Takes one more frame, [H, W, 3] float RGB, 0..255, of any size."""
        frame = images.to_bytes(images.resize(image, *self._size))
        self._frames.append(iio.imwrite("<bytes>", frame, extension=".png", compress_level=1))

    def save(self) -> None:
        """Writes the film. Raises `UserError` if that cannot be."""
        suffix = Path(self._path).suffix.lower()
        data = self._as_mp4() if suffix == ".mp4" else self._as_animation(suffix)
        files.write(self._path, data)

    def _each(self) -> Iterator[np.ndarray]:
        for frame in self._frames:
            yield iio.imread(frame, extension=".png")

    def _as_animation(self, suffix: str) -> bytes:
        held = 1000 * HELD_SECONDS
        milliseconds = [1000 // FRAMES_PER_SECOND] * (len(self._frames) - 1) + [held]
        options = {"quality": 90} if suffix == ".webp" else {}
        return iio.imwrite(
            "<bytes>",
            list(self._each()),
            plugin="pillow",
            extension=suffix,
            duration=milliseconds if len(self._frames) > 1 else held,
            loop=0,
            **options,
        )

    def _as_mp4(self) -> bytes:
        film = io.BytesIO()
        with imageio.get_writer(
            film, format="mp4", fps=FRAMES_PER_SECOND, quality=8, macro_block_size=2
        ) as writer:
            for frame in self._each():
                last = frame
                writer.append_data(frame)
            for _ in range(FRAMES_PER_SECOND * HELD_SECONDS - 1):
                writer.append_data(last)
        return film.getvalue()

"""Timelapse: the checkpoints of a run -> a film of it, through Pillow or ffmpeg."""

import contextlib
import itertools
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, BinaryIO

import imageio.v3 as iio
import numpy as np
from PIL import Image

from neural_style_tf.errors import SettingName, UsageError, UserError, nearest
from neural_style_tf.machine.streams import LOGGER
from neural_style_tf.pictures import files, places, resampling, writing

FORMATS = (".mp4", ".gif", ".webp")
FRAMES_PER_SECOND = 10
HELD_SECONDS = 2  # the last frame
LONGEST_SIDE = 1080  # pixels
ROOM_FOR_FRAMES = 60  # times the first, for a file to begin with
BYTES_HELD = 500_000_000  # of memory, by the frames of an animation while it is written
BYTES_PER_PIXEL = {".gif": 2, ".webp": 5}  # measured: 1.4 and 4.7 MB for each frame of 1080x1080


class Timelapse:
    """Frames of one size, kept in a temporary file until `save`."""

    @staticmethod
    def check(path: str) -> None:
        """Raises `UserError` for a file name that ends in no film format, or whose format needs a
        package that is missing."""
        suffix = Path(path).suffix.lower()
        if suffix not in FORMATS:
            raise UsageError(
                SettingName("timelapse"),
                f" {path} has no known ending{nearest(suffix, list(FORMATS))}: "
                f"end it in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}",
            )
        if suffix != ".mp4":
            return
        try:
            import imageio_ffmpeg

            imageio_ffmpeg.get_ffmpeg_exe()
        except (ImportError, RuntimeError):
            raise UserError(
                "a .mp4 needs imageio-ffmpeg: pip install 'neural-style-tf[video]'"
            ) from None

    def __init__(self, path: files.StrPath, height: int, width: int):
        """height, width: of the result; frames are as large, up to `LONGEST_SIDE`."""
        scale = min(1.0, LONGEST_SIDE / max(height, width))
        # a multiple of two: the usual video formats halve the sides of their colours
        self._size = tuple(max(2, round(scale * side / 2) * 2) for side in (height, width))
        self._path = path
        self._frames: IO[bytes] | None = None  # one PNG file after the other
        self._lengths: list[int] = []  # of each, in bytes

    def add(self, image: np.ndarray) -> None:
        """Adds a frame, [H, W, 3] float RGB, 0..255, of any size. Raises `UserError` if
        its folder is full."""
        frame = writing.to_bytes(resampling.resize(image, *self._size))
        data = iio.imwrite("<bytes>", frame, extension=".png", compress_level=1)
        try:
            if self._frames is None:
                self._frames = places.temporary_file(ROOM_FOR_FRAMES * len(data))
            self._frames.seek(sum(self._lengths))
            self._frames.write(data)
            self._frames.flush()
        except OSError as error:
            raise self._has_no_room(error) from error
        self._lengths.append(len(data))

    def save(self) -> None:
        """Writes the film, frame by frame. Raises `UserError`."""
        suffix = Path(self._path).suffix.lower()
        write = self._write_mp4 if suffix == ".mp4" else self._write_animation
        with files.writing(self._path) as film:
            write(film)

    def _each(self, every: int = 1) -> Iterator[np.ndarray]:
        """The frames, [H, W, 3] 8-bit RGB; or every second and so on, and always the last."""
        ends = list(itertools.accumulate(self._lengths))
        for number, (end, length) in enumerate(zip(ends, self._lengths, strict=True), 1):
            if self._frames is None or (len(ends) - number) % every:
                continue
            try:
                self._frames.seek(end - length)
                data = self._frames.read(length)
            except OSError as error:
                raise self._has_no_room(error) from error
            yield iio.imread(data, extension=".png")

    def _has_no_room(self, error: OSError) -> UserError:
        return UserError(
            f"cannot keep the frames of {self._path} in {places.temporary_folder()} "
            f"({files.reason(error)}): make room there, or name another folder in TMPDIR"
        )

    def _write_animation(self, film: BinaryIO) -> None:
        """Pillow holds all frames until it has the last, so their number is limited."""
        suffix, held = Path(self._path).suffix.lower(), 1000 * HELD_SECONDS
        most = max(2, BYTES_HELD // (BYTES_PER_PIXEL[suffix] * math.prod(self._size)))
        every = math.ceil(len(self._lengths) / most)
        if every > 1:
            LOGGER.warning(
                "%s shows one checkpoint in %d, or it would take too much memory: "
                "a .mp4 has room for all",
                self._path,
                every,
            )
        count = math.ceil(len(self._lengths) / every)
        milliseconds = [every * 1000 // FRAMES_PER_SECOND] * (count - 1) + [held]
        options = {"quality": 90} if suffix == ".webp" else {}
        pictures = (Image.fromarray(frame) for frame in self._each(every))
        next(pictures).save(
            film,
            format=suffix[1:].upper(),
            save_all=True,
            append_images=pictures,
            duration=milliseconds if count > 1 else held,
            loop=0,
            **options,
        )

    def _write_mp4(self, film: BinaryIO) -> None:
        import imageio_ffmpeg

        height, width = self._size
        frames = imageio_ffmpeg.write_frames(
            os.fspath(film.name),
            (width, height),
            fps=FRAMES_PER_SECOND,
            quality=8,
            macro_block_size=2,
            output_params=["-f", "mp4"],  # the name of an unfinished file does not say so
        )
        with contextlib.closing(frames):
            frames.send(None)
            for frame in self._each():
                last = np.ascontiguousarray(frame)
                frames.send(last)
            for _ in range(FRAMES_PER_SECOND * HELD_SECONDS - 1):
                frames.send(last)

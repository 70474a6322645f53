"""Frames: of a file with several pictures the first is used, and a line says so."""

import numpy as np
import pytest
from PIL import Image, features
from samples import error_of, noise, picture, pixels_of, stacked, write

from neural_style_tf.machine import streams
from neural_style_tf.pictures import deep_files, reading

ENDINGS = [".gif", ".png", ".webp", *([".avif"] if features.check("avif") else [])]


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch):
    monkeypatch.setattr(streams, "_said", set())


def several(path, **options):
    """Grey, so that it may be a mask, too."""
    first, *more = (
        Image.fromarray(samples).convert("L").convert("RGB")
        for samples in (picture(), noise(seed=1), noise(seed=2))
    )
    return write(path, first, save_all=True, append_images=more, **options)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("read", [reading.read, reading.read_mask])
def test_a_line_says_that_only_the_first_frame_is_used(tmp_path, caplog, ending, read):
    path = several(tmp_path / f"moving{ending}", duration=100)
    for _ in range(2):
        read(path)
    assert caplog.messages == [f"{path} has several frames: only the first is used"]
    assert caplog.records[0].name == "neural_style_tf"


def test_a_line_says_that_only_the_first_page_is_used(tmp_path, caplog):
    path = several(tmp_path / "scan.tif")
    grey = np.asarray(Image.fromarray(picture()).convert("L"))
    np.testing.assert_array_equal(pixels_of(path), stacked(grey))
    assert caplog.messages == [f"{path} has several pages: only the first is used"]


def test_a_thumbnail_is_not_a_page(tmp_path, caplog):
    path = tmp_path / "photo.tif"
    thumbnail = Image.fromarray(picture()).resize((8, 6))
    thumbnail.encoderinfo = {"tiffinfo": {254: 1}}
    write(path, picture(), save_all=True, append_images=[thumbnail])
    with Image.open(path) as image:
        image.seek(1)
        assert image.tag_v2.get(254) == 1
    pixels_of(path)
    assert caplog.messages == []


@pytest.mark.parametrize("ending", [*ENDINGS, ".tif", ".jpg", ".bmp"])
def test_of_one_picture_nothing_is_said(tmp_path, caplog, ending):
    reading.read(write(tmp_path / f"still{ending}", picture()))
    assert caplog.messages == []


def test_a_broken_second_frame_does_not_matter(tmp_path, caplog):
    path = several(tmp_path / "moving.gif", duration=100)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    reading.read(path)
    assert caplog.messages == [f"{path} has several frames: only the first is used"]


RAW = {
    "DNG": {50_706: b"\1\4\0\0", 254: 1},
    "NEF and ARW": {254: 1, 330: 8, 271: "NIKON CORPORATION"},
}


@pytest.mark.parametrize("tags", RAW.values(), ids=RAW)
def test_a_cameras_raw_file_is_refused_rather_than_its_preview_read(tmp_path, tags):
    path = tmp_path / "photo.dng"
    path.write_bytes(deep_files.tiff(picture(), tags))
    message = f"{path} is a camera's raw file: develop it, and save it as TIFF, PNG or JPEG"
    assert error_of(reading.read, path) == error_of(reading.size, path) == message


def test_canons_raw_file_is_refused(tmp_path):
    path = tmp_path / "photo.cr2"
    data = deep_files.tiff(picture(), {271: "Canon"})
    path.write_bytes(data[:8] + b"CR\2\0" + data[12:])
    assert "is a camera's raw file" in error_of(reading.read, path)

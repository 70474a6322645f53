"""Writing: a picture file is written whole or not at all, and one input gives one file."""

import contextlib
import errno
import io
import os
import stat
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageCms, JpegImagePlugin
from samples import (
    ENDINGS,
    HEIGHT,
    METADATA,
    WIDTH,
    error_of,
    noise,
    picture,
    pixels_of,
    rgba_picture,
    stacked,
    write,
)
from shared import ROOT

from neural_style_tf.errors import UsageError
from neural_style_tf.pictures import files, metadata, profiles, reading, writing


@pytest.mark.parametrize("ending", [*ENDINGS, ".JPG", ".Png"])
def test_known_endings_pass(tmp_path, ending):
    writing.check_output(tmp_path / f"out{ending}")
    assert os.listdir(tmp_path) == []


def test_unknown_ending(tmp_path):
    known = "end it in .jpg, .jpeg, .png, .webp, .tif, .tiff or .bmp"
    expected = f"{tmp_path}/out.jgp has an unknown ending (did you mean .jpg?): {known}"
    assert error_of(writing.check_output, tmp_path / "out.jgp", kind=UsageError) == expected
    assert error_of(writing.save, tmp_path / "out.jgp", picture(), kind=UsageError) == expected
    assert error_of(writing.check_output, tmp_path / "out.doc", kind=UsageError) == (
        f"{tmp_path}/out.doc has an unknown ending: {known}"
    )
    assert error_of(writing.check_output, tmp_path / "out", kind=UsageError) == (
        f"{tmp_path}/out has no ending that names a format: {known}"
    )


def test_output_is_a_folder(tmp_path):
    assert error_of(writing.check_output, tmp_path, overwrite=True) == (
        f"{tmp_path} is a folder: add a file name"
    )


def test_output_folder_is_missing(tmp_path):
    (tmp_path / "results").mkdir()
    assert error_of(writing.check_output, tmp_path / "result" / "out.png") == (
        f"no folder {tmp_path}/result for out.png (did you mean results?): create it"
    )


def test_output_exists(tmp_path):
    path = write(tmp_path / "out.png", picture())
    assert error_of(writing.check_output, path) == (
        f"{path} exists: choose another name, or overwrite to replace it"
    )
    writing.check_output(path, overwrite=True)
    np.testing.assert_array_equal(pixels_of(path), picture())


def test_output_folder_is_read_only(tmp_path, monkeypatch):
    @contextlib.contextmanager
    def refuse(*_):
        raise OSError(errno.EROFS, "Read-only file system")
        yield

    monkeypatch.setattr(files, "_temporary_beside", refuse)
    path = tmp_path / "out.png"
    assert error_of(writing.check_output, path) == (
        f"cannot write {path} (Read-only file system): choose another name or folder"
    )


def test_a_name_that_is_too_long(tmp_path):
    path = tmp_path / ("x" * 300 + ".png")
    assert error_of(writing.check_output, path) == (
        f"cannot write {path} (File name too long): choose another name or folder"
    )
    assert error_of(reading.read, path) == (
        f"cannot read {path} (File name too long): check the file"
    )
    assert os.listdir(tmp_path) == []


def test_output_in_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    writing.check_output("out.png")
    writing.save("out.png", picture())
    np.testing.assert_array_equal(pixels_of("out.png"), picture())


def test_output_size():
    writing.check_output_size("out.webp", 16_383, 16_383)
    writing.check_output_size("out.jpg", 65_500, 30)
    writing.check_output_size("out.png", 100_000, 30)
    assert error_of(writing.check_output_size, "out.webp", 30, 16_384, kind=UsageError) == (
        "out.webp would be 16384 wide and 30 high, but WebP holds at most 16383 a side: "
        "end the name in .png, or make the picture smaller"
    )
    assert error_of(writing.check_output_size, "out.JPEG", 65_501, 30, kind=UsageError) == (
        "out.JPEG would be 30 wide and 65501 high, but JPEG holds at most 65500 a side: "
        "end the name in .png, or make the picture smaller"
    )


@pytest.mark.parametrize("ending, longest", [(".jpg", 65_500), (".webp", 16_383)])
def test_the_longest_side_can_be_written(tmp_path, ending, longest):
    path = tmp_path / f"out{ending}"
    writing.save(path, np.zeros((2, longest, 3), np.float32))
    assert pixels_of(path).shape == (2, longest, 3)


BYTES = hnp.arrays(np.uint8, st.tuples(st.integers(1, 6), st.integers(1, 9), st.just(3)))


@hypothesis_settings(deadline=None, max_examples=50)
@given(BYTES)
def test_png_round_trip_is_lossless(tmp_path_factory, samples):
    path = tmp_path_factory.getbasetemp() / "round.png"
    writing.save(path, samples.astype(np.float32))
    np.testing.assert_array_equal(pixels_of(path), samples)


@pytest.mark.parametrize("ending", [".png", ".tif", ".tiff", ".bmp", ".TIFF"])
def test_lossless_formats_are_written_exactly(tmp_path, ending):
    path = tmp_path / f"out{ending}"
    writing.save(path, noise().astype(np.float32))
    np.testing.assert_array_equal(pixels_of(path), noise())


@pytest.mark.parametrize("ending", [".jpg", ".jpeg", ".webp"])
def test_lossy_formats_are_written_well(tmp_path, ending):
    path = tmp_path / f"out{ending}"
    writing.save(path, picture().astype(np.float32))
    assert np.abs(pixels_of(path) - picture()).mean() < 1.5


def test_values_are_rounded_and_clipped(tmp_path):
    row = np.float32([-5, 0.4, 0.6, 99.4, 99.6, 254.6, 300])
    writing.save(tmp_path / "out.png", stacked(row[np.newaxis]))
    pixels = pixels_of(tmp_path / "out.png")
    np.testing.assert_array_equal(pixels[0, :, 0], [0, 0, 1, 99, 100, 255, 255])


def test_jpeg_is_written_in_full_colour_resolution(tmp_path):
    writing.save(tmp_path / "out.jpg", picture())
    with Image.open(tmp_path / "out.jpg") as image:
        assert JpegImagePlugin.get_sampling(image) == 0  # 4:4:4


def test_noise_is_written_as_jpeg(tmp_path):
    # Large enough that the optimized file is longer than the buffer Pillow would have given it.
    writing.save(tmp_path / "out.jpg", noise(300, 400), metadata=METADATA)
    assert metadata.read(tmp_path / "out.jpg") == METADATA


@pytest.mark.parametrize("ending", [".png", ".tif", ".webp"])
def test_alpha_round_trip(tmp_path, ending):
    write(tmp_path / "soft.png", rgba_picture()[0])
    pixels, alpha = reading.read(tmp_path / "soft.png")
    path = tmp_path / f"out{ending}"
    writing.save(path, pixels, alpha)
    again = reading.read(path)
    np.testing.assert_allclose(again.alpha, alpha, atol=1e-6)
    if ending != ".webp":  # which is lossy
        np.testing.assert_allclose(again.pixels, pixels, atol=0.51)


@pytest.mark.parametrize("ending", [".jpg", ".bmp"])
def test_formats_without_alpha_show_it_over_white(tmp_path, ending):
    path = tmp_path / f"out{ending}"
    writing.save(path, np.full((HEIGHT, WIDTH, 3), 255.0), alpha=np.zeros((HEIGHT, WIDTH)))
    assert (pixels_of(path) == 255).all()


@pytest.mark.parametrize("ending", [".jpg", ".png", ".webp", ".tif"])
def test_the_profile_is_srgb_and_dateless(tmp_path, ending):
    writing.save(tmp_path / f"out{ending}", picture())
    with Image.open(tmp_path / f"out{ending}") as image:
        profile = image.info["icc_profile"]
    assert struct.unpack(">6H", profile[24:36]) == (2000, 1, 1, 0, 0, 0)
    name = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile)))
    assert "sRGB" in name


@pytest.mark.parametrize("ending", ENDINGS)
def test_one_input_is_one_file(tmp_path, ending):
    first, second = tmp_path / f"first{ending}", tmp_path / f"second{ending}"
    writing.save(first, picture(), metadata=METADATA)
    profiles.srgb_profile.cache_clear()
    writing.save(second, picture(), metadata=METADATA)
    assert first.read_bytes() == second.read_bytes()


def test_spaces_and_other_alphabets_in_paths(tmp_path):
    folder = tmp_path / "Meine Bilder, 絵"
    folder.mkdir()
    path = folder / "größte Welle №1.png"
    writing.check_output(path)
    writing.save(path, noise(), metadata=METADATA)
    np.testing.assert_array_equal(pixels_of(str(path)), noise())
    assert metadata.read(path) == METADATA
    assert os.listdir(folder) == [path.name]


def test_a_long_name_can_be_written(tmp_path):
    path = tmp_path / ("ü" * 120 + ".png")  # 244 of 255 bytes
    writing.check_output(path)
    writing.save(path, picture())
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch, failing):
    path = tmp_path / "out.png"
    path.write_bytes(b"the old picture")

    def fail(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, failing, fail)
    assert error_of(writing.save, path, picture()) == (
        f"cannot write {path} (No space left on device): make room there or choose another name"
    )
    assert path.read_bytes() == b"the old picture"
    assert os.listdir(tmp_path) == ["out.png"]


def test_an_interrupted_write_leaves_no_litter(tmp_path, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        writing.save(tmp_path / "out.png", picture())
    assert os.listdir(tmp_path) == []


def test_the_folder_vanished(tmp_path):
    path = tmp_path / "gone" / "out.png"
    assert error_of(writing.save, path, picture()) == (
        f"cannot write {path} (No such file or directory): make room there or choose another name"
    )


@pytest.mark.skipif(os.name != "posix", reason="POSIX modes")
@pytest.mark.parametrize("umask, mode", [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_new_file_follows_the_umask(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        writing.save(tmp_path / "out.png", picture())
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out.png").stat().st_mode) == mode


@pytest.mark.posix
@pytest.mark.skipif(os.name != "posix", reason="POSIX modes")
def test_an_old_file_keeps_its_mode(tmp_path):
    path = write(tmp_path / "out.png", noise())
    path.chmod(0o604)
    writing.save(path, picture())
    assert stat.S_IMODE(path.stat().st_mode) == 0o604
    np.testing.assert_array_equal(pixels_of(path), picture())


@pytest.mark.posix
@pytest.mark.parametrize("exists", [True, False])
def test_a_link_stays_a_link(tmp_path, exists):
    (tmp_path / "elsewhere").mkdir()
    target, link = tmp_path / "elsewhere" / "real.png", tmp_path / "out.png"
    if exists:
        write(target, noise())
    link.symlink_to(Path("elsewhere") / "real.png")
    writing.check_output(link, overwrite=exists)
    writing.save(link, picture())
    assert link.is_symlink() and not target.is_symlink()
    np.testing.assert_array_equal(pixels_of(target), picture())
    assert os.listdir(tmp_path / "elsewhere") == ["real.png"]


def test_importing_draws_in_no_colour_management_and_no_tensorflow():
    code = (
        "import sys, neural_style_tf.pictures.reading; "
        "print(*{'PIL.ImageCms', 'tensorflow', 'scipy'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (run.stdout.strip(), run.stderr) == ("", "")

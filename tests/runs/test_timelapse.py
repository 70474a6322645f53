"""Films of a run, and TensorBoard's files."""

import sys

import imageio.v3 as iio
import numpy as np
import pytest
from PIL import Image
from shared import error_of

from neural_style_tf.errors import UsageError, UserError
from neural_style_tf.runs import timelapse
from neural_style_tf.runs.timelapse import Timelapse


@pytest.mark.parametrize("ending", [".gif", ".webp"])
def test_a_film_has_frames_of_one_size_and_holds_the_last(tmp_path, ending):
    path = tmp_path / f"film{ending}"
    film = Timelapse(str(path), 61, 91)
    for level in (0.0, 100.0, 200.0):
        film.add(np.full((30, 45, 3), level))
    film.save()
    with Image.open(path) as image:
        assert image.size == (92, 60) and image.n_frames == 3
        for frame, level in enumerate((0, 100, 200)):
            image.seek(frame)
            assert np.abs(np.asarray(image.convert("RGB"), int) - level).max() < 6
            assert image.info["duration"] == (2000 if frame == 2 else 100)


def test_a_film_as_mp4(tmp_path):
    pytest.importorskip("imageio_ffmpeg")
    path = tmp_path / "film.mp4"
    film = Timelapse(str(path), 60, 90)
    for level in (0.0, 100.0, 200.0):
        film.add(np.full((60, 90, 3), level))
    film.save()
    frames = iio.imread(path, plugin="FFMPEG")
    assert frames.shape == (2 + 20, 60, 90, 3)
    np.testing.assert_allclose(frames.mean((1, 2, 3))[[0, 1, 2, -1]], [0, 100, 200, 200], atol=6)


def test_large_pictures_make_films_that_a_screen_shows(tmp_path):
    film = Timelapse(str(tmp_path / "film.gif"), 1200, 4800)
    film.add(np.zeros((12, 48, 3)))
    film.save()
    with Image.open(tmp_path / "film.gif") as image:
        assert image.size == (1080, 270)


@pytest.mark.parametrize("ending", [".gif", ".webp"])
def test_a_film_that_would_take_too_much_memory_shows_fewer_checkpoints(
    tmp_path, monkeypatch, caplog, ending
):
    held = 3 * timelapse.BYTES_PER_PIXEL[ending] * 60 * 92
    monkeypatch.setattr(timelapse, "BYTES_HELD", held)
    film = Timelapse(tmp_path / f"film{ending}", 61, 91)
    for level in range(0, 250, 50):
        film.add(np.full((30, 45, 3), float(level)))
    film.save()
    assert "shows one checkpoint in 2, or it would take too much memory" in caplog.text
    with Image.open(tmp_path / f"film{ending}") as image:
        assert image.n_frames == 3
        for frame, level in enumerate((0, 100, 200)):  # the last is among them
            image.seek(frame)
            assert np.abs(np.asarray(image.convert("RGB"), int) - level).max() < 6
            assert image.info["duration"] == (2000 if frame == 2 else 200)


def test_frames_without_room_are_told(tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("neural_style_tf.pictures.places.temporary_file", full)
    with pytest.raises(UserError, match=r"^cannot keep the frames of .*film.gif in .* \(No space"):
        Timelapse(tmp_path / "film.gif", 61, 91).add(np.zeros((30, 45, 3)))


def test_a_film_that_cannot_be_made_is_told(monkeypatch):
    with pytest.raises(UsageError, match=r"no known ending \(did you mean .gif\?\): end it in"):
        Timelapse.check("film.gifs")
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(UserError, match=r"pip install 'neural-style-tf\[video\]'"):
        Timelapse.check("film.mp4")


def test_a_run_is_filmed_with_its_stages(run, folder):
    options = ["--iterations", 9, "--scales", 2, "--checkpoint-iterations", 3]
    assert run(*options, "--timelapse", "film.gif").returncode == 0
    with Image.open(folder / "film.gif") as film:
        assert film.size == (44, 34) and film.n_frames == 4
        assert not list(folder.glob("*0*.png"))
    message = "film.gif exists: choose another name, or --overwrite to replace it"
    assert error_of(run(*options, "--timelapse", "film.gif", output="two.png"), 1) == message


def test_tensorboard_finds_losses_pictures_and_settings(run, folder):
    import tensorflow as tf

    options = ["--iterations", 4, "--checkpoint-iterations", 2, "--log-dir", "logs/one"]
    assert run(*options).returncode == 0
    (path,) = (folder / "logs" / "one").iterdir()
    logged = {}
    for event in tf.compat.v1.train.summary_iterator(str(path)):
        for value in event.summary.value:
            logged.setdefault(value.tag, []).append((event.step, value))
    for name in ("content", "style", "tv", "total"):
        assert [step for step, _ in logged[f"loss/{name}"]] == [0, 1, 2, 3, 4]
    assert [step for step, _ in logged["picture"]] == [0, 2]
    picture = logged["picture"][0][1].tensor.string_val[2]
    assert tf.io.decode_png(picture).shape == (34, 45, 3)
    assert b'"seed": 0' in logged["settings"][0][1].tensor.string_val[0]


def test_a_folder_that_cannot_be_logged_to_is_told_before_the_run(run, folder):
    (folder / "logs").write_text("")
    assert error_of(run("--log-dir", "logs", "--quiet"), 1).startswith(
        "cannot write to the folder logs ("
    )
    assert not (folder / "out.png").exists()


def test_a_log_that_breaks_is_told_once_and_costs_no_picture(tmp_path):
    from neural_style_tf.runs.tensorboard import TensorBoardLog

    def breaks(*_):
        raise OSError(28, "No space left on device")

    logs = TensorBoardLog(str(tmp_path), {})
    logs._add_picture = breaks
    with pytest.raises(UserError, match=r"cannot write to the folder .* \(No space left on device"):
        logs.add_picture(0, None)
    logs.add_picture(1, None)

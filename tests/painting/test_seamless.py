"""Pictures that tile, and textures without a photo."""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from shared import error_of, size_of
from variants import TWO_BLOCKS

from neural_style_tf import Settings, UsageError, paint_file
from neural_style_tf.commands import batch, neural_style
from neural_style_tf.errors import message_of
from neural_style_tf.painting import stages
from neural_style_tf.painting.descent import resized
from neural_style_tf.painting.stylize import stylize
from neural_style_tf.pictures import metadata, resampling, sizes


def wrapped(picture, times=3):
    return np.tile(picture, (times, times, 1))


def seam(picture):
    """The mean step from the last row to the first, and from the last column to the first, each
    divided by that between neighbours."""
    steps = [np.abs(np.roll(picture, -1, axis) - picture) for axis in (0, 1)]
    return [
        float(step.take(-1, axis).mean() / step.take(range(step.shape[axis] - 1), axis).mean())
        for axis, step in enumerate(steps)
    ]


QUICK = ["--style-layers", "relu1_1", "relu2_1", "--style-loss", "mean"]
QUICK += ["--optimizer", "adam", "--learning-rate-schedule", "constant"]


@pytest.fixture
def paint(folder, monkeypatch, capsys):
    """A function that runs the command line in `folder`, in this process. Returns status, stdout
    and stderr."""
    monkeypatch.chdir(folder)

    def run(*options, output="texture.png"):
        arguments = ["--styles", "painting.png", "--output", output, "--network", "network.mat"]
        status = neural_style.main([*arguments, *QUICK, *map(str, options)])
        printed = capsys.readouterr()
        return SimpleNamespace(returncode=status, stdout=printed.out, stderr=printed.err)

    return run


# Painting


@pytest.fixture(scope="module")
def rough(picture):
    """A painting with strokes of a few pixels."""
    noise = np.random.default_rng(5).normal(0, 60, (50, 70, 3))
    return np.clip(picture(50, 70, seed=1) + noise, 0, 255).astype(np.float32)


def test_the_step_across_the_seam_is_that_between_neighbours(network, rough):
    def ratios(padding, scales):
        options = {"texture": "64x48", "padding": padding, "scales": scales, "tv_weight": 5}
        options |= {"iterations": 20, "style_layers": TWO_BLOCKS["style_layers"]}
        return [
            seam(list(stylize(network, None, [rough], seed=seed, **options))[-1][1])
            for seed in range(4)
        ]

    assert abs(np.mean(ratios("wrap", scales=2)) - 1) < 0.1
    assert np.mean(ratios("replicate", scales="off")) > 1.3


def test_a_photo_tiles_before_it_is_painted(picture):
    slope = np.repeat(np.linspace(0, 255, 48, dtype=np.float32)[:, None], 64, 1)
    photo = 0.7 * picture(48, 64) + 0.3 * slope[..., None]
    assert max(seam(photo)) > 4
    tiling = resampling.tiling(photo.astype(np.float32))
    assert tiling.dtype == np.float32 and tiling.min() >= 0 and tiling.max() <= 255
    assert max(seam(tiling)) < 1.5
    # what tiles already is left as it is
    waves = 127 + 100 * np.cos(np.arange(48)[:, None] / 48 * 2 * np.pi) + np.zeros((48, 64))
    waves = np.stack([waves] * 3, -1).astype(np.float32)
    assert np.abs(resampling.tiling(waves) - waves).max() < 1


def test_a_painted_photo_tiles(network, picture):
    photo, options = picture(48, 64), {"padding": "wrap", "iterations": 3} | TWO_BLOCKS
    assert min(seam(photo)) > 2
    image = list(stylize(network, photo, [picture(seed=1)], **options))[-1][1]
    assert image.shape == photo.shape and max(seam(image)) < 2
    tiled = list(stylize(network, photo, [picture(seed=1)], tile=64, **options))[-1][1]
    np.testing.assert_array_equal(image, tiled)  # it fits in one


def test_a_run_in_tiles_is_the_same_run(network, picture):
    options = {"texture": "112x96", "padding": "wrap", "iterations": 3}
    options |= {"style_layers": TWO_BLOCKS["style_layers"]}
    whole, tiled = (
        list(stylize(network, None, [picture(seed=1)], tile=tile, **options))[-1][1]
        for tile in ("off", 64)
    )
    np.testing.assert_allclose(tiled, whole, atol=0.2)


# Sizes


def test_enlarging_wraps(picture):
    small = picture(32, 48)
    for size in ((64, 96), (80, 112)):
        expected = tf.image.resize(wrapped(small)[None], (3 * size[0], 3 * size[1]), "bicubic")
        expected = tf.clip_by_value(expected, 0, 255)[0, size[0] : -size[0], size[1] : -size[1]]
        enlarged = resized(tf.constant(small[None]), *size, wraps=True)[0]
        np.testing.assert_allclose(enlarged, expected, atol=0.01)
        for other in (size, (16, 32)):
            expected = resampling.resize(wrapped(small), 3 * other[0], 3 * other[1])
            expected = expected[other[0] : -other[0], other[1] : -other[1]]
            ours = resampling.resize(small, *other, wraps=True)
            np.testing.assert_allclose(ours, expected, atol=0.01)
    assert resampling.resize(small, 32, 48, wraps=True) is small


def test_all_stages_tile_and_none_has_a_bleed():
    settings = Settings(padding="wrap", scales=3)
    plan = stages.plan(336, 512, settings)
    assert [(stage.height, stage.width) for stage in plan] == [(80, 128), (160, 256), (336, 512)]
    assert [stage.outer_size for stage in plan] == [(80, 128), (160, 256), (336, 512)]
    assert stages.from_rows(stages.to_rows(plan), wraps=True) == plan


def test_what_the_settings_do_not_say_is_rounded_to_what_tiles():
    for options, expected in {
        (): (432, 640),
        (("size", 512),): (336, 512),
        (("height", 64),): (64, 96),
        (("width", 64), ("height", 128)): (128, 64),
    }.items():
        settings = Settings(padding="wrap", **dict(options))
        assert sizes.target_size(427, 640, settings) == expected


def test_sizes_that_do_not_tile_are_refused(paint, network, picture):
    wrap, message = (
        ("--padding", "wrap"),
        "--padding wrap needs multiples of 16, such as 496 or 512",
    )
    result = paint("--content", "photo.png", *wrap, "--size", 500)
    assert error_of(result, 2) == f"--size is 500: {message}"
    result = paint("--content", "photo.png", *wrap, "--width", 64, "--height", 500)
    assert error_of(result, 2) == f"--height is 500: {message}"
    with pytest.raises(UsageError) as raised:
        stylize(network, picture(40, 48), [picture()], padding="wrap")
    wanted = "--padding wrap needs multiples of 16, such as 32 or 48"
    assert message_of(raised.value) == f"--content is 48x40: {wanted}"


# The command line


def test_the_command_line_paints_what_tiles(paint, folder):
    options = ("--padding", "wrap", "--iterations", 2, "--content-layers", "relu2_1")
    result = paint("--content", "photo.png", *options, output="out.png")
    assert result.returncode == 0, result.stderr
    assert result.stderr.startswith("48x32, cropped from 45x34, on ")
    assert size_of(folder / "out.png") == (48, 32)
    assert max(seam(np.asarray(Image.open(folder / "out.png"), float))) < 2


def test_a_texture_needs_no_photo(paint, folder, network):
    state = ("--save-state", "texture.npz")
    result = paint("--texture", "48x32", "--padding", "wrap", "--iterations", 4, *state)
    assert result.returncode == 0, result.stderr
    assert result.stderr.startswith("48x32 on ")
    about = metadata.read(folder / "texture.png")
    assert about["texture"] == "48x32" and about["content"] is None
    assert about["sha256"]["content"] is None and about["losses"]["content"] == 0
    painted = np.asarray(Image.open(folder / "texture.png"), np.float32)
    # painted again from its metadata, by the Python interface, and in two parts
    result = paint("--settings-from", "texture.png", output="again.png")
    assert result.returncode == 0, result.stderr
    np.testing.assert_array_equal(np.asarray(Image.open(folder / "again.png")), painted)
    style = np.asarray(Image.open(folder / "painting.png"), np.float32)
    style = resampling.resize(style, *sizes.of_style(style.shape[:2], (32, 48), TEXTURE).size)
    layers = {"relu1_1": 1, "relu2_1": 1}
    options = {"texture": "48x32", "padding": "wrap", "iterations": 4, "style_layers": layers}
    options |= {"optimizer": "adam", "learning_rate_schedule": "constant", "style_loss": "mean"}
    image = list(stylize(network, None, [style], **options))[-1][1]
    np.testing.assert_array_equal(np.rint(image), painted)
    result = paint("--resume", "texture.npz", "--iterations", 6, "--overwrite")
    assert result.returncode == 0, result.stderr
    options["iterations"] = 6
    image = list(stylize(network, None, [style], **options))[-1][1]
    painted = np.asarray(Image.open(folder / "texture.png"), np.float32)
    np.testing.assert_array_equal(np.rint(image), painted)


TEXTURE = Settings(texture="48x32")


def test_a_texture_from_python(folder, monkeypatch):
    monkeypatch.chdir(folder)
    options = {"network": "network.mat", "iterations": 2, "style_layers": {"relu1_1": 1}}
    options |= {"optimizer": "adam", "style_loss": "mean"}
    paint_file(None, "painting.png", "texture.png", texture="40x24", **options)
    assert size_of("texture.png") == (40, 24)
    with pytest.raises(UsageError, match="texture and content cannot be combined: use one of them"):
        paint_file("photo.png", "painting.png", "other.png", texture="40x24", **options)


def test_what_is_texture_and_what_a_photo_replace_each_other(paint, folder):
    (folder / "tile.args").write_text("--texture 32x48 --seed 3 --tv-weight 5\n")
    result = paint("@tile.args", "--iterations", 1, output="a.png")
    assert result.returncode == 0 and size_of(folder / "a.png") == (32, 48)
    # a photo on the command line replaces the texture of a recipe or of an earlier picture
    for source in ("@tile.args",), ("--settings-from", "a.png"):
        options = ("--content", "photo.png", "--iterations", 1, "--overwrite")
        result = paint(*source, *options, output="b.png")
        assert result.returncode == 0, result.stderr
        assert size_of(folder / "b.png") == (45, 34)
        assert metadata.read(folder / "b.png")["seed"] == 3
    # and a texture the photo, which need not be here any more
    (folder / "photo.png").unlink()
    result = paint("--settings-from", "b.png", "--texture", "32x32", output="c.png")
    assert result.returncode == 0, result.stderr
    assert size_of(folder / "c.png") == (32, 32)


def test_a_texture_may_start_from_a_picture_and_differs_by_its_seed(network, picture):
    options = {"texture": "45x34", "iterations": 1, "checkpoint_iterations": 1} | {
        "style_layers": TWO_BLOCKS["style_layers"]
    }

    def last(**more):
        return list(stylize(network, None, [picture(seed=1)], **options, **more))[-1][1]

    assert np.abs(last() - last(seed=1)).max() > 1e-3
    np.testing.assert_array_equal(last(), last(seed=0))
    initial = picture(seed=2)
    assert np.abs(last(initial=initial) - initial).mean() < 10


SIZE = "use WIDTHxHEIGHT in pixels, as in 512x384, each from 16 to 1000000"
REFUSED = {
    f"--texture is large: {SIZE}": ["large"],
    f"--texture is 8x64: {SIZE}": ["8x64"],
    "--texture and --content cannot be combined: use one of them": ["--content", "photo.png"],
    "--content-weight has no effect with --texture": ["--content-weight", 5],
    "--size has no effect with --texture": ["--size", 64],
    "--content-mask has no effect with --texture": ["--content-mask", "photo.png"],
    "--preserve-colors has no effect with --texture": ["--preserve-colors"],
    "--initial-noiseblend has no effect with --texture": ["--initial-noiseblend", 0.5],
    "--style-loss neighbors needs a photo: use another with --texture": [
        *("--style-loss", "neighbors")
    ],
    "--texture is 64x40: --padding wrap needs multiples of 16, such as 32 or 48": [
        *("64x40", "--padding", "wrap")
    ],
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_has_no_effect_on_a_texture_is_refused(paint, folder, message):
    options = REFUSED[message]
    size = [] if str(options[0])[0] != "-" else ["64x64"]
    result = paint("--texture", *size, *options)
    assert error_of(result, 2).removesuffix(" (see --help)") == message
    assert not (folder / "texture.png").exists()


def test_a_photo_is_painted_after_a_texture_of_its_size(shallow, picture):
    """In one process, where graphs are shared: those of a texture know no content."""
    options = {"iterations": 1, "scales": "off", "style_layers": TWO_BLOCKS["style_layers"]}
    losses = []
    options["on_step"] = lambda step: losses.append(step.losses()["content"])
    painting = picture(20, 24, seed=1)
    list(stylize(shallow, None, [painting], texture="32x16", **options))
    assert set(losses) == {0}
    list(stylize(shallow, picture(16, 32), [painting], **options))
    assert losses[-1] > 0


def test_a_texture_has_a_loss():
    with pytest.raises(UsageError, match="texture needs style_weight above 0"):
        Settings(texture="64x64", style_weight=0)


def test_a_batch_paints_photos(capsys):
    arguments = ["--contents", "photo.png", "--styles", "painting.png", "--output-dir", "out"]
    assert batch.main([*arguments, "--texture", "64x64"]) == 2
    assert capsys.readouterr().err == "error: --texture is not available in batch.py\n"

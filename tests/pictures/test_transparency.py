"""Transparency: what is transparent counts in no colour, loss or start, and stays transparent."""

import numpy as np
import pytest
from PIL import Image
from samples import error_of
from variants import TWO_BLOCKS

from neural_style_tf import read_picture, save_picture
from neural_style_tf.errors import UsageError
from neural_style_tf.painting import arguments
from neural_style_tf.painting.stylize import stylize
from neural_style_tf.pictures import colors, transparency
from neural_style_tf.settings import Settings

HEIGHT, WIDTH = 34, 45


def soft_disc(height=HEIGHT, width=WIDTH):
    """Alpha, 0..255: opaque in the middle, transparent outside, with a soft edge."""
    rows, columns = np.mgrid[:height, :width]
    distance = np.hypot(rows - height / 2, columns - width / 2)
    return np.rint(255 * np.clip((min(height, width) / 2.5 - distance) / 3, 0, 1))


def with_alpha(picture, alpha):
    """[H, W, 4] uint8."""
    return np.dstack([picture, alpha]).astype(np.uint8)


def over(picture, alpha, background):
    share = alpha[..., np.newaxis] / 255
    return share * picture + (1 - share) * background


def test_what_is_opaque_keeps_its_colours_and_gaps_take_those_nearby(picture):
    photo, alpha = picture(), soft_disc()
    white = transparency.over_white(photo, alpha / 255)
    filled = transparency.filled(white, alpha / 255)
    assert filled.dtype == np.float32
    np.testing.assert_allclose(filled[alpha > 40], photo[alpha > 40], atol=1e-3)
    assert filled.min() >= photo[alpha > 0].min() - 1 and filled.max() <= photo[alpha > 0].max() + 1
    back = transparency.over_white(filled, alpha / 255)
    np.testing.assert_allclose(back[alpha > 40], white[alpha > 40], atol=1e-3)


def test_gaps_of_two_colours_are_each_filled_with_the_nearer_one():
    photo, alpha = np.zeros((16, 64, 3)), np.zeros((16, 64))
    photo[:, 32:], alpha[:, :4], alpha[:, 60:] = 200, 1, 1
    filled = transparency.filled(transparency.over_white(photo, alpha), alpha)
    assert filled[:, :20].max() < 50 and filled[:, 44:].min() > 150
    steps = np.abs(np.diff(filled, axis=1))
    assert steps.max() < 40  # no edge


def test_a_transparent_picture_is_filled_with_white():
    filled = transparency.filled(np.full((5, 7, 3), 255.0), np.zeros((5, 7)))
    assert (filled == 255).all()


def cutouts_of(picture):
    """The same photo and paintings with other colours behind what is transparent."""
    alpha, mask = soft_disc(), soft_disc(30, 40)
    for seed in (7, 8):
        photo = np.where(alpha[..., np.newaxis] > 0, picture(), picture(seed=seed))
        painting = np.where(mask[..., np.newaxis] > 0, picture(30, 40, 1), picture(30, 40, seed))
        yield with_alpha(photo, alpha), with_alpha(painting, mask)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"preserve_colors": "match", "initial_colors": "histogram", "optimizer": "adam"},
        {"preserve_colors": "histogram", "tile": 64, "scales": 2},
        {"style_loss": "neighbors", "iterations": 1},
    ],
    ids=str,
)
def test_what_is_hidden_counts_in_nothing(network, picture, options):
    options = {"iterations": 3} | (TWO_BLOCKS if "style_loss" not in options else {}) | options
    images = [
        list(stylize(network, photo, [painting], **options))[-1][1]
        for photo, painting in cutouts_of(picture)
    ]
    assert images[0].shape == (HEIGHT, WIDTH, 4)
    np.testing.assert_array_equal(images[0][..., 3], soft_disc())
    np.testing.assert_array_equal(*images)


def test_alpha_is_the_content_mask(picture):
    """As if the photo were opaque, with the alpha as its mask, and the painting likewise."""
    alpha, mask = soft_disc(), soft_disc(30, 40)
    photo, painting = picture().astype("u1"), picture(30, 40, 1).astype("u1")
    ours = arguments.checked(with_alpha(photo, alpha), [with_alpha(painting, mask)], Settings())
    masks = {"content_mask": alpha / 255, "style_source_masks": [mask / 255]}
    theirs = arguments.checked(photo, [painting], Settings(), **masks)
    np.testing.assert_allclose(ours.masks.content, theirs.masks.content, atol=1e-6)
    np.testing.assert_allclose(ours.masks.sources[0], theirs.masks.sources[0], atol=1e-6)


@pytest.mark.parametrize("kind", ["match", "histogram"])
def test_colours_are_matched_without_what_is_transparent(kind, picture):
    clear, learnt = soft_disc() > 128, soft_disc(30, 40) > 128
    photo, painting = picture().astype("f4"), picture(30, 40, 1).astype("f4")
    cutouts = np.dstack([photo, 255 * clear]), np.dstack([painting, 255 * learnt])
    settings = Settings(preserve_colors=kind)
    style = arguments.checked(cutouts[0], [cutouts[1]], settings).styles[0]
    expected = colors.matched(painting[learnt][None], photo[clear][None], kind)[0]
    # histogram: colours that were equal differ by rounding after being over white
    np.testing.assert_allclose(style[learnt], expected, atol=1e-2 if kind == "match" else 2)


def test_a_mask_of_its_own_and_alpha_are_joined(picture):
    alpha, left = soft_disc(), np.zeros((HEIGHT, WIDTH), np.float32)
    left[:, :22] = 1
    photo = with_alpha(picture(), alpha)
    checked = arguments.checked(photo, [picture()], Settings(), content_mask=left)
    np.testing.assert_allclose(checked.masks.content, left * alpha / 255, atol=1e-6)
    checked = arguments.checked(picture(), [photo], Settings(), style_source_masks=[left])
    np.testing.assert_allclose(checked.masks.sources[0], left * alpha / 255, atol=1e-6)
    same = arguments.checked(photo, [picture()], Settings(), content_mask=alpha / 255)
    np.testing.assert_allclose(same.masks.content, alpha / 255, atol=1e-6)


def test_where_the_initial_picture_is_transparent_the_run_starts_from_the_photo(picture):
    photo, initial, alpha = picture(), picture(seed=1), soft_disc()
    checked = arguments.checked(photo, [picture()], Settings(), initial=np.dstack([initial, alpha]))
    expected = over(initial, alpha, photo)
    np.testing.assert_allclose(checked.initial[alpha > 40], expected[alpha > 40], atol=1e-2)
    np.testing.assert_array_equal(checked.initial[alpha == 0], photo[alpha == 0])


OPAQUE = 255 * np.ones((HEIGHT, WIDTH))
WRONG = {
    "content has an alpha from 0 to 0: use 0 to 255, not 0 everywhere": {
        "content": np.zeros((HEIGHT, WIDTH, 4))
    },
    "style 1 has an alpha from 0 to 300: use 0 to 255, not 0 everywhere": {
        "styles": [np.dstack([np.zeros((HEIGHT, WIDTH, 3)), 300 * np.eye(HEIGHT, WIDTH)])]
    },
    "content_mask leaves nothing of content that is opaque: pass a mask that is above 0 there": {
        "content": np.dstack([np.zeros((HEIGHT, WIDTH, 3)), OPAQUE - 255 * np.eye(HEIGHT, WIDTH)]),
        "content_mask": np.eye(HEIGHT, WIDTH),
    },
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_transparency_is_refused_at_once(network, picture, message):
    options = {"content": picture(), "styles": [picture()]} | WRONG[message]
    assert error_of(stylize, network, kind=UsageError, **options) == message


def test_pictures_keep_their_transparency_from_file_to_file(tmp_path, picture):
    save_picture(tmp_path / "a.png", with_alpha(picture(), soft_disc()))
    image = read_picture(tmp_path / "a.png", transparency=True)
    np.testing.assert_array_equal(np.rint(image[..., 3]), soft_disc())
    clear = soft_disc() > 40
    np.testing.assert_allclose(image[clear][:, :3], picture().astype("u1")[clear], atol=2)
    assert read_picture(tmp_path / "a.png").shape == (HEIGHT, WIDTH, 3)
    save_picture(tmp_path / "b.bmp", image)
    expected = over(picture(), soft_disc(), 255)[clear | (soft_disc() == 0)]
    ours = read_picture(tmp_path / "b.bmp", transparency=True)
    np.testing.assert_allclose(ours[clear | (soft_disc() == 0)], expected, atol=2)


@pytest.fixture
def cutout(folder, picture):
    """photo.png (45x34) with a soft disc that is opaque, and painting.png with the same."""
    for name, seed in (("photo.png", 0), ("painting.png", 1)):
        samples = with_alpha(picture(seed=seed), soft_disc())
        Image.fromarray(samples).save(folder / name)
    return folder


@pytest.mark.parametrize("output", ["out.png", "out.webp", "out.tif"])
def test_alpha_returns_in_the_result(run, cutout, output):
    result = run("--iterations", 3, "--scales", 2, output=output)
    assert result.returncode == 0, result.stderr
    assert "transparent" not in result.stderr
    with Image.open(cutout / output) as image:
        assert image.mode == "RGBA"
        np.testing.assert_array_equal(np.asarray(image)[..., 3], soft_disc())


def test_formats_without_transparency_get_white_and_a_line_says_so(run, cutout):
    result = run("--iterations", 2, "--timelapse", "film.gif", output="out.jpg")
    assert result.returncode == 0, result.stderr
    line = "what is transparent in photo.png becomes white: JPEG files have no transparency"
    assert result.stderr.splitlines().count(line) == 1
    for name in ("out.jpg", "film.gif"):
        with Image.open(cutout / name) as image:
            ours = np.asarray(image.convert("RGB"))
        assert ours[:3, :3].min() > 250 and ours[-3:, -3:].min() > 250, name


@pytest.mark.parametrize("option", ["--content-mask", "--style-source-masks"])
def test_a_mask_of_what_is_transparent_is_refused(run, cutout, option):
    Image.fromarray(soft_disc() == 0).save(cutout / "outside.png")
    result = run(option, "outside.png")
    assert result.returncode == 2
    name = "photo.png" if option == "--content-mask" else "painting.png"
    expected = (
        f"error: {name} is transparent where mask outside.png is white: paint white what counts"
    )
    assert result.stderr.splitlines() == [expected]


@pytest.mark.parametrize("name", ["photo.png", "painting.png"])
def test_a_picture_that_shows_nothing_is_refused(run, folder, name):
    Image.new("RGBA", (45, 34)).save(folder / name)
    result = run()
    assert result.returncode == 2
    expected = f"error: {name} is transparent everywhere: use another picture"
    assert result.stderr.splitlines() == [expected]

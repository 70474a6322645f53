"""Regions: what a map says, what each region is painted like, and a run with maps."""

import io

import numpy as np
import pytest
from PIL import Image
from samples import error_of
from shared import QUICK
from variants import TWO_BLOCKS

from neural_style_tf.errors import UsageError
from neural_style_tf.painting import arguments
from neural_style_tf.painting.stylize import stylize
from neural_style_tf.pictures import regions
from neural_style_tf.pictures.masks import Masks
from neural_style_tf.pictures.sizes import Placement
from neural_style_tf.settings import Settings

RED, GREEN, BLUE, YELLOW = (255, 0, 0), (0, 200, 0), (0, 0, 255), (255, 255, 0)


def scene(height=96, width=128):
    """A map [H, W, 3] uint8 of four regions, one of them a disc, with a slanted border."""
    rows, columns = np.mgrid[:height, :width]
    result = np.zeros((height, width, 3), np.uint8)
    result[:] = BLUE
    result[rows > 0.45 * height] = GREEN
    result[np.hypot(rows - height / 2, columns - width / 2.5) < height / 5] = YELLOW
    result[rows > 0.8 * height + 0.1 * columns] = RED
    return result


def halves(left, right, height=34, width=45, at=22):
    result = np.empty((height, width, 3), np.uint8)
    result[:, :at], result[:, at:] = left, right
    return result


def colors_of(map_):
    """[H, W, 3]"""
    return np.array(map_.colors)[map_.labels]


def test_a_flat_map_is_read_exactly():
    found = regions.region_map("map", scene())
    assert found.is_exact and found.labels.dtype == np.uint8
    assert sorted(found.colors) == sorted([RED, GREEN, BLUE, YELLOW])
    np.testing.assert_array_equal(colors_of(found), scene())


def test_numbers_of_regions_are_a_map(picture):
    """Numbers that follow each other are different regions."""
    numbers = np.repeat(np.arange(12), 4)[:, np.newaxis] * np.ones(30, int)
    found = regions.region_map("map", numbers)
    assert found.is_exact and found.colors == [(number,) * 3 for number in range(12)]
    np.testing.assert_array_equal(found.labels, numbers)
    own, other = (regions.region_map("map", numbers[part]) for part in (slice(24), slice(20, 48)))
    message = error_of(regions.parts, own, [other], [1], None, [None], kind=UsageError)
    assert message == (
        "content_regions has #000000 (16.7 % of the picture), #010101 (16.7 % of the picture), "
        "#020202 (16.7 % of the picture), #030303 (16.7 % of the picture), #040404 (16.7 % of the "
        "picture), which no map of style_regions has: use the same colours in both"
    )


def test_a_thin_line_is_a_region():
    exact = halves(RED, BLUE)
    exact[10] = GREEN
    np.testing.assert_array_equal(colors_of(regions.region_map("map", exact)), exact)


def as_jpeg(pixels, quality):
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=quality)
    return np.asarray(Image.open(data).convert("RGB"))


def jittered(pixels):
    noise = np.random.default_rng(0).integers(-4, 5, pixels.shape)
    return np.clip(pixels + noise, 0, 255)


def with_soft_edges(pixels):
    image = Image.fromarray(np.repeat(np.repeat(pixels, 3, 0), 3, 1))
    return np.asarray(image.resize(pixels.shape[1::-1], Image.Resampling.BICUBIC, (1, 1, 383, 287)))


NOISY = {
    "JPEG 40": lambda pixels: as_jpeg(pixels, 40),
    "JPEG 75": lambda pixels: as_jpeg(pixels, 75),
    "JPEG 95": lambda pixels: as_jpeg(pixels, 95),
    "noise": jittered,
    "soft edges": with_soft_edges,
}


@pytest.mark.parametrize("noisy", NOISY.values(), ids=NOISY)
@pytest.mark.parametrize("exact", [scene(), halves(RED, BLUE, 96, 128, 51)], ids=["4", "2"])
def test_slight_noise_is_tolerated(noisy, exact):
    found = regions.region_map("map", noisy(exact))
    count = len(np.unique(exact.reshape(-1, 3), axis=0))
    assert not found.is_exact and len(found.colors) == count
    apart = np.abs(colors_of(found) - exact).max(-1)
    assert (apart > regions.NOISE).mean() < 0.02  # at the edges
    flat = regions.region_map("map", exact)
    parts = regions.parts(found, [flat], [1], None, [None])[1]
    assert len(parts) == count
    for part in parts:
        color = np.array(flat.colors)[flat.labels][part.source][0]
        assert np.abs(color - found.colors[part.region]).max() <= regions.NOISE


def test_colours_of_a_photo_are_joined_to_the_most_frequent_nearby():
    random = np.random.default_rng(0)
    values = np.unique(random.integers(0, 1 << 24, 4000))
    counts = random.permutation(len(values))
    clusters, centers = regions._clustered(values, counts)
    assert len(centers) == regions.MOST_CLUSTERS
    colors = np.array([values >> 16, values >> 8 & 255, values & 255]).T
    expected = np.full(len(values), -1)
    for number, center in enumerate(centers):
        own = colors[values == center]
        near = (expected < 0) & (np.abs(colors - own).max(1) <= regions.NOISE)
        assert counts[values == center] == counts[expected < 0].max()
        expected[near] = number
    np.testing.assert_array_equal(clusters, expected)


WRONG = {
    "map has 17 flat colours: use at most 16 regions": np.repeat(np.arange(17), 4)[:, None]
    * np.ones(9, int),
    "map is not a map of regions: give each region one flat colour": np.random.default_rng(
        0
    ).integers(0, 256, (40, 50, 3)),
    "map has shape (4, 5, 4): use [height, width, 3]": np.zeros((4, 5, 4)),
    "map goes from 0 to 300: use 0 to 255": np.diag([0, 300]),
    "map goes from nan to nan: use 0 to 255": np.full((4, 5), np.nan),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("message", WRONG)
def test_what_is_not_a_map_is_refused(message):
    assert error_of(regions.region_map, "map", WRONG[message], kind=UsageError) == message


def test_a_photo_is_not_a_map(picture):
    assert "map" in error_of(regions.region_map, "map", picture(96, 128), kind=UsageError)


def test_maps_are_resized_by_nearest_neighbours():
    found = regions.region_map("map", halves(RED, BLUE, 4, 6, 3))
    np.testing.assert_array_equal(
        colors_of(found.placed(Placement((8, 12)))), halves(RED, BLUE, 8, 12, 6)
    )
    np.testing.assert_array_equal(
        colors_of(found.placed(Placement((2, 3), (0, 1, 4, 3)))), halves(RED, BLUE, 2, 3, 2)
    )
    padded = found.placed(Placement((4, 6), None, ((0, 0), (2, 1))))
    np.testing.assert_array_equal(colors_of(padded)[0, :2], [RED, RED])


def test_a_large_map_has_fewer_rows_and_columns(monkeypatch):
    monkeypatch.setattr(regions, "MOST_PIXELS", 96 * 128 // 4)
    found = regions.region_map("map", scene())
    np.testing.assert_array_equal(colors_of(found), scene()[::2, ::2])
    numbers = regions.region_map("map", np.arange(96 * 130).reshape(96, 130) % 2)
    assert numbers.labels.shape == (32, 44)


def test_colours_far_apart_may_differ_a_little_between_maps():
    content = regions.region_map("map", halves(RED, BLUE))
    style = regions.region_map("map", halves((250, 9, 0), (20, 0, 250)))
    _, parts = regions.parts(content, [style], [1], None, [None])
    assert [part.source[0, 0] for part in parts] == [False, True]  # blue comes first
    purple = regions.region_map("map", halves((250, 9, 0), (90, 0, 250)))
    message = error_of(regions.parts, content, [purple], [1], None, [None], kind=UsageError)
    assert message.startswith("content_regions has #0000ff (51.1 % of the picture), which")


def test_paintings_with_a_colour_share_its_region_by_their_weights():
    content = regions.region_map("map", halves(RED, BLUE))
    both = regions.region_map("map", halves(BLUE, RED, 30, 40, 10))
    one = regions.region_map("map", halves(RED, GREEN, 20, 20, 5))
    found, parts = regions.parts(content, [both, one, None], [0.5, 0.3, 0.2], None, [None] * 3)
    shares = {(content.colors[part.region], part.style): part.share for part in parts}
    assert shares == pytest.approx(
        {(BLUE, 0): 5 / 7, (BLUE, 2): 2 / 7, (RED, 0): 0.5, (RED, 1): 0.3, (RED, 2): 0.2}
    )
    by_place = {(content.colors[part.region], part.style): part.source for part in parts}
    assert by_place[RED, 1].sum() == 100 and by_place[RED, 2] is None
    assert by_place[BLUE, 0].sum() == 300
    channels = np.stack(found, -1)[np.newaxis].astype(np.float32)
    masks = Masks(channels, None, [p.region for p in parts], [p.share for p in parts])
    areas = {BLUE: 23 / 45, RED: 22 / 45}
    for part, weight in zip(parts, masks.shares(Settings(), 5), strict=True):
        assert weight == pytest.approx(areas[content.colors[part.region]] * part.share)


def test_a_painting_without_a_share_and_one_that_is_transparent_there_lack_a_colour():
    content = regions.region_map("map", halves(RED, BLUE))
    clear = np.zeros((34, 45))
    clear[:, :22] = 1  # where it is blue nothing is seen
    whole = regions.region_map("map", halves(RED, BLUE))
    for shares, learnt in (([1, 0], [clear, None]), ([0.5, 0.5], [clear, clear])):
        message = error_of(
            regions.parts, content, [whole, whole], shares, None, learnt, kind=UsageError
        )
        assert message == (
            "content_regions has #0000ff (51.1 % of the picture), which no map of style_regions "
            "has: use the same colours in both"
        )


def test_a_region_that_is_not_painted_needs_no_painting():
    content, red = (regions.region_map("map", halves(RED, other)) for other in (BLUE, GREEN))
    painted = np.zeros((34, 45))
    painted[:, :10] = 1
    found, parts = regions.parts(content, [red], [1], painted, [None])
    assert len(found) == len(parts) == 1 and found[0].sum() == 34 * 22


@pytest.fixture
def bright_and_dark(picture):
    """A photo, a painting that is dark on top and bright below, and their maps; the photo's colours
    are left and right."""
    painting = 0.2 * picture(48, 64, seed=2)
    painting[24:] += 190
    photo = 100 + 0.2 * picture(48, 64, seed=1)
    of_painting = halves(RED, BLUE, 64, 48, 24).swapaxes(0, 1)
    return photo, painting, halves(BLUE, RED, 48, 64, 32), of_painting


OPTIONS = {"iterations": 10, "content_weight": 0.01, "tv_weight": 0, "initial_colors": "own"}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"scales": 2},
        {"tile": 64},
        {"style_loss": "wasserstein"},
        {"style_loss": "neighbors", "style_layers": None},
    ],
    ids=str,
)
def test_each_region_is_painted_like_its_colour(network, bright_and_dark, options):
    photo, painting, content_map, style_map = bright_and_dark
    options = OPTIONS | TWO_BLOCKS | options
    maps = {"content_regions": content_map, "style_regions": [style_map]}
    image = list(stylize(network, photo, [painting], **maps, **options))[-1][1]
    assert image[:, :28].mean() > image[:, 36:].mean() + 15
    maps["content_regions"] = content_map[:, ::-1]
    image = list(stylize(network, photo, [painting], **maps, **options))[-1][1]
    assert image[:, :28].mean() < image[:, 36:].mean() - 15


def test_maps_are_masks(network, bright_and_dark):
    """The same picture as with masks, and the painting twice."""
    photo, painting, content_map, style_map = bright_and_dark
    options = {"iterations": 3, "initial_colors": "match"} | TWO_BLOCKS
    maps = {"content_regions": content_map[::2, ::2], "style_regions": [style_map]}
    ours = list(stylize(network, photo, [painting], **maps, **options))[-1][1]
    masks = [(content_map == color).all(-1).astype(np.float32) for color in (BLUE, RED)]
    sources = [(style_map == color).all(-1).astype(np.float32) for color in (BLUE, RED)]
    masks = {"style_masks": masks, "style_source_masks": sources}
    theirs = list(stylize(network, photo, [painting] * 2, **masks, **options))[-1][1]
    np.testing.assert_allclose(ours, theirs, atol=1e-2)


def test_colours_are_kept_region_by_region(picture):
    photo = halves(RED, BLUE, 48, 64, 32) + 0.1 * picture(48, 64)
    maps = {
        "content_regions": halves(GREEN, YELLOW, 48, 64, 32),
        "style_regions": [halves(YELLOW, GREEN, 40, 60, 20), None],
    }
    paintings = [picture(40, 60, seed=1), picture(seed=2)]
    settings = Settings(preserve_colors="match")
    checked = arguments.checked(photo, paintings, settings, **maps)
    wanted = {0: photo[:, :32].mean((0, 1)), 1: photo[:, 32:].mean((0, 1))}
    assert len(checked.styles) == 4
    for number, style in enumerate(checked.styles):
        source = checked.masks.source(number)
        learnt = style.reshape(-1, 3) if source is None else style[source > 0]
        expected = wanted[0 if checked.masks.region(number)[0, 0] else 1]
        np.testing.assert_allclose(learnt.mean(0), expected, atol=0.5)


MISUSED = {
    "content_regions requires style_regions": {"content_regions": scene()},
    "style_regions requires content_regions": {"style_regions": [scene()]},
    "got 2 style_regions for 1 style: pass one per style, - for none": {
        "content_regions": scene(),
        "style_regions": [scene(), None],
    },
    "style_regions has no map: pass that of one painting at least": {
        "content_regions": scene(),
        "style_regions": [None],
    },
    "style_masks and content_regions cannot be combined: use one of them": {
        "content_regions": scene(),
        "style_regions": [scene()],
        "style_masks": [None],
    },
}


@pytest.mark.parametrize("message", MISUSED)
def test_wrong_maps_are_refused_at_once(network, picture, message):
    options = MISUSED[message]
    call = stylize, network, picture(), [picture()]
    assert error_of(*call, kind=UsageError, **options) == message


@pytest.fixture
def mapped(folder):
    """photo.png and a map of it, a palette file; painting.png and a JPEG of another size."""
    image = Image.fromarray(halves(RED, BLUE)).quantize(8)
    assert image.mode == "P"
    image.save(folder / "photo-map.png")
    Image.fromarray(halves(BLUE, RED, 68, 68, 30)).save(folder / "painting-map.jpg")
    return folder


@pytest.fixture
def alpha(mapped):
    """The alpha of photo.png, which is transparent on top; uint8."""
    with Image.open(mapped / "photo.png") as image:
        alpha = np.repeat(np.linspace(-300, 400, 34).clip(0, 255)[:, np.newaxis], 45, 1)
        samples = np.dstack([np.asarray(image), alpha]).astype(np.uint8)
    Image.fromarray(samples).save(mapped / "photo.png")
    return samples[..., 3]


MAPS = ["--content-regions", "photo-map.png", "--style-regions", "painting-map.jpg"]


def test_a_run_with_maps_and_transparency_is_painted_again_and_goes_on(run, mapped, alpha):
    whole = run("--iterations", 4, *MAPS, "--preserve-colors", "match", output="whole.png")
    assert whole.returncode == 0, whole.stderr
    state = ["--save-state", "run.npz", "--preserve-colors", "match"]
    first = run("--iterations", 2, *MAPS, *state, output="part.png")
    assert first.returncode == 0, first.stderr
    rest = run("--iterations", 4, "--resume", "run.npz", "--overwrite", output="part.png")
    assert rest.returncode == 0, rest.stderr
    again = run("--settings-from", "whole.png", quick=(), output="again.png")
    assert again.returncode == 0, again.stderr
    pixels = [
        np.asarray(Image.open(mapped / name)) for name in ("whole.png", "part.png", "again.png")
    ]
    np.testing.assert_array_equal(pixels[0][..., 3], alpha)
    np.testing.assert_array_equal(pixels[0], pixels[1])
    np.testing.assert_array_equal(pixels[0], pixels[2])
    plain = run("--iterations", 4, "--preserve-colors", "match", output="plain.png")
    assert plain.returncode == 0
    assert np.abs(np.asarray(Image.open(mapped / "plain.png")) - pixels[0].astype(int)).max() > 0


@pytest.mark.parametrize("most", [10_000, 400])
def test_the_map_of_a_cropped_photo_is_cropped_with_it(run, mapped, monkeypatch, most):
    """Also if it is so large that it is thinned."""
    monkeypatch.setattr(regions, "MOST_PIXELS", most)
    from neural_style_tf.runs import inputs
    from neural_style_tf.runs.options import RunOptions

    monkeypatch.chdir(mapped)
    options = RunOptions(
        content="photo.png",
        styles=["painting.png"],
        output="out.png",
        content_regions="photo-map.png",
        style_regions=["painting-map.jpg"],
        settings=Settings(width=17, height=34),
    )
    masks = inputs.load(options).masks
    expected = halves(RED, BLUE)[:, 14:31]
    np.testing.assert_array_equal(colors_of(masks["content_regions"]), expected)
    assert masks["style_regions"][0].labels.shape == inputs.load(options).styles[0].shape[:2]


def test_a_batch_takes_maps_and_transparency(mapped, alpha, command_line):
    Image.new("RGB", (45, 34), YELLOW).save(mapped / "opaque.png")
    options = ["--contents", "photo.png", "opaque.png", "--styles", "painting.png", *QUICK]
    options += ["--output-dir", "results", "--name", "{content}.png", "--iterations", 1]
    options += ["--network", "network.mat"]
    result = command_line([*options, *MAPS, "--quiet"], mapped, program="batch")
    assert result.returncode == 0, result.stderr
    with Image.open(mapped / "results" / "photo.png") as image:
        np.testing.assert_array_equal(np.asarray(image)[..., 3], alpha)
    with Image.open(mapped / "results" / "opaque.png") as image:
        assert image.mode == "RGB"


@pytest.mark.parametrize(
    "options, message",
    [
        (
            ["--content-regions", "photo-map.png", "--style-regions", "green.png"],
            "photo-map.png has #0000ff (51.1 % of the picture), #ff0000 (48.9 % of the picture), "
            "which no map of --style-regions has: use the same colours in both",
        ),
        (
            ["--content-regions", "photo.png", "--style-regions", "painting-map.jpg"],
            "photo.png is not a map of regions: give each region one flat colour",
        ),
        (["--content-regions", "photo-map.png"], "--content-regions requires --style-regions"),
        ([*MAPS, "-"], "got 2 --style-regions for 1 style: pass one per style, - for none"),
        (
            [*MAPS, "--style-masks", "photo-map.png"],
            "--style-masks and --content-regions cannot be combined: use one of them",
        ),
    ],
    ids=str,
)
def test_the_command_line_refuses_wrong_maps(run, mapped, options, message):
    Image.new("RGB", (45, 34), GREEN).save(mapped / "green.png")
    result = run(*options)
    assert result.returncode == 2
    assert result.stderr == f"error: {message}\n"

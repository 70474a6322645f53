"""Masks: Grams of regions, gradients whole and in tiles, and what a run paints where."""

import numpy as np
import pytest
import reference
import tensorflow as tf
from PIL import Image
from variants import TWO_BLOCKS, apart, untraced

from neural_style_tf.errors import UsageError
from neural_style_tf.objective import losses, memory, objective
from neural_style_tf.painting.stylize import stylize
from neural_style_tf.pictures.masks import InputMasks, Masks
from neural_style_tf.settings import Settings

pytestmark = pytest.mark.usefixtures("many_graphs")

SIZE = (163, 192)


def disc(height, width, softness=12.0):
    """1 in the middle, 0 outside, and a soft edge."""
    rows, columns = np.mgrid[:height, :width]
    distance = np.hypot(rows - height / 2, columns - width / 2)
    return np.clip((min(height, width) / 3 - distance) / softness, 0, 1).astype(np.float32)


def masked(picture, size):
    """A photo, two paintings, and masks of every kind."""
    photo, *paintings = (
        picture(*shape, seed=seed)
        for seed, shape in enumerate((size, (140, 37), (71, 150)), start=1)
    )
    left = np.zeros(size, np.float32)
    left[:, : size[1] // 2] = 1
    source = disc(140, 37)
    masked = InputMasks.checked(photo, paintings, [left, 1 - left], disc(*size), [source, None])
    batch = [array[np.newaxis] for array in (photo, *paintings)]
    return batch[0], batch[1:], *masked.at(batch[0], batch[1:])


def test_a_gram_of_weighted_positions_follows_its_formula():
    features = np.random.default_rng(0).normal(size=(1, 6, 9, 4))
    weights = np.random.default_rng(1).uniform(size=(1, 6, 9))
    gram = losses.gram(tf.constant(features, tf.float32), tf.constant(weights, tf.float32))
    expected = np.einsum("bhw,bhwi,bhwj->ij", weights, features, features)
    np.testing.assert_allclose(gram.products, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(gram.positions, weights.sum(), rtol=1e-5)


def test_the_gram_of_a_region_is_that_of_the_region_cut_out(network, weights, picture):
    painting, source = picture(48, 64), np.zeros((48, 64), np.float32)
    source[:, :32] = 1
    settings = Settings(style_layers={"relu1_1": 1}, style_loss="mean")
    batch = tf.constant(painting[np.newaxis])
    masks = Masks(None, [source[np.newaxis, ..., np.newaxis]])
    gram = objective.measure_targets(network, batch, [batch], settings, masks).styles[0]["relu1_1"]
    features = reference.features(weights, painting, padding="replicate")["relu1_1"][:, :32]
    np.testing.assert_allclose(
        gram.products / (gram.positions * features.shape[-1]), reference.gram(features), rtol=1e-4
    )


@pytest.mark.parametrize(
    "pooling, style_loss", [("avg", "wasserstein"), ("max", "mean"), ("l2", "moments")]
)
def test_the_gradient_is_that_of_the_losses_whole_and_in_tiles(
    shallow, picture, pooling, style_loss
):
    settings = Settings(pooling=pooling, style_loss=style_loss, style_blend_weights=(3, 1))
    photo, paintings, masks, _ = masked(picture, SIZE)
    ours = tf.constant(picture(*SIZE, seed=9)[np.newaxis])
    made = [
        memory.make_objective(shallow, photo, paintings, settings, tf.float32, tile, masks)
        for tile in (None, 32)
    ]
    (whole, whole_losses), (tiled, tiled_losses) = made
    with untraced(), tf.GradientTape() as tape:
        tape.watch(ours)
        expected = whole_losses(ours)
    gradient = tape.gradient(expected["total"], ours).numpy()
    for score, losses_of in ((whole, whole_losses), (tiled, tiled_losses)):
        evaluation, scored = score(ours), losses_of(ours)
        assert apart(evaluation.gradient.numpy(), gradient) < 1e-5
        for name, loss in expected.items():
            np.testing.assert_allclose(evaluation.losses[name], loss, rtol=1e-5)
            np.testing.assert_allclose(scored[name], loss, rtol=1e-5)


def test_low_precision_agrees(shallow, picture):
    photo, paintings, masks, _ = masked(picture, (120, 90))
    ours = tf.constant(picture(120, 90, seed=9)[np.newaxis])
    settings = Settings(style_weight=5000)
    plain, bfloat16, float16 = (
        memory.make_objective(shallow, photo, paintings, settings, dtype, None, masks)[0](ours)
        for dtype in (tf.float32, tf.bfloat16, tf.float16)
    )
    assert apart(bfloat16.gradient.numpy(), plain.gradient.numpy()) < 0.03
    assert apart(float16.gradient.numpy(), plain.gradient.numpy()) < 0.01


@pytest.mark.parametrize("tile", ["off", 64])
def test_a_white_mask_is_no_mask(network, picture, tile):
    photo, painting = picture(64, 130, seed=1), picture(60, 70, seed=2)
    white = np.ones((64, 130), np.float32)
    options = {"iterations": 3, "tile": tile} | TWO_BLOCKS
    plain, masked = (
        list(stylize(network, photo, [painting], **options, **masks))[-1][1]
        for masks in ({}, {"style_masks": [white], "content_mask": white})
    )
    np.testing.assert_allclose(masked, plain, atol=0.02)


def painted(network, photo, paintings, **options):
    options = {"iterations": 15, "content_weight": 0.01, "tv_weight": 0} | TWO_BLOCKS | options
    return list(stylize(network, photo, paintings, **options))[-1][1]


@pytest.mark.parametrize("options", [{}, {"scales": 2}, {"tile": 64}], ids=str)
def test_each_style_paints_its_region(network, picture, options):
    photo = picture(64, 130, seed=1) * 0.2 + 100
    dark, bright = picture(64, 64, seed=2) * 0.2, picture(64, 64, seed=3) * 0.2 + 200
    left = np.zeros((64, 130), np.float32)
    left[:, :65] = 1
    image = painted(network, photo, [dark, bright], style_masks=[left, 1 - left], **options)
    swapped = painted(network, photo, [dark, bright], style_masks=[1 - left, left], **options)
    assert image[:, :55].mean() < image[:, 75:].mean() - 20
    assert swapped[:, :55].mean() > swapped[:, 75:].mean() + 20


def test_a_style_is_learnt_from_what_its_source_mask_leaves(network, picture):
    photo, painting = picture(48, 48, seed=1) * 0.2 + 100, picture(48, 96, seed=2) * 0.2
    painting[:, 48:] += 200
    left = np.zeros((48, 96), np.float32)
    left[:, :40] = 1
    dark, bright = (
        painted(network, photo, [painting], style_source_masks=[mask])
        for mask in (left, left[:, ::-1])
    )
    assert dark.mean() < bright.mean() - 20


@pytest.mark.parametrize(
    "optimizer, size",
    [("adam", (64, 80)), ("lbfgs", (64, 80)), ("l-bfgs-b", (24, 30))],  # SciPy's is slow
    ids=str,
)
def test_what_the_content_mask_leaves_out_stays_the_photo(network, picture, optimizer, size):
    photo, painting = picture(*size, seed=1), picture(40, 50, seed=2)
    mask = disc(*size, softness=size[0] / 6)
    assert (mask == 0).any() and (mask == 1).any()
    options = {"iterations": 4, "checkpoint_iterations": 2, "optimizer": optimizer} | TWO_BLOCKS
    steps = []
    for _, image in stylize(
        network, photo, [painting], content_mask=mask, on_step=steps.append, **options
    ):
        np.testing.assert_allclose(image[mask == 0], photo[mask == 0], atol=1e-3)
        assert np.abs(image - photo)[mask == 1].mean() > 5
    for step in steps:
        np.testing.assert_allclose(step.image()[mask == 0], photo[mask == 0], atol=1e-3)


def test_what_stays_of_the_photo_is_at_full_size_when_time_runs_out(network, picture):
    photo, painting = picture(64, 80, seed=1), picture(40, 50, seed=2)
    mask = disc(64, 80)
    options = {"content_mask": mask, "scales": 2, "iterations": 9, "max_evaluations": 2}
    options |= TWO_BLOCKS
    image = list(stylize(network, photo, [painting], **options))[-1][1]
    np.testing.assert_allclose(image[mask == 0], photo[mask == 0], atol=1e-3)


WRONG = {
    "count": ({"style_masks": [None]}, "got 1 style_masks for 2 styles: pass one mask per style"),
    "size": (
        {"content_mask": np.ones((5, 5))},
        r"content_mask has shape \(5, 5\) and its picture \(34, 45\): give equal sizes",
    ),
    "empty": (
        {"style_masks": [np.zeros((34, 45)), None]},
        "style_masks 1 is all 0: pass a mask that is above 0 somewhere",
    ),
    "range": (
        {"style_source_masks": [None, np.full((34, 45), 255)]},
        "style_source_masks 2 goes from 255 to 255: give 0 to 1",
    ),
    "apart": (
        {"style_masks": [np.eye(34, 45), None], "content_mask": 1 - np.eye(34, 45)},
        "style_masks 1 covers nothing that is painted: let it overlap content_mask and what is "
        "opaque of the photo",
    ),
}


@pytest.mark.parametrize("masks, message", WRONG.values(), ids=WRONG)
def test_a_wrong_mask_is_refused_at_once(network, picture, masks, message):
    with pytest.raises(UsageError, match=f"^{message}$"):
        stylize(network, picture(), [picture(), picture()], **masks)


def save_mask(path, mask):
    Image.fromarray((255 * mask).astype(np.uint8)).save(path)


def test_the_command_line_takes_masks_of_any_size_in_the_right_proportions(run, folder):
    save_mask(folder / "mask.png", disc(68, 90))  # twice the photo's 45x34
    masks = ["--content-mask", "mask.png", "--style-masks", "mask.png", "-"]
    masks += ["--style-source-masks", "-", "mask.png"]
    result = run("--iterations", 3, *masks, styles=("painting.png", "other.png"))
    assert result.returncode == 0, result.stderr
    with Image.open(folder / "out.png") as image, Image.open(folder / "photo.png") as photo:
        ours, theirs = np.asarray(image, float), np.asarray(photo, float)
    outside = disc(34, 45) == 0
    outside[4:-4, 4:-4] = False  # where the mask at the photo's size may be no more than nearly 0
    np.testing.assert_allclose(ours[outside], theirs[outside], atol=1)


@pytest.mark.parametrize(
    "options, message",
    [
        (
            ["--style-masks", "-", "-"],
            "got 2 --style-masks for 1 style: pass one per style, - for none",
        ),
        (
            ["--content-mask", "wide.png"],
            "mask wide.png is 80x20 and its picture 45x34: ",
        ),
        (["--style-masks", "black.png"], "mask black.png is all black: paint white what counts"),
        (["--content-mask", "gone.png"], "no file gone.png"),
        (
            ["--content-mask", "red.png"],
            "error: mask red.png is in colour (#ff2000): use a grey picture; for maps with a "
            "colour per region use --content-regions and --style-regions",
        ),
        (["--content-mask", "out.png", "--overwrite"], "the output out.png is also an input"),
    ],
    ids=str,
)
def test_the_command_line_refuses_a_wrong_mask(run, folder, options, message):
    save_mask(folder / "wide.png", np.ones((20, 80)))
    save_mask(folder / "black.png", np.zeros((34, 45)))
    save_mask(folder / "out.png", np.ones((34, 45)))
    Image.new("RGB", (45, 34), (255, 32, 0)).save(folder / "red.png")
    result = run(*options, "--overwrite")
    assert result.returncode in (1, 2) and len(result.stderr.splitlines()) == 1
    assert message in result.stderr

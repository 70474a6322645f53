"""Deep pictures: all 16 bits of every sample are read, whatever the file's layout."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from samples import (
    HEIGHT,
    P3,
    UNASSOCIATED,
    WIDTH,
    deep_noise,
    error_of,
    gamma_curve,
    icc,
    p3_profile,
    pixels_of,
    png_of,
    tiff_of,
    xyz,
)
from test_profiles import SRGB, srgb_encoded

from neural_style_tf.pictures import reading


def saved(path, data):
    path.write_bytes(data)
    return path


def exact(samples):
    """What is read of samples of 16 bits."""
    return samples.astype(np.float32) / 257


def test_a_png_of_16_bits_is_read_exactly(tmp_path):
    path = saved(tmp_path / "deep.png", png_of(deep_noise()))
    np.testing.assert_array_equal(pixels_of(path), exact(deep_noise()))


def test_steps_between_the_levels_of_8_bits_are_kept(tmp_path):
    levels = np.linspace(30_000, 31_000, 1001).round().astype(np.uint16)
    ramp = np.repeat(np.tile(levels, (16, 1))[..., np.newaxis], 3, -1)
    path = saved(tmp_path / "ramp.png", png_of(ramp))
    assert len(np.unique(pixels_of(path))) == 1001
    path = saved(tmp_path / "ramp.tif", tiff_of(ramp))
    assert len(np.unique(pixels_of(path))) == 1001


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [1, 8])
def test_a_tiff_of_16_bits_is_read_exactly(tmp_path, order, compression):
    path = saved(tmp_path / "deep.tif", tiff_of(deep_noise(), order, compression))
    np.testing.assert_array_equal(pixels_of(path), exact(deep_noise()))


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_tiff_of_16_bits_in_planes_is_read_exactly(tmp_path, order):
    path = saved(tmp_path / "deep.tif", tiff_of(deep_noise(), order, planes=True))
    np.testing.assert_array_equal(pixels_of(path), exact(deep_noise()))


def test_compressed_planes_are_read_to_8_bits(tmp_path):
    path = saved(tmp_path / "deep.tif", tiff_of(deep_noise(), compression=8, planes=True))
    np.testing.assert_allclose(pixels_of(path), exact(deep_noise()), atol=1)


@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_alpha_of_16_bits(tmp_path, ending):
    samples = deep_noise(4)
    data = png_of(samples) if ending == ".png" else tiff_of(samples, more=UNASSOCIATED)
    pixels, alpha = reading.read(saved(tmp_path / f"deep{ending}", data))
    expected = samples[..., 3] / 65_535
    np.testing.assert_allclose(alpha, expected, atol=1e-6)
    share = expected[..., np.newaxis]
    over_white = samples[..., :3] / 257 * share + 255 * (1 - share)
    np.testing.assert_allclose(pixels, over_white, atol=1e-3)


def test_colours_that_are_multiplied_by_alpha(tmp_path):
    samples = deep_noise(4)
    samples[..., 3] |= 0x8000
    share = samples[..., 3:] / 65_535
    stored = samples.copy()
    stored[..., :3] = np.rint(samples[..., :3] * share)
    pixels, alpha = reading.read(saved(tmp_path / "deep.tif", tiff_of(stored, more={338: 1})))
    np.testing.assert_allclose(alpha, share[..., 0], atol=1e-6)
    over_white = samples[..., :3] / 257 * share + 255 * (1 - share)
    np.testing.assert_allclose(pixels, over_white, atol=0.01)


def test_grey_and_alpha_of_16_bits(tmp_path):
    samples = deep_noise(2)
    pixels, alpha = reading.read(saved(tmp_path / "deep.png", png_of(samples)))
    share = samples[..., 1] / 65_535
    np.testing.assert_allclose(alpha, share, atol=1e-6)
    expected = samples[..., 0] / 257 * share + 255 * (1 - share)
    np.testing.assert_allclose(pixels, np.stack([expected] * 3, -1), atol=1e-3)


def test_one_transparent_colour_counts_with_all_its_bits(tmp_path):
    samples = np.full((HEIGHT, WIDTH, 3), 5000, np.uint16)
    samples[:, 10:] += 1  # the same in 8 bits
    key = struct.pack(">3H", 5000, 5000, 5000)
    _, alpha = reading.read(saved(tmp_path / "key.png", png_of(samples, transparent=key)))
    np.testing.assert_array_equal(alpha, np.ones((HEIGHT, 1)) * (np.arange(WIDTH) >= 10))


def test_a_mask_of_16_bits_keeps_its_soft_edge(tmp_path):
    edge = np.linspace(0, 65_535, WIDTH).astype(np.uint16)
    samples = np.repeat(np.tile(edge, (HEIGHT, 1))[..., np.newaxis], 3, -1)
    mask = reading.read_mask(saved(tmp_path / "mask.png", png_of(samples)))
    np.testing.assert_allclose(mask[0], edge / 65_535, atol=1e-6)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_a_deep_picture_is_turned_upright(tmp_path, ending, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    shallow = Image.fromarray((deep_noise() >> 8).astype(np.uint8))
    shallow.save(tmp_path / "shallow.png", exif=exif)
    expected = pixels_of(tmp_path / "shallow.png")
    data = png_of(deep_noise(), (b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")))
    if ending == ".tif":
        data = tiff_of(deep_noise(), more={274: orientation})
    pixels = pixels_of(saved(tmp_path / f"deep{ending}", data))
    np.testing.assert_array_equal(np.floor(pixels * 257 / 256), expected)


def srgb_of_p3(levels):
    linear = np.linalg.solve(SRGB, P3 @ np.asarray(levels, float) ** (563 / 256))
    return srgb_encoded(linear.clip(0, 1))


def test_a_profile_is_applied_to_all_16_bits(tmp_path):
    levels = np.linspace(20_000, 21_000, WIDTH)
    samples = np.stack([levels, levels + 9000, levels + 4000], -1).round().astype(np.uint16)
    picture = np.tile(samples, (HEIGHT, 1, 1))
    chunk = b"p3\0\0" + zlib.compress(p3_profile())
    path = saved(tmp_path / "deep.png", png_of(picture, (b"iCCP", chunk)))
    pixels = pixels_of(path)
    expected = np.array([srgb_of_p3(sample / 65_535) for sample in samples])
    np.testing.assert_allclose(pixels[0], expected, atol=0.02)
    assert len(np.unique(pixels[0, :, 1])) == WIDTH


def para(kind, *values):
    content = b"".join(struct.pack(">i", round(value * 65_536)) for value in values)
    return b"para" + struct.pack(">IHH", 0, kind, 0) + content


CURVES = {
    "linear": (b"curv" + bytes(8), lambda x: x),
    "gamma": (gamma_curve(1.8), lambda x: x ** (461 / 256)),
    "table": (b"curv" + struct.pack(">II3H", 0, 3, 0, 16_384, 65_535), None),
    "para 0": (para(0, 2.2), lambda x: x**2.2),
    "para 1": (para(1, 2, 1.25, -0.25), lambda x: np.maximum(1.25 * x - 0.25, 0) ** 2),
    "para 2": (para(2, 2, 1, -0.2, 0.1), lambda x: np.maximum(x - 0.2, 0) ** 2 + 0.1),
    "para 3": (para(3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045), None),
    "para 4": (para(4, 2, 0.9, 0.1, 0.5, 0.2, 0.0, 0.01), None),
}


def light_of(name, x):
    curve = CURVES[name][1]
    if name == "table":
        return np.interp(x, [0, 0.5, 1], [0, 0.25, 1])
    if name == "para 3":
        return np.where(x >= 0.04045, ((x + 0.055) / 1.055) ** 2.4, x / 12.92)
    if name == "para 4":
        return np.where(x >= 0.2, (0.9 * x + 0.1) ** 2, 0.5 * x + 0.01)
    return curve(x)


@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_kind_of_curve(tmp_path, name, channels):
    curve = CURVES[name][0]
    levels = np.linspace(0, 65_535, WIDTH).astype(np.uint16)
    samples = np.repeat(np.tile(levels, (HEIGHT, 1))[..., np.newaxis], channels, -1)
    if channels == 1:
        profile = icc(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": curve})
    else:
        colorants = {name: xyz(SRGB[:, i]) for i, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
        curves = dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
        profile = icc(b"mntr", b"RGB ", b"XYZ ", colorants | curves)
    chunk = b"p\0\0" + zlib.compress(profile)
    pixels = pixels_of(saved(tmp_path / "deep.png", png_of(samples, (b"iCCP", chunk))))
    expected = srgb_encoded(np.clip(light_of(name, levels / 65_535), 0, 1))
    np.testing.assert_allclose(pixels[0, :, 0], expected, atol=0.3)


def table_profile():
    """A display whose colours are given by a table: red, green and blue as L, a and b."""
    grid = bytes((0, 128, 128) * 4 + (255, 128, 128) * 4)  # L follows red alone
    matrix = b"".join(struct.pack(">i", 65_536 * (i == j)) for i in range(3) for j in range(3))
    steps = bytes(range(256)) * 3
    table = b"mft1" + bytes((0, 0, 0, 0, 3, 3, 2, 0)) + matrix + steps + grid + steps
    return icc(b"mntr", b"RGB ", b"Lab ", {b"A2B0": table})


def test_a_profile_with_tables_is_applied_to_8_bits(tmp_path):
    samples = np.full((HEIGHT, WIDTH, 3), 128 * 257, np.uint16)
    chunk = b"p\0\0" + zlib.compress(table_profile())
    pixels = pixels_of(saved(tmp_path / "deep.png", png_of(samples, (b"iCCP", chunk))))
    expected = srgb_encoded(((100 * 128 / 255 + 16) / 116) ** 3)
    np.testing.assert_allclose(pixels, expected, atol=1.5)


@pytest.mark.parametrize("profile", [b"none at all", p3_profile()[:200], p3_profile()[:250]])
def test_a_broken_profile_is_ignored(tmp_path, profile):
    chunk = b"p\0\0" + zlib.compress(profile)
    path = saved(tmp_path / "deep.png", png_of(deep_noise(), (b"iCCP", chunk)))
    np.testing.assert_array_equal(pixels_of(path), exact(deep_noise()))


@pytest.mark.parametrize(
    "samples",
    [deep_noise().astype(np.float32), deep_noise().astype(np.uint32), deep_noise(2)],
    ids=["float", "32 bits", "grey and alpha"],
)
def test_kinds_of_tiff_that_are_not_read(tmp_path, samples):
    more = UNASSOCIATED if samples.shape[-1] == 2 else None
    path = saved(tmp_path / "odd.tif", tiff_of(samples, more=more))
    assert error_of(reading.read, path) == (
        f"{path} is a TIFF of a kind that is not read, such as 32 bits per colour or a camera's "
        "raw file: save it with 8 or 16 bits"
    )


@pytest.mark.parametrize("compression", [1, 8])
def test_a_grey_tiff_in_which_0_is_white(tmp_path, compression):
    data = tiff_of(deep_noise(1), compression=compression, more={262: 0})
    pixels = pixels_of(saved(tmp_path / "negative.tif", data))
    np.testing.assert_allclose(pixels[..., :1], 255 - exact(deep_noise(1)), atol=1e-4)


def test_a_grey_tiff_of_12_bits(tmp_path):
    levels = np.arange(WIDTH) * (4095 // WIDTH)
    packed = "".join(f"{level:012b}" for level in [*levels, *([0] * (WIDTH % 2))])
    row = int(packed, 2).to_bytes(len(packed) // 8, "big")
    rows = np.frombuffer(row * HEIGHT, np.uint8).reshape(HEIGHT, len(row), 1)
    data = tiff_of(rows, more={256: WIDTH, 258: 12})
    pixels = pixels_of(saved(tmp_path / "grey.tif", data))
    expected = np.tile(levels * 255 / 4095, (HEIGHT, 1))
    np.testing.assert_allclose(pixels[..., 0], expected, atol=1e-3)


@pytest.mark.parametrize("order", ["<", ">"])
def test_grey_of_16_bits_in_a_plane_of_its_own_is_not_taken_for_colours(tmp_path, order):
    path = saved(tmp_path / "grey.tif", tiff_of(deep_noise(1), order, planes=True))
    assert error_of(reading.read, path) == (
        f"{path} is broken or cut short (unknown raw mode for given image mode): get a fresh copy"
    )


@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_a_deep_picture_that_is_cut_short(tmp_path, ending):
    data = png_of(deep_noise()) if ending == ".png" else tiff_of(deep_noise())
    path = saved(tmp_path / f"deep{ending}", data[: len(data) // 2])
    assert error_of(reading.read, path).startswith(f"{path} is ")


def test_a_deep_picture_is_resized_with_its_fractions(tmp_path):
    samples = np.full((HEIGHT, WIDTH, 3), 30_001, np.uint16)
    path = saved(tmp_path / "deep.png", png_of(samples))
    pixels = pixels_of(path, size_of=lambda height, width: (height // 2, width // 2))
    np.testing.assert_allclose(pixels, 30_001 / 257, atol=1e-3)


def test_interlaced(tmp_path):
    path = tmp_path / "deep.png"
    samples = deep_noise()
    rows = b""
    for top, left, down, across in (
        *((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4)),
        *((2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)),
    ):
        for row in samples[top::down, left::across].astype(">u2"):
            rows += b"\0" + row.tobytes()
    data = bytearray(png_of(samples))
    head = data[:8]
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 16, 2, 0, 0, 1)
    stream = io.BytesIO()
    stream.write(head)
    for kind, content in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        stream.write(struct.pack(">I", len(content)) + kind + content)
        stream.write(struct.pack(">I", zlib.crc32(kind + content)))
    pixels = pixels_of(saved(path, stream.getvalue()))
    np.testing.assert_array_equal(pixels, exact(samples))


@pytest.mark.filterwarnings("error")
def test_a_curve_that_leaves_all_bounds_gives_finite_colours(tmp_path):
    colorants = {name: xyz(P3[:, i]) for i, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
    curves = dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), para(4, 30_000, 30_000, 5, 1, 0, 0, 0))
    chunk = b"p\0\0" + zlib.compress(icc(b"mntr", b"RGB ", b"XYZ ", colorants | curves))
    pixels = pixels_of(saved(tmp_path / "deep.png", png_of(deep_noise(), (b"iCCP", chunk))))
    assert np.isfinite(pixels).all() and pixels.max() <= 255

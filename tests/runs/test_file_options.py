"""The result's file: its bits, its quality, and what it says of the photo and of itself."""

import os
import re
import shutil
import sys

import numpy as np
import pytest
from PIL import Image
from test_painting import fail_at_evaluation

from neural_style_tf import UserError, paint_file
from neural_style_tf.batch import jobs, records, tables
from neural_style_tf.commands import batch, neural_style, parser
from neural_style_tf.errors import UsageError
from neural_style_tf.machine import streams
from neural_style_tf.pictures import metadata, photo_metadata, reading, writing
from neural_style_tf.runs import inputs, provenance
from neural_style_tf.runs.options import RunOptions

FEW = ["--network", "network.mat", "--precision", "float32", "--iterations", "2"]
FEW += ["--content-layers", "relu2_1", "--style-layers", "relu1_1", "relu2_1"]
FEW += ["--optimizer", "adam", "--style-loss", "mean"]


@pytest.fixture
def here(folder, monkeypatch):
    """The folder, with photo.jpg, which says much of itself and lies on its side."""
    exif = Image.Exif()
    exif[0x010F], exif[0x8298], exif[0x0112] = "Maker", "(c) somebody", 6
    with Image.open(folder / "photo.png") as image:
        image.save(folder / "photo.jpg", exif=exif, dpi=(300, 300), quality=95)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def paint(here):
    """A function that paints photo.jpg as `output` in this process."""

    def paint(output, *more, content="photo.jpg", quiet=True):
        files = ["--content", content, "--styles", "painting.png", "--output", output]
        silent = ["--quiet"] if quiet else []
        return neural_style.main([*files, *FEW, "--overwrite", *silent, *more])

    return paint


@pytest.mark.parametrize("ending", [".jpg", ".png", ".webp", ".tif"])
def test_the_photos_metadata_is_in_the_result(paint, here, ending):
    assert paint(f"out{ending}") == 0
    with Image.open(f"out{ending}") as image:
        exif = image.getexif()
        assert (exif[0x010F], exif[0x8298]) == ("Maker", "(c) somebody")
        assert exif.get(0x0112, 1) == 1 and image.size == (34, 45)
    assert photo_metadata.read(f"out{ending}").dpi == pytest.approx((300, 300), abs=0.01)
    assert metadata.read(f"out{ending}")["content"] == "photo.jpg"


@pytest.mark.parametrize("ending", [".jpg", ".png", ".webp", ".tif"])
def test_no_metadata_leaves_out_everything(paint, here, ending):
    checkpoints = ["--checkpoint-output", f"step-%d{ending}", "--checkpoint-iterations", "1"]
    assert paint(f"out{ending}", "--no-metadata", *checkpoints) == 0
    checksum = provenance.digest("photo.jpg").encode()
    words = [b"Maker", b"somebody", b"photo", b"painting", b"neural-style", b"sha256", checksum]
    for name in (f"out{ending}", f"step-0{ending}"):
        data = (here / name).read_bytes()
        assert [word for word in words if word in data] == []
        assert metadata.read(name) == {}
        assert photo_metadata.read(name)._replace(dpi=None) == photo_metadata.NONE


def test_the_picture_is_the_same_with_and_without_metadata(paint, here):
    assert paint("out.png") == 0 and paint("bare.png", "--no-metadata") == 0
    np.testing.assert_array_equal(reading.read("out.png").pixels, reading.read("bare.png").pixels)


def test_the_result_has_16_bits_of_the_same_picture(paint, here):
    assert paint("out.png") == 0
    rounded = reading.read("out.png").pixels
    for name in ("deep.png", "deep.tif"):
        assert paint(name, "--bits", "16") == 0
        pixels = reading.read(name).pixels
        assert reading.bits(name) == 16
        np.testing.assert_array_equal(np.rint(pixels), rounded)
        assert len(np.unique(pixels)) > 1000


def test_the_quality_of_the_result_and_of_checkpoints(paint, here):
    checkpoints = ["--checkpoint-output", "step-%d.jpg", "--checkpoint-iterations", "1"]
    assert paint("out.jpg", "--jpeg-quality", "30") == 0
    assert paint("out.png", "--jpeg-quality", "30", "--bits", "16", *checkpoints) == 0
    Image.new("RGB", (8, 8)).save("plain.jpg", quality=30)
    tables = []
    for name in ("plain.jpg", "out.jpg", "step-0.jpg"):
        with Image.open(name) as image:
            tables.append(image.quantization)
    assert tables[0] == tables[1] == tables[2]
    assert reading.bits("out.png") == 16


@pytest.mark.parametrize(
    "output, options, message",
    [
        (
            "out.png",
            ["--jpeg-quality", "80"],
            "--jpeg-quality needs --output or --checkpoint-output with the ending .jpg",
        ),
        (
            "out.jpg",
            ["--bits", "16"],
            "--bits 16 is for .png and .tif: out.jpg would be a JPEG file, which holds 8",
        ),
        ("out.png", ["--bits", "12"], "--bits is 12: choose 8 or 16"),
        ("out.png", ["--bits", "many"], "--bits is many: use a whole number"),
        ("out.jpg", ["--jpeg-quality", "0"], "--jpeg-quality is 0: use 1 or more"),
        ("out.jpg", ["--jpeg-quality", "101"], "--jpeg-quality is 101: use 100 or less"),
    ],
)
def test_what_does_not_fit_is_refused(paint, here, capsys, output, options, message):
    assert paint(output, *options) == 2
    assert capsys.readouterr().err == f"error: {message}\n"
    assert not (here / output).exists()


def test_a_run_passes_the_options_on_when_it_is_resumed(paint, here):
    more = ["--bits", "16", "--no-metadata", "--save-state", "run.npz"]
    assert paint("out.png", *more) == 0
    assert neural_style.main(["--resume", "run.npz", "--iterations", "3", "--quiet"]) == 0
    assert reading.bits("out.png") == 16 and metadata.read("out.png") == {}
    more = ["--bits", "8", "--output", "other.jpg", "--jpeg-quality", "50"]
    resumed = ["--resume", "run.npz", "--iterations", "4", "--quiet", *more]
    assert neural_style.main(resumed) == 0
    assert reading.bits("other.jpg") == 8 and metadata.read("other.jpg") == {}


def test_the_quality_of_a_recipe_or_a_saved_run_is_not_used_for_another_format(paint, here):
    (here / "web.args").write_text("--jpeg-quality 30\n")
    assert paint("recipe.png", "@web.args") == 0
    assert paint("out.jpg", "@web.args", "--save-state", "run.npz") == 0
    resumed = ["--resume", "run.npz", "--iterations", "3", "--quiet", "--output", "resumed.png"]
    assert neural_style.main(resumed) == 0
    for name in ("recipe.png", "resumed.png"):
        with Image.open(name) as image:
            assert image.format == "PNG"


def test_a_batch_refuses_what_a_format_does_not_have_before_it_starts(here, capsys):
    names = ["--contents", "photo.jpg", "--styles", "painting.png", "--output-dir", "results"]
    path = os.path.join("results", "photo--painting")
    assert batch.main([*names, "--jpeg-quality", "30"]) == 2
    assert capsys.readouterr().err == (
        f"error: --jpeg-quality has no effect on {path}.png: end the name in .jpg, or leave the "
        "option out\n"
    )
    assert batch.main([*names, "--name", "{content}--{style}.jpg", "--bits", "16"]) == 2
    assert capsys.readouterr().err == (
        f"error: --bits 16 is for .png and .tif: {path}.jpg would be a JPEG file, which holds 8\n"
    )


def test_recipes_and_tables_may_set_the_options():
    options = ["--bits", "16", "--jpeg-quality", "80", "--no-metadata"]
    parser.check_recipe(options)
    row = tables.own_options(" ".join(options), parser.check_table, parser.check_recipe)
    assert row.arguments == row.own == options


def test_the_python_interface_has_the_options(here):
    few = {"network": "network.mat", "iterations": 2, "precision": "float32", "optimizer": "adam"}
    few |= {"content_layers": {"relu2_1": 1}, "style_layers": {"relu1_1": 1}}
    paint_file("photo.jpg", "painting.png", "out.tif", bits=16, no_metadata=True, **few)
    assert reading.bits("out.tif") == 16 and metadata.read("out.tif") == {}
    with pytest.raises(UsageError, match=r"^jpeg_quality needs output or checkpoint_output"):
        paint_file("photo.jpg", "painting.png", "out.png", jpeg_quality=80, **few)


def test_the_options_of_the_file_are_not_those_of_the_picture(paint, here):
    """--settings-from paints the same picture, in a file of any format."""
    assert paint("out.png", "--bits", "16") == 0
    again = ["--settings-from", "out.png", "--output", "again.jpg", "--quiet"]
    assert neural_style.main([*again, "--network", "network.mat"]) == 0


@pytest.fixture
def moving(here, picture, monkeypatch):
    """Pictures of several frames, of every kind of input."""
    monkeypatch.setattr(streams, "_said", set())
    frames = [Image.fromarray(picture(seed=seed).astype("u1")) for seed in (0, 1, 2)]
    names = ("photo.gif", "painting.webp", "initial.png", "mask.gif")
    for name in names:
        kept = [frame.convert("L") for frame in frames] if name == "mask.gif" else frames
        kept[0].save(name, save_all=True, append_images=kept[1:], duration=100)
    return names


def test_only_the_first_frame_of_each_picture_is_used_and_a_line_says_so(moving, paint, capsys):
    more = ["--initial", "initial.png", "--content-mask", "mask.gif", "--styles", "painting.webp"]
    assert paint("out.png", *more, content="photo.gif", quiet=False) == 0
    error = capsys.readouterr().err
    for name in moving:
        assert error.count(f"{name} has several frames: only the first is used\n") == 1
    assert paint("out.png", *more, content="photo.gif") == 0
    assert capsys.readouterr().err == ""


def test_a_batch_reports_frames_with_the_picture(moving):
    outcome = painted(options_of("out.png", content="photo.gif"))
    assert outcome.notes == ("photo.gif has several frames: only the first is used",)


def test_a_heic_without_its_library_ends_in_one_line(paint, here, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (here / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40))
    assert paint("out.png", content="photo.heic") == 1
    assert capsys.readouterr().err == (
        "error: photo.heic is a HEIC picture, which needs pillow-heif: "
        "pip install 'neural-style-tf[heif]'\n"
    )


# Batches


def options_of(output, **more):
    """The options of a picture of a batch."""
    names = {"content": "photo.jpg", "styles": ("painting.png",), "output": output}
    few = {"network": "network.mat", "iterations": 2, "precision": "float32", "optimizer": "adam"}
    few |= {"content_layers": {"relu2_1": 1}, "style_layers": {"relu1_1": 1}, "style_loss": "mean"}
    return RunOptions.of({**names, **few, **more})


def painted(options):
    return jobs.paint(options, "CPU (1 thread)", lambda *_: None)


def test_a_batch_without_metadata_goes_on(here):
    options = options_of("out.png", no_metadata=True)
    first = painted(options)
    assert first.status == "done" and metadata.read("out.png") == {}
    again = painted(options)
    assert (again.status, again.losses) == ("kept", first.losses)
    other = painted(options_of("out.png", no_metadata=True, tv_weight=5))
    assert other.message.startswith("out.png exists, but was made with other settings")
    record = (here / ".out.png.made").read_text()
    assert not re.search("photo|painting|network", record)


def test_a_batch_without_metadata_goes_on_whatever_the_length_of_names(here):
    names = ["out.png", *(f"{'o' * count}.png" for count in (245, 246, 251)), f"{'ö' * 125}.png"]
    files = [os.path.basename(records.path_of(f"folder/{name}")) for name in names]
    assert files[:2] == [".out.png.made", f".{names[1]}.made"] and len(set(files)) == len(files)
    assert all(re.fullmatch(r"\.[0-9a-f]{64}\.made", name) for name in files[2:])
    if os.name != "nt":  # whose paths are hardly longer than such a name
        options = options_of(names[3], no_metadata=True)
        assert [painted(options).status for _ in range(2)] == ["done", "kept"]


def test_a_batch_says_so_where_a_picture_has_metadata_and_should_not(here):
    painted(options_of("out.png"))
    other = painted(options_of("out.png", no_metadata=True))
    assert other.message.startswith("out.png exists, but was made with other settings")
    assert painted(options_of("bare.png", no_metadata=True)).status == "done"
    other = painted(options_of("bare.png"))
    assert other.message.startswith("bare.png exists, but was made with other settings")


def test_a_batch_without_metadata_paints_again_what_failed_midway(here, monkeypatch):
    options = options_of("out.png", no_metadata=True)
    with monkeypatch.context() as patch:
        fail_at_evaluation(patch, 1, RuntimeError("the device has failed"))
        assert painted(options).status == "failed"
    assert records.read("out.png").keys() == {"fingerprint"}
    assert painted(options).status == "done"
    assert records.read("out.png").keys() == {"fingerprint", "losses"}


def test_a_record_holds_for_its_picture_alone(here):
    options = options_of("out.png", no_metadata=True)
    painted(options)
    shutil.copy("other.png", "out.png")
    assert painted(options).message.startswith("out.png exists, and does not say how it was made")
    for text in ("{", "[]", '{"picture": 1}', "[" * 10_000):
        (here / ".out.png.made").write_text(text)
        assert records.read("out.png") == {}


def test_a_batch_paints_nothing_again_whose_settings_are_too_long_for_a_file(here, monkeypatch):
    monkeypatch.setattr(metadata, "MAX_BYTES", 500)
    monkeypatch.setattr(streams, "_said", set())
    options = options_of("out.jpg")
    first = painted(options)
    assert first.status == "done" and metadata.read("out.jpg").keys() == {"fingerprint", "losses"}
    again = painted(options)
    assert (again.status, again.losses) == ("kept", first.losses)
    other = painted(options_of("out.jpg", tv_weight=5))
    assert other.message.startswith("out.jpg exists, but was made with other settings")
    (message,) = first.notes
    assert re.fullmatch(
        r"the settings of photo\.jpg have 0\.0 MB: only a checksum of them is kept in the picture, "
        "which --settings-from cannot use",
        message,
    )
    with pytest.raises(UserError, match=r"^the settings of out\.jpg were too long to be kept"):
        provenance.options_of("out.jpg", [])


def test_a_batch_tells_8_from_16_bits(here):
    assert painted(options_of("out.png")).status == "done"
    deep = options_of("out.png", bits=16)
    assert painted(deep).message.startswith("out.png exists, but was made with other settings")
    assert painted(options_of("deep.png", bits=16)).status == "done"
    assert painted(options_of("deep.png", bits=16)).status == "kept"


def test_a_batch_says_what_a_jpeg_has_no_room_for_and_goes_on(here, monkeypatch):
    monkeypatch.setattr(streams, "_said", set())
    read = photo_metadata.read
    long = {0xB000 + i: b"x" * 2000 for i in range(40)}
    monkeypatch.setattr(photo_metadata, "read", lambda path: read(path)._replace(taken=long))
    options = options_of("out.jpg")
    first = painted(options)
    assert first.status == "done" and painted(options).status == "kept"
    assert first.notes == (
        "out.jpg is saved without the EXIF of the photo, which has 81 kB: a JPEG holds 64 kB",
    )


def test_metadata_is_read_for_results_that_have_it(here, monkeypatch):
    assert inputs.load(options_of("out.png")).metadata.tags[0x010F] == "Maker"
    assert inputs.load(options_of("out.png", no_metadata=True)).metadata is None
    assert not writing.is_jpeg("out.png") and writing.is_jpeg("OUT.JPEG")

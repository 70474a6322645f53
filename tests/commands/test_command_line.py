"""The command line, tested by running it."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import reference
import torch_writer
from PIL import Image
from shared import COMMAND, PATIENCE, QUICK, ROOT, error_of, size_of, start, wait_for

from neural_style_tf.commands import batch, neural_style
from neural_style_tf.errors import UserError
from neural_style_tf.pictures import files, metadata, writing
from neural_style_tf.runs import outputs
from neural_style_tf.settings import BUNDLED_NETWORK

# Help


def test_help_comes_at_once_and_imports_no_tensorflow():
    code = (
        "import sys, runpy; sys.argv = ['neural_style.py', '--help']\n"
        "try: runpy.run_path('neural_style.py', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "heavy = {'tensorflow', 'numpy', 'PIL', 'imageio', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "--stylization" in result.stdout and "(default 140; adam 420)" in result.stdout


# of the published program, and of its later versions; then ours
OPTIONS = """
content styles output iterations width style-scales network content-weight style-weight
style-blend-weights tv-weight learning-rate initial print-iterations checkpoint-output
checkpoint-iterations
content-weight-blend style-layer-weight-exp preserve-colors pooling initial-noiseblend beta1 beta2
eps progress-write progress-plot overwrite
seed height size quiet debug version
"""


def test_help_has_every_option():
    result = subprocess.run([*COMMAND, "--help-all"], capture_output=True, text=True, check=True)
    assert "(default 300)" in result.stdout
    for option in OPTIONS.split():
        assert re.search(rf"^  --{option}\b", result.stdout, re.MULTILINE), option


@pytest.mark.parametrize("action", ["--list-layers", "--clear-cache"])
def test_what_is_done_instead_of_painting_refuses_unknown_options(action, monkeypatch, capsys):
    for name in ("list_layers", "clear_cache"):
        monkeypatch.setattr(neural_style, name, lambda *_: 0)
    assert neural_style.main([action, "--netwrok", "network.mat"]) == 2
    assert "unknown option --netwrok (did you mean --network?)" in capsys.readouterr().err


def test_list_layers(folder, command_line):
    result = command_line(["--list-layers", "--network", "network.mat"], folder)
    assert result.returncode == 0
    names = result.stdout.split()
    assert len(names) == 36 and names[:3] == ["conv1_1", "relu1_1", "conv1_2"]
    assert result.stderr == ""


def test_clear_cache(tmp_path):
    """Networks and the measured precision are removed; what signs saved runs is not, and neither
    is what somebody else keeps there."""
    variables = {name: str(tmp_path) for name in ("XDG_CACHE_HOME", "HOME", "LOCALAPPDATA")}
    environment = os.environ | variables
    code = "from neural_style_tf.machine import user_cache; print(user_cache.private_folder())"
    create = [sys.executable, "-c", code]
    created = subprocess.run(create, env=environment, cwd=ROOT, capture_output=True, text=True)
    cache = Path(created.stdout.strip())
    for name in ("0123456789abcdef.network", "precision-0123.txt", "signing.key", "my.npz"):
        (cache / name).write_bytes(bytes(600_000))
    for removed in ("2 files (1.2 MB)", "0 files (0.0 MB)"):
        command = [*COMMAND, "--clear-cache"]
        result = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert (result.returncode, result.stderr) == (0, "")
        assert result.stdout == f"removed {removed} from {cache}\n"
        assert {path.name for path in cache.iterdir()} == {"signing.key", "my.npz"}


def test_version():
    result = subprocess.run([*COMMAND, "--version"], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"neural-style \d+\.\d+\.\d+\n", result.stdout)


# A run


def test_a_run_writes_the_picture_and_keeps_stdout_clean(run, folder):
    result = run("--iterations", 3)
    assert result.returncode == 0 and result.stdout == ""
    assert size_of(folder / "out.png") == (45, 34)
    first, last = result.stderr.splitlines()
    assert re.fullmatch(
        r"45x34 on (CPU|GPU) \(.+\) in b?float\d+ with the network network.mat", first
    )
    assert re.fullmatch(
        r"out.png: 3 steps in \d+:\d\d, content \S+  style \S+  tv \S+  total \S+", last
    )


def test_quiet_prints_nothing(run):
    result = run("--iterations", 2, "--quiet")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_one_seed_is_the_same_bytes(run, folder):
    for output, shares in (("one.jpg", True), ("two.jpg", False)):
        result = run("--iterations", 4, "--seed", 7, output=output, shares=shares)
        assert result.returncode == 0
    assert (folder / "one.jpg").read_bytes() == (folder / "two.jpg").read_bytes()


def test_checkpoints_are_numbered_from_zero_and_the_settings_are_in_the_picture(run, folder):
    (folder / "steps").mkdir()
    options = ["--checkpoint-output", "steps/s-%03d.png", "--checkpoint-iterations", 2]
    result = run(
        "--iterations", 5, *options, "--tv-weight", 7, styles=["painting.png", "other.png"]
    )
    assert result.returncode == 0
    names = sorted(path.name for path in (folder / "steps").iterdir())
    assert names == ["s-000.png", "s-002.png", "s-004.png"]
    described = metadata.read(folder / "out.png")
    assert described["tv_weight"] == 7 and described["iterations"] == 5
    assert described["content"] == "photo.png" and described["styles"] == [
        "painting.png",
        "other.png",
    ]
    json.dumps(described)


def test_a_recipe_runs_and_checkpoints_are_named_after_the_pictures(run, folder):
    options = [f"@{ROOT}/recipes/pytorch.args", "--iterations", 3, "--checkpoint-iterations", 2]
    result = run(*options, "--checkpoint-output", "{content}_and_{style}/result_%04d.png")
    assert result.returncode == 0, result.stderr
    names = sorted(path.name for path in (folder / "photo_and_painting").iterdir())
    assert names == ["result_0000.png", "result_0002.png"]


@pytest.mark.parametrize("optimizer", ["lbfgs", "l-bfgs-b"])
def test_other_optimizers_run(run, folder, optimizer):
    layers = ["--content-layers", "block4_conv2", "--style-layers", "conv1_1=1", "relu2_2=0.5"]
    result = run("--optimizer", optimizer, "--iterations", 2, *layers)
    assert result.returncode == 0, result.stderr
    assert metadata.read(folder / "out.png")["content_layers"] == {"relu4_2": 1}


def test_losses_are_written_and_plotted_beside_the_output(run, folder):
    (folder / "results").mkdir()
    result = run("--iterations", 3, "--progress-write", "--progress-plot", output="results/a.jpg")
    assert result.returncode == 0
    with open(folder / "results" / "a-progress.csv", newline="") as file:
        assert [row["iteration"] for row in csv.DictReader(file)] == ["0", "1", "2"]
    assert size_of(folder / "results" / "a-progress.png")[0] > 500


def test_folders_with_spaces_and_other_scripts(run, folder):
    place = folder / "my pictures 絵画 é"
    place.mkdir()
    (folder / "photo.png").rename(place / "фото 1.png")
    content, output = "my pictures 絵画 é/фото 1.png", "my pictures 絵画 é/100% done.png"
    assert run("--iterations", 1, content=content, output=output).returncode == 0
    assert metadata.read(place / "100% done.png")["content"] == "фото 1.png"


def test_the_bundled_network_is_found_from_any_folder(folder, command_line):
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    arguments = ["--content", "../photo.png", "--styles", "../painting.png", *QUICK]
    result = command_line([*arguments, "--output", "out.png", "--iterations", 1], elsewhere)
    assert result.returncode == 0, result.stderr
    assert "with the bundled VGG-19" in result.stderr


def test_sizes(run, folder):
    def size(*options):
        result = run("--iterations", 1, "--overwrite", *options)
        assert result.returncode == 0
        return size_of(folder / "out.png"), result.stderr.partition(" on CPU")[0]

    assert size("--width", 90) == ((90, 68), "90x68")
    assert size("--size", 60) == ((60, 45), "60x45")
    both = ["--width", 33, "--height", 41]
    assert size(*both) == ((33, 41), "33x41, cropped from 45x34,")
    assert size(*both, "--fit", "pad") == ((33, 41), "33x41, padded from 45x34,")


def test_a_long_thin_picture_and_the_smallest_one(run, folder, picture):
    for width, height in ((1000, 20), (16, 16)):
        thin = picture(height, width).astype(np.uint8)
        Image.fromarray(thin).save(folder / "thin.png")
        Image.fromarray(thin.swapaxes(0, 1)).save(folder / "tall.png")
        result = run("--iterations", 2, "--overwrite", content="thin.png", styles=["tall.png"])
        assert result.returncode == 0
        assert size_of(folder / "out.png") == (width, height)


def test_transparency_comes_back(run, folder, picture):
    alpha = np.zeros((34, 45), np.uint8)
    alpha[:, 20:] = 255
    rgba = np.dstack([picture().astype(np.uint8), alpha])
    Image.fromarray(rgba).save(folder / "cut.png")
    for output in ("out.png", "out.webp", "out.tif"):
        assert run("--iterations", 1, content="cut.png", output=output).returncode == 0
        with Image.open(folder / output) as image:
            np.testing.assert_array_equal(np.asarray(image.getchannel("A")), alpha)


def test_preserve_colors_keeps_the_hue_of_the_photo(run, folder):
    assert run("--iterations", 5, "--preserve-colors").returncode == 0

    def chroma(name):
        with Image.open(folder / name) as image:
            return np.asarray(image.convert("YCbCr"), float)[..., 1:]

    ours, photo, painting = map(chroma, ("out.png", "photo.png", "painting.png"))
    assert np.abs(ours - photo).mean() < 0.3 * np.abs(painting - photo).mean()


def test_the_noise_of_tensorflow_is_kept_unless_asked_for(folder):
    command = [*COMMAND, "--content", "photo.png", "--styles", "painting.png", "--iterations", "1"]
    command += ["--output", "out.png", "--network", "network.mat", "--debug", *QUICK]
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "0"}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert result.returncode == 0 and len(result.stderr.splitlines()) > 2


# Wrong input: one line, the right status, before the network loads

WRONG = {
    "iterations": (["--iterations", "0"], 2, "--iterations is 0: use 1 or more"),
    "nan": (["--tv-weight", "nan"], 2, "--tv-weight is nan: use a finite number"),
    "no number": (
        ["--iterations", "x"],
        2,
        "--iterations is x: use a whole number",
    ),
    "pooling": (
        ["--pooling", "mx"],
        2,
        "--pooling 'mx' is unknown (did you mean max?): choose max, avg or l2",
    ),
    "option": (["--iteratons", "5"], 2, "unknown option --iteratons (did you mean --iterations?)"),
    "scales": (
        ["--style-scales", "1", "2"],
        2,
        "got 2 --style-scales for 1 style: pass one number per style",
    ),
    "blend": (
        ["--style-blend-weights", "0"],
        2,
        "--style-blend-weights are all 0: give at least one style a share",
    ),
    "width": (["--width", "-3"], 2, "--width is -3: use 16 or more"),
    "too small": (
        ["--style-scales", "0.1"],
        2,
        "--style-scales 0.1 makes a picture 5 wide and 3 high, but a side needs 16 pixels: "
        "use --style-scales 0.456 or more",
    ),
    "checkpoint pattern": (
        ["--checkpoint-output", "step.jpg", "--checkpoint-iterations", "5"],
        2,
        "--checkpoint-output step.jpg needs one placeholder for the step, as in "
        "--checkpoint-output step-%05d.jpg --checkpoint-iterations 50",
    ),
    "checkpoint output alone": (
        ["--checkpoint-output", "step-%d.jpg"],
        2,
        "--checkpoint-output needs --checkpoint-iterations, as in "
        "--checkpoint-output step-%05d.jpg --checkpoint-iterations 50",
    ),
    "checkpoint iterations alone": (
        ["--checkpoint-iterations", "5"],
        2,
        "--checkpoint-iterations needs --checkpoint-output, as in "
        "--checkpoint-output step-%05d.jpg --checkpoint-iterations 50",
    ),
    "checkpoint ending": (
        ["--checkpoint-output", "step-%d.jgp", "--checkpoint-iterations", "5"],
        2,
        "step-0.jgp has an unknown ending (did you mean .jpg?): "
        "end it in .jpg, .jpeg, .png, .webp, .tif, .tiff or .bmp",
    ),
    "checkpoint folder": (
        ["--checkpoint-output", "gone/off/s-%d.jpg", "--checkpoint-iterations", "5"],
        1,
        "no folder {folder}/gone for off: create it",
    ),
    "network": (["--network", "none"], 1, "no file none: check the name"),
    "no network": (
        ["--network", "photo.png"],
        1,
        "network photo.png has an unknown format: "
        "choose a MatConvNet .mat, a Keras VGG .h5, a PyTorch VGG .pth or a safetensors VGG "
        ".safetensors file",
    ),
    "initial": (["--initial", "none"], 1, "no file none: check the name"),
    "not finite": (
        ["--style-weight", "3e38"],
        1,
        "the loss became infinite or not a number after 0 steps: lower --style-weight (now 3e+38)",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_option_is_reported_in_one_line(run, folder, name):
    options, status, message = WRONG[name]
    result = run(*options, "--quiet")
    assert error_of(result, status).removesuffix(" (see --help)") == message.format(
        folder=os.path.realpath(folder)
    ).removesuffix(" (see --help)")
    assert not (folder / "out.png").exists()


def test_a_missing_required_option_is_reported(folder):
    result = subprocess.run([*COMMAND, "--content", "a"], capture_output=True, text=True)
    assert error_of(result, 2) == (
        "the following arguments are required: --styles, --output (see --help)"
    )


def test_broken_pictures_are_reported_in_one_line(run, folder):
    (folder / "empty.png").touch()
    (folder / "text.png").write_text("hello")
    (folder / "cut.png").write_bytes((folder / "photo.png").read_bytes()[:700])
    (folder / "folder.png").mkdir()
    messages = {
        "none.bmp": "no file none.bmp: check the name",
        "phot.png": "no file phot.png (did you mean photo.png?): check the name",
        "empty.png": "empty.png is empty: get a fresh copy",
        "folder.png": "folder.png is a folder: name a file inside it",
        "text.png": "text.png is not a picture, or a broken one: "
        "use a JPEG, PNG, WebP, TIFF, BMP, GIF, AVIF or HEIC file",
    }
    for name, message in messages.items():
        assert error_of(run(content=name), 1) == message
    assert error_of(run(styles=["painting.png", "cut.png"]), 1).startswith(
        "cut.png is broken or cut short ("
    )
    message = "photo.png has 0.0 megapixels, more than 0.001: shrink it, or raise --max-megapixels"
    assert error_of(run("--max-megapixels", 0.001), 1) == message


def test_outputs_that_cannot_be_are_reported_before_the_run(run, folder):
    assert error_of(run(output="out.jgp"), 2) == (
        "out.jgp has an unknown ending (did you mean .jpg?): "
        "end it in .jpg, .jpeg, .png, .webp, .tif, .tiff or .bmp"
    )
    assert error_of(run(output="gone/out.png"), 1) == (
        f"no folder {os.path.realpath(folder)}/gone for out.png: create it"
    )
    assert error_of(run("--overwrite", output="photo.png"), 2) == (
        "the output photo.png is also an input: choose another name"
    )


def test_an_existing_output_is_kept_unless_overwriting_is_asked_for(run, folder):
    (folder / "out.png").write_bytes(b"precious")
    message = "out.png exists: choose another name, or --overwrite to replace it"
    assert error_of(run("--iterations", 1), 1) == message
    assert (folder / "out.png").read_bytes() == b"precious"
    assert run("--iterations", 1, "--overwrite").returncode == 0
    assert size_of(folder / "out.png") == (45, 34)


def test_an_existing_checkpoint_is_kept_unless_overwriting_is_asked_for(run, folder):
    (folder / "step-4.png").write_bytes(b"precious")
    options = ["--iterations", 5, "--checkpoint-output", "step-%s.png"]
    options += ["--checkpoint-iterations", 2]
    message = "step-4.png exists: choose another name, or --overwrite to replace it"
    assert error_of(run(*options), 1) == message


@pytest.mark.parametrize(
    "pattern, name",
    [
        ("a%s.png", "a7.png"),
        ("a%d.png", "a7.png"),
        ("a%05d.png", "a00007.png"),
        ("a{}.png", "a7.png"),
        ("a{:05}.png", "a00007.png"),
        ("100%/{:03d}.png", "100%/007.png"),
    ],
)
def test_checkpoint_names(pattern, name):
    assert outputs.checkpoint_path(pattern, 7) == name


# Interruption


CHECKPOINTS = ["--checkpoint-output", "c-%d.png", "--checkpoint-iterations", "50000"]


def test_ctrl_c_saves_the_picture_as_it_stands(folder):
    process = start(folder, *CHECKPOINTS)
    wait_for((folder / "c-0.png").exists)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert size_of(folder / "out.png") == (45, 34)
    assert "stopping after this step (Ctrl-C again leaves at once)" in stderr
    assert re.search(r"^out.png: \d+ of 100000 steps in ", stderr, re.MULTILINE)


def test_ctrl_c_before_the_first_step_leaves_plainly(folder):
    process = start(folder)
    wait_for(lambda: list(folder.glob(f"{files.LOCK}*")))  # it begins to import TensorFlow
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130 and not (folder / "out.png").exists()
    assert stderr == "interrupted before the first step: nothing to save\n"


def test_ctrl_c_after_sigterm_still_saves(start, folder):
    """The two may arrive in either order: only a second Ctrl-C leaves at once."""
    process = start(pauses=True)
    wait_for((folder / "here").exists)
    process.send_signal(signal.SIGSTOP)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGCONT)
    _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode in (130, 143)
    assert size_of(folder / "out.png") == (45, 34), stderr


def test_a_second_ctrl_c_leaves_at_once():
    """Even while Python waits for a step: here for many minutes of hashing, which heeds no
    signal."""
    code = (
        "import hashlib, signal\n"
        "from neural_style_tf.runs.stopping import Stop\n"
        "assert signal.getsignal(signal.SIGINT) is signal.default_int_handler\n"
        "with Stop(lambda text: print(text, flush=True)) as stop:\n"
        "    stop.check()\n"
        "    print('ready', flush=True)\n"
        "    hashlib.pbkdf2_hmac('sha256', b'', b'', 2_000_000_000)\n"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline().startswith("stopping after this step")
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=PATIENCE) == 130
        finally:
            process.kill()


def test_a_folder_that_vanishes_does_not_cost_the_picture(start, folder):
    """The result goes to the temporary folder, which is named."""
    place = folder / "place"
    place.mkdir()
    options = ["--output", "place/out.png", *CHECKPOINTS]
    process = start(*options, iterations=60, pauses=True)
    wait_for((folder / "here").exists)
    shutil.rmtree(place)  # with the claim to the output, which is in it
    (folder / "on").touch()
    _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "error: cannot write place/out.png (No such file or directory)" in stderr
    saved = re.search(r"^(/.+/out.png): 60 steps in ", stderr, re.MULTILINE)[1]
    assert size_of(saved) == (45, 34)
    os.remove(saved)


# The real network


def test_end_to_end_with_the_bundled_network(run, folder):
    """From noise the loss falls at least tenfold."""
    options = ["--network", BUNDLED_NETWORK, "--initial-noiseblend", 1]
    options += ["--optimizer", "lbfgs", "--style-loss", "wasserstein"]
    options += ["--iterations", 20, "--size", 64, "--progress-write"]
    result = run(*options, output="out.jpg", quick=[])
    assert result.returncode == 0, result.stderr
    with open(folder / "out-progress.csv", newline="") as file:
        totals = [float(row["total"]) for row in csv.DictReader(file)]
    assert totals[-1] < totals[0] / 10
    assert size_of(folder / "out.jpg") == (64, 48)


@pytest.mark.parametrize("quiet", [[], ["--quiet"]])
def test_a_checkpoint_that_cannot_be_written_is_reported_and_the_run_goes_on(
    folder, monkeypatch, capsys, quiet
):
    save = writing.save

    def full(path, *arguments):
        if "step" in str(path):
            raise UserError(f"cannot write {path} (No space left on device): make room there")
        save(path, *arguments)

    monkeypatch.chdir(folder)
    monkeypatch.setattr(writing, "save", full)
    options = ["--content", "photo.png", "--styles", "painting.png", "--output", "out.png"]
    options += ["--network", "network.mat", "--iterations", "4", *quiet]
    options += ["--checkpoint-output", "step-%d.png", "--checkpoint-iterations", "3"]
    assert neural_style.main(options) == 1
    stderr = capsys.readouterr().err
    for step in (0, 3):
        assert f"error: cannot write step-{step}.png (No space left on device)" in stderr
    with Image.open("out.png") as image:
        assert image.size == (45, 34)


@pytest.mark.parametrize("program", [neural_style, batch])
def test_whatever_is_wrong_is_one_line(program, tmp_path, monkeypatch, capsys):
    """Here half of a surrogate pair, which a name may hold on Windows."""
    monkeypatch.chdir(tmp_path)
    inputs = ["--content", "a", "--output", "o.png"]
    if program is batch:
        inputs = ["--contents", "a", "--output-dir", "o"]
    assert program.main([*inputs, "--styles", "b", "@\ud83d"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ")


def test_the_same_weights_in_another_format_paint_the_same_picture(run, folder, weights):
    state = {}
    for name, (kernel, bias) in weights.items():
        state |= {f"{name}.kernel": kernel, f"{name}.bias": bias}
    about = {"mean_pixel": json.dumps(reference.MEAN_PIXEL), "scale": "[1, 1, 1]"}
    (folder / "same.safetensors").write_bytes(torch_writer.safetensors(state, about))
    assert run("--iterations", 3).returncode == 0
    result = run("--iterations", 3, "--network", "same.safetensors", output="same.png")
    assert "with the network same.safetensors (normalized as its file says)" in result.stderr
    pictures = [np.asarray(Image.open(folder / name), int) for name in ("out.png", "same.png")]
    assert np.abs(pictures[0] - pictures[1]).max() <= 1

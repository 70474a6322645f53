"""Many pictures: each as one alone, whatever breaks, dies, or runs beside."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from galleries import EVERY, NAMES, OPTIONS, assert_as_alone, one_quick, start
from PIL import Image
from shared import PATIENCE, ROOT, wait_for

from neural_style_tf.batch import batches, jobs
from neural_style_tf.batch import options as batch_options
from neural_style_tf.batch.options import BatchOptions
from neural_style_tf.batch.scheduling import Event
from neural_style_tf.commands import batch as batch_command
from neural_style_tf.commands import neural_style, parser
from neural_style_tf.errors import UsageError, UserError
from neural_style_tf.pictures import files, metadata, reading, writing

ONE_PICTURE = [  # as neural_style.py paints it
    *("--content", "photos/one.png", "--styles", "paintings/dots.png", "--output", "out.png"),
    *map(str, OPTIONS),
]


def test_a_broken_picture_fails_its_pairs_and_no_other(batch, folders, alone):
    (folders / "photos/three.jpg").write_bytes(b"no picture")
    done = batch("--workers", 2)
    assert done.returncode == 1
    assert done.stderr.count("three.jpg is not a picture") == 2
    assert "4 painted, 2 failed in " in done.stderr
    assert_as_alone(folders, alone)
    pictures = json.loads((folders / "gallery/gallery.json").read_text())["pictures"]
    assert [picture["status"] for picture in pictures] == ["done"] * 2 + ["failed"] * 2 + [
        "done"
    ] * 2
    assert pictures[0]["losses"]["total"] > 0 and pictures[0]["settings"]["iterations"] == 6
    assert (folders / "gallery/gallery.html").exists()
    with Image.open(folders / "gallery/gallery.jpg") as sheet:
        assert sheet.width > 45 and sheet.height > 3 * 34

    # again: nothing is left to do but what failed, and what was stopped midway
    before = {name: (folders / "gallery" / name).stat().st_mtime_ns for name in NAMES}
    (folders / "photos/three.jpg").unlink()
    half, whole = folders / "gallery" / NAMES[0], (folders / "gallery" / NAMES[0]).read_bytes()
    described = metadata.read(half)
    del described["losses"]
    writing.save(half, reading.read(half).pixels, metadata=described)
    done = batch("--workers", 1, "--threads", 1)
    assert done.returncode == 0 and "1 painted, 3 already done" in done.stderr
    assert half.read_bytes() == whole
    after = {name: (folders / "gallery" / name).stat().st_mtime_ns for name in NAMES}
    assert [name for name in NAMES if after[name] != before[name]] == NAMES[:1]

    # other settings would cost pictures
    done = batch("--tv-weight", 5)
    assert (
        done.returncode == 1
        and done.stderr.count("was made with other settings: use --overwrite") == 4
    )
    one_pair = ["--contents", "photos/one.png", "--styles", "paintings/dots.png"]
    done = batch(*one_pair, "--tv-weight", 5, "--overwrite", "--quiet")
    assert done.returncode == 0 and done.stderr == ""
    assert metadata.read(half)["tv_weight"] == 5


def test_a_row_of_a_table_names_a_bundled_recipe_as_the_command_line_does():
    row = batch_command.read_row("--recipe prisma --size 64")
    assert row == batch_command.read_row("@recipes/prisma.args --size 64")
    with pytest.raises(UserError, match="unknown recipe prisme"):
        batch_command.read_row("--recipe prisme")


def test_a_table_names_pairs_and_their_options(batch, folders, alone):
    (folders / "pairs.csv").write_text(
        "content,styles,output,options\n"
        "photos/one.png,paintings/dots.png,,\n"
        "photos/one.png,paintings/dots.png;paintings/lines.png,both.jpg,\n"
        "photos/one.png,paintings/lines.png,loose.png,--content-weight 1\n"
    )
    done = batch("--pairs", "pairs.csv", "--output-dir", "gallery", "--workers", 1, "--threads", 1)
    assert done.returncode == 0
    assert_as_alone(folders, alone, NAMES[:1])
    assert metadata.read(folders / "gallery/both.jpg")["styles"] == ["dots.png", "lines.png"]
    expected = alone(folders, "photos/one.png", "paintings/lines.png", "--content-weight", 1)
    assert (folders / "gallery/loose.png").read_bytes() == expected


WRONG = {
    "no file nowhere": ["--contents", "nowhere"],
    "no picture in empty": ["--contents", "empty"],
    "--workers is 0: use auto, or 1 or more": ["--workers", "0"],
    "--name {x}.png has an unknown field": ["--name", "{x}.png"],
    "would both be gallery/one.png: use a --name": ["--name", "{content}.png"],
    "one.bmp could not keep its settings": ["--name", "{content}.bmp", "--styles", "other.png"],
    ".gif has an unknown ending": ["--name", "{content}.gif", "--styles", "other.png"],
    "--preview is not available in batch.py": ["--preview"],
    "--checkpoint-output a-%d.jpg would be one file": ["--checkpoint-output", "a-%d.jpg"],
    "--iterations is 0: use 1 or more": ["--iterations", "0"],
    "unknown option --iteratons (did you mean --iterations?)": ["--iteratons", "5"],
    "--pairs names photos and paintings": ["--pairs", "pairs.csv", *EVERY],
    "pairs.csv has no column styles": ["--pairs", "pairs.csv", "--output-dir", "gallery"],
    "gallery/gallery.png is the gallery's own name": ["--name", "gallery.png"],
    "requires --shared-folder": ["--cluster", "tcp://127.0.0.1:9", "--save-states"],
    "--workers is for this machine": ["--cluster", "tcp://127.0.0.1:9", "--workers", "2"],
    "--job-timeout is 0.0: use a number above 0": ["--job-timeout", "0"],
    "--job-timeout is nan: use a finite number": ["--job-timeout", "nan"],
    "--job-timeout is inf: use a finite number": ["--job-timeout", "inf"],
    "--cluster-tls requires --cluster": ["--cluster-tls", "a", "b", "c"],
    "nothing to paint": ["--output-dir", "gallery"],
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_usage_is_reported_before_anything_starts(folders, message, capsys, monkeypatch):
    from neural_style_tf.commands import batch

    (folders / "empty").mkdir()
    (folders / "pairs.csv").write_text("content\nphotos/one.png\n")
    monkeypatch.chdir(folders)
    arguments = WRONG[message]
    is_whole = message.startswith(("nothing", "pairs.csv", "--pairs"))
    arguments = arguments if is_whole else [*EVERY, "--network", "network.mat", *arguments]
    try:
        status = batch.main(arguments)
    except SystemExit as error:
        status = error.code
    errors = capsys.readouterr().err
    assert status == 2 and errors.startswith("error: ") and message in errors
    assert errors.count("\n") == 1 and not list(folders.glob("gallery/*"))


def test_more_processes_than_the_system_can_wait_for_are_refused(monkeypatch):
    monkeypatch.setattr(batch_options, "MAX_PROCESSES", 60)
    paths = {"contents": ["photo.png"], "styles": ["painting.png"], "output_dir": "gallery"}
    with pytest.raises(UserError, match=r"^--workers is 61: use 60 or fewer, this system cannot"):
        BatchOptions(**paths, workers="61")
    assert BatchOptions(**paths, workers="60").workers == "60"
    assert BatchOptions(**paths, workers="61", cluster="local").workers == "61"


def test_processes_that_die_or_hang_are_reported(folders, capsys, monkeypatch):
    from neural_style_tf.batch import processes
    from neural_style_tf.commands import batch

    def run(pictures, *_, timeout, **__):
        assert timeout == 90
        yield from (Event(0, 0, "died"), Event(1, 0, "hung"))

    monkeypatch.chdir(folders)
    monkeypatch.setattr(processes, "run", run)
    one_photo = ["--contents", "photos/one.png", "--network", "network.mat", "--job-timeout", "90"]
    assert batch.main([*EVERY, *one_photo]) == 1
    lines = capsys.readouterr().err.splitlines()
    died = "in the last one, the process that painted it died"
    hung = "in the last one, no step was reported for 90 seconds (--job-timeout)"
    assert f"1/2 error: gave up after 3 attempts: {died}" in lines
    assert f"2/2 error: gave up after 3 attempts: {hung}" in lines


def workers_of(batch):
    """The processes that a batch has started and that paint by now, for they have many threads."""
    workers = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
            parent, threads = int(fields[1]), int(fields[17])
            if parent == batch.pid and threads > 3:
                workers.append(int(name))
    return workers


@pytest.mark.posix
def test_a_killed_worker_costs_nothing_but_time(folders, alone):
    process = start(folders, "--workers", 2, "--save-states")
    os.kill(wait_for(lambda: workers_of(process))[0], signal.SIGKILL)
    assert process.wait(timeout=PATIENCE) == 0, process.errors()
    assert_as_alone(folders, alone)
    assert not list(folders.glob("gallery/*.npz"))


def test_a_picture_goes_on_from_its_state(folders, monkeypatch):
    monkeypatch.chdir(folders)
    arguments = [*ONE_PICTURE, "--save-state", "out.png.npz", "--quiet"]
    assert neural_style.main(arguments) == 0
    resumed = jobs._resumed(parser.parse(arguments, {}))
    assert resumed.resumed.state["iterations"] == 6 and resumed.settings.scales == "1"
    assert jobs._resumed(parser.parse([*arguments, "--iterations", "3"], {})) is None
    assert jobs._resumed(parser.parse([*arguments, "--tv-weight", "3"], {})) is None


def test_only_the_same_options_go_on_with_a_picture_that_was_stopped(folders, monkeypatch):
    monkeypatch.chdir(folders)
    arguments = [*ONE_PICTURE, "--quiet"]
    assert neural_style.main(arguments) == 0
    described = metadata.read("out.png")
    assert jobs.existing(parser.parse(arguments, {})).status == "kept"
    del described["losses"]
    writing.save("out.png", reading.read("out.png").pixels, metadata=described)
    assert jobs.existing(parser.parse(arguments, {})) is None
    with pytest.raises(UserError, match="was made with other settings"):
        jobs.existing(parser.parse([*arguments, "--seed", "3"], {}))


def test_photos_painted_at_one_size_are_of_one_kind_and_the_largest_are_first(
    folders, picture, monkeypatch
):
    from neural_style_tf.commands import batch

    Image.fromarray(picture(68, 90).astype("u1")).save(folders / "photos/three.png")
    Image.fromarray(picture(40, 40).astype("u1")).save(folders / "photos/square.png")
    (folders / "photos/broken.png").write_bytes(b"broken")
    painted = {}

    def run(jobs, *_, kinds, **__):
        painted["jobs"] = [(Path(job.content).stem, Path(job.styles[0]).stem) for job in jobs]
        painted["kinds"] = [(kind.height, kind.width) for kind in kinds]
        yield from ()

    monkeypatch.chdir(folders)
    monkeypatch.setattr(batches.processes, "run", run)
    batch.main([*EVERY, *map(str, OPTIONS), "--size", "32"])
    order = {"square": (32, 32), "one": (24, 32), "three": (24, 32), "two": (32, 24)}
    order["broken"] = (0, 0)
    assert painted["jobs"] == [(photo, style) for photo in order for style in ("dots", "lines")]
    assert painted["kinds"] == [size for size in order.values() for _ in range(2)]


@pytest.mark.parametrize(
    ("has_gpu", "more", "forks"), [(0, [], 1), (1, [], 0), (0, ["--debug"], 0)]
)
def test_workers_are_forked_where_that_is_safe(folders, has_gpu, more, forks, monkeypatch):
    from neural_style_tf.commands import batch

    calls = []
    monkeypatch.chdir(folders)
    monkeypatch.setattr(batches.devices, "has_gpu", lambda _: has_gpu)
    monkeypatch.setattr(
        batches.processes, "run", lambda *_, **how: calls.append(how) or (_ for _ in ())
    )
    batch.main([*EVERY, *map(str, OPTIONS), *more])
    assert (calls[0]["preload"] == "neural_style_tf.batch.preload") is bool(forks)


def test_two_batches_in_one_folder_share_the_work(folders, alone):
    both = [start(folders, "--workers", 1, "--threads", 1) for _ in range(2)]
    errors = [process.communicate(timeout=PATIENCE)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], errors
    painted = [int((re.search(r"(\d+) painted", text) or [0, 0])[1]) for text in errors]
    assert sum(painted) == 4
    assert_as_alone(folders, alone)


@pytest.mark.posix
@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_ctrl_c_keeps_what_is_done(folders, alone, name, status):
    process = start(folders, *one_quick(folders), "--workers", 1, "--threads", 1)
    wait_for(lambda: list(folders.glob("gallery/*.png")))
    os.killpg(process.pid, getattr(signal, name))
    errors = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == status and "not started" in errors
    done = [path.name for path in folders.glob("gallery/*--*.png")]
    assert done == NAMES[:1]
    assert not list(folders.glob("gallery/.*"))
    assert_as_alone(folders, alone, done)
    assert len(json.loads((folders / "gallery/gallery.json").read_text())["pictures"]) == len(done)


def test_a_claim_belongs_to_a_process_until_it_ends(tmp_path):
    path = tmp_path / "picture.png"
    code = (
        "import sys\nfrom neural_style_tf.pictures import files\n"
        f"with files.claim({str(path)!r}) as ours: print(ours, flush=True)"
    )
    code += "; sys.stdin.read()"
    with files.claim(path) as ours, files.claim(tmp_path / "other.png") as other:
        assert ours and other
        other_process = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        assert other_process.stdout == "False\n"
    assert not list(tmp_path.iterdir())
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    holder = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, **pipes)
    assert holder.stdout.readline() == b"True\n"
    with files.claim(path) as ours:
        assert not ours
    holder.kill()
    holder.communicate()
    with files.claim(path) as ours:
        assert ours


def test_how_often_states_are_saved_has_an_effect_with_save_states(folder, monkeypatch):
    monkeypatch.chdir(folder)
    arguments = ["--contents", "photo.png", "--styles", "painting.png", "--output-dir", "results"]
    arguments += ["--state-iterations", "2"]
    (pair,), _ = batch_command.read([*arguments, "--save-states"])
    assert pair.options.state_iterations == 2
    assert pair.options.save_state == f"{pair.output}.state.npz"
    with pytest.raises(UsageError, match=r"^state_iterations needs resume or save_state$"):
        batch_command.read(arguments)

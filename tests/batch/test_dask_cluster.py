"""A Dask cluster of two worker processes, one of which is killed while it paints."""

import contextlib
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from typing import NamedTuple

import numpy as np
import pytest
from forked import Forked, run_dask_scheduler, run_dask_worker
from galleries import NAMES, assert_as_alone, one_quick, start
from PIL import Image
from shared import PATIENCE, ROOT, wait_for

from neural_style_tf.batch import dask_cluster, dask_connection, jobs, parcels, scheduling, tls
from neural_style_tf.errors import UserError
from neural_style_tf.runs.options import RunOptions
from neural_style_tf.settings import Settings

pytest.importorskip("distributed", reason="the cluster needs distributed")
SILENT_SECONDS = 10  # as no worker is, on a machine that has much else to do, unless it hangs


class Cluster(NamedTuple):
    address: str  # of the scheduler
    scheduler: Forked
    workers: list[Forked | subprocess.Popen]  # each of one thread


@contextlib.contextmanager
def started(folder, *options, workers=2, nanny=False):
    """A scheduler and its workers. options: of each of them. nanny: whether the workers have one;
    then they start from scratch, or else they are forked from a process that has imported
    TensorFlow."""
    with contextlib.ExitStack() as stack:
        place = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
        scheduler = Forked(run_dask_scheduler, [*options, *place], folder)
        stack.callback(scheduler.kill)
        pattern = re.compile(r"((?:tcp|tls)://127\S+:\d+)\n")
        address = wait_for(lambda: pattern.search(scheduler.errors()))[1]
        worker_options = [address, *options, *WORKER_OPTIONS]
        processes = []
        for _ in range(workers):
            if nanny:
                command = [sys.executable, "-m", "distributed.cli.dask_worker", *worker_options]
                environment = os.environ | {"PYTHONPATH": PATHS}
                options = {"cwd": folder, "env": environment, "stderr": subprocess.DEVNULL}
                processes.append(subprocess.Popen([*command, "--nanny"], **options))
                stack.callback(end, processes[-1], nanny)
            else:
                arguments = [*worker_options, "--no-nanny"]
                processes.append(Forked(run_dask_worker, arguments, folder))
                stack.callback(processes[-1].kill)
        yield Cluster(address, scheduler, processes)


PATHS = os.pathsep.join(map(str, [ROOT, ROOT / "tests", ROOT / "tests/batch"]))
WORKER_OPTIONS = ["--nthreads", "1", "--no-dashboard", "--memory-limit", "0"]


def end(process, nanny=False):
    if nanny:
        process.terminate()  # it ends its worker, too
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=PATIENCE)
    process.kill()
    process.wait()


@pytest.fixture
def cluster(tmp_path):
    """For a test that ends its processes."""
    with started(tmp_path) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def shared_cluster(tmp_path_factory):
    """For tests that leave it as it was. It has one worker."""
    with started(tmp_path_factory.mktemp("cluster"), workers=1) as cluster:
        yield cluster


def test_a_worker_killed_in_the_middle_costs_its_own_picture_only(cluster, folders, alone, batch):
    address, _, workers = cluster
    process = start(folders, "--cluster", address, "--threads", 1)
    wait_for(lambda: list(folders.glob("gallery/*--*.png")))
    os.kill(workers[0].pid, signal.SIGKILL)
    errors = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 0 and "4 painted in" in errors, errors
    assert_as_alone(folders, alone)

    # again, in a folder that all machines see, where states are saved, too
    (folders / "gallery" / NAMES[0]).unlink()
    (folders / "photos/three.jpg").write_bytes(b"no picture")
    shared = ["--cluster", address, "--threads", 1, "--shared-folder", "--save-states"]
    done = batch(*shared)
    assert done.returncode == 1 and "1 painted, 3 already done, 2 failed in" in done.stderr
    assert done.stderr.count("three.jpg is not a picture") == 2
    assert_as_alone(folders, alone)


def test_a_cluster_on_this_machine(folders, alone, batch):
    done = batch("--cluster", "local", "--contents", "photos/one.png", "--threads", 1)
    assert done.returncode == 0 and "2 painted in" in done.stderr
    assert_as_alone(folders, alone, NAMES[:2])


def test_what_is_missing_is_reported_in_one_line(monkeypatch):
    with pytest.raises(UserError, match="no scheduler at tcp"):
        monkeypatch.setattr(dask_connection, "CONNECT_SECONDS", 1)
        list(dask_cluster.run([], "tcp://127.0.0.1:9", False))
    monkeypatch.setattr(dask_cluster, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"needs Dask: pip install 'neural-style-tf\[cluster\]'"):
        list(dask_cluster.run([], "local", False))


def test_a_scheduler_that_dies_is_reported_in_one_line(cluster, folders):
    process = start(folders, *one_quick(folders), "--cluster", cluster.address, "--threads", 1)
    wait_for(lambda: list(folders.glob("gallery/*--*.png")))
    for worker in cluster.workers:
        os.kill(worker.pid, signal.SIGSTOP)  # it would paint on, for as long as the batch waits
    cluster.scheduler.kill()
    errors = process.communicate(timeout=PATIENCE)[1]
    lines = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert process.returncode == 1 and len(lines) == 1, errors
    assert re.match(
        r"error: the scheduler has gone \(.+\): start it, and the batch, again", lines[0]
    )
    assert "Traceback" not in errors and "distributed" not in errors
    assert re.search(r"\d painted, \d not started in ", errors), errors
    assert (folders / "gallery/gallery.html").exists()


def options_of(folder, count):
    """Jobs for any `work`, each with its number as the seed; each names the folder."""
    photo = folder / "photo.png"
    photo.write_bytes(b"no picture is read")
    paths = {"content": photo, "styles": [photo], "output": folder / "out.png", "threads": 1}
    return [RunOptions(**paths, settings=Settings(seed=number)) for number in range(count)]


def hanging(parcel, topic, number):
    """Hangs at the first try of job 1 and at each of job 2. In a worker."""
    from distributed import get_worker

    worker, options = get_worker(), parcel.options
    worker.log_event(topic, (number, worker.address, None))
    job = options.settings.seed
    tried = os.path.join(os.path.dirname(options.output), str(job))
    if job == 2 or (job == 1 and not os.path.exists(tried)):
        open(tried, "a").close()
        time.sleep(600)
    return jobs.Outcome("done", str(job)), None


def hung(folder, nanny, numbers, monkeypatch, tries):
    """What becomes of the jobs of these numbers, and what is noted."""
    monkeypatch.setattr(scheduling, "TRIES", tries)
    monkeypatch.setattr(dask_cluster, "RESTART_SECONDS", PATIENCE)
    jobs, notes = options_of(folder, 4), []
    jobs = [jobs[number] for number in numbers]
    with started(folder, workers=1 if nanny else 2, nanny=nanny) as cluster:
        options = {"note": notes.append, "work": hanging, "timeout": SILENT_SECONDS}
        events = list(dask_cluster.run(jobs, cluster.address, True, **options))
    ends = [event for event in events if event.kind in ("done", "hung", "died")]
    outcomes = {
        numbers[event.job]: event.value.message if event.value else "hung" for event in ends
    }
    assert len(outcomes) == len(ends)
    return outcomes, [note for note in notes if note != "waiting for workers"]


@pytest.mark.slow
def test_a_worker_that_hangs_begins_again_and_so_does_its_job(tmp_path, monkeypatch):
    outcomes, notes = hung(tmp_path, True, [0, 1, 3], monkeypatch, tries=2)
    assert outcomes == {0: "0", 1: "1", 3: "3"} and notes == []


def test_a_worker_that_hangs_and_cannot_begin_again_is_left_out(tmp_path, monkeypatch):
    outcomes, notes = hung(tmp_path, False, [0, 1, 3], monkeypatch, tries=2)
    assert outcomes == {0: "0", 1: "1", 3: "3"}
    message = r"tcp://\S+ hangs and cannot be restarted: left out, end it yourself"
    assert len(notes) == 1 and re.fullmatch(message, notes[0])


def test_a_job_that_hangs_at_every_try_is_given_up(tmp_path, monkeypatch):
    outcomes, _ = hung(tmp_path, False, [0, 2, 3], monkeypatch, tries=1)
    assert outcomes == {0: "0", 2: "hung", 3: "3"}


def lying(parcel, topic, number):
    """Sends back what no worker of ours would. In a worker."""
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((4, 5, 3), "u1")).save(buffer, "PNG")
    png, outcome = buffer.getvalue(), jobs.Outcome("done")
    return [
        (outcome, b"#!/bin/sh"),
        (outcome, png[:-20]),
        (outcome, png + bytes(parcels.BYTES_BESIDE_PIXELS + 1000)),
        (outcome, None),
        (outcome._replace(message=1), png),
        (outcome._replace(losses={"total": "x"}), png),
        (outcome._replace(settings={"a": b""}), png),
        (outcome._replace(seconds=float("nan")), png),
        (outcome._replace(status="best"), png),
        (("done", "", 0.0, {}, {}), png),
        "done",
        None,
    ][parcel.options.settings.seed]


def test_anything_but_a_result_is_not_written(shared_cluster, tmp_path):
    expected = [
        "out.png: the worker sent back something other than a PNG file",
        "out.png: the worker sent back something other than a PNG file",
        "out.png: the worker sent back 17 MB for 0.0 megapixels: look at that worker",
        *["out.png: the worker sent back no result of this program: install the same"] * 9,
    ]
    options = options_of(tmp_path, len(expected))
    events = list(dask_cluster.run(options, shared_cluster.address, False, work=lying))
    outcomes = {event.job: event.value for event in events if event.kind == "done"}
    for number, message in enumerate(expected):
        assert outcomes[number].status == "failed" and message in outcomes[number].message
        assert "\n" not in outcomes[number].message
    assert not (tmp_path / "out.png").exists()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Paths of an authority's certificate, a certificate that it has signed, and its key."""
    if not shutil.which("openssl"):
        pytest.skip("makes certificates with openssl, which is not installed")
    folders = [
        tmp_path_factory.mktemp(name, numbered=False) for name in ("certificates", "strangers")
    ]
    for folder in folders:
        make_certificates(folder)
    return [str(folders[0] / name) for name in ("ca.pem", "cert.pem", "key.pem")]


def make_certificates(folder):
    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl("req", "-x509", *new, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=authority")
    openssl("req", *new, "-keyout", "key.pem", "-out", "request.pem", "-subj", "/CN=machine")
    sign = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"]
    openssl("x509", "-req", "-in", "request.pem", *sign, "-out", "cert.pem")
    openssl("ec", "-aes128", "-passout", "pass:secret", "-in", "key.pem", "-out", "locked.pem")


def test_a_cluster_by_tls(tmp_path, folders, alone, batch, certificates):
    strangers = [path.replace("certificates", "strangers") for path in certificates]
    authority, certificate, key = certificates
    options = ["--tls-ca-file", authority, "--tls-cert", certificate, "--tls-key", key]
    with started(tmp_path, "--protocol", "tls", *options, workers=1) as cluster:
        assert cluster.address.startswith("tls://")
        one_photo = ["--contents", "photos/one.png", "--threads", 1, "--cluster", cluster.address]
        done = batch(*one_photo, "--cluster-tls", *certificates)
        assert done.returncode == 0 and "2 painted in" in done.stderr, done.stderr
        assert_as_alone(folders, alone, NAMES[:2])
        shutil.rmtree(folders / "gallery")
        done = batch(*one_photo)
        assert done.returncode == 2 and first_line(done) == (
            f"error: --cluster {cluster.address} is encrypted: it requires --cluster-tls"
        )
        done = batch(*one_photo, "--cluster-tls", *strangers)
        assert done.returncode == 1
        assert first_line(done).startswith(f"error: no scheduler at {cluster.address} (")
        done = batch(*one_photo[:-1], cluster.address.replace("tls:", "tcp:"))
        assert done.returncode == 1 and first_line(done).startswith("error: no scheduler at tcp://")


def first_line(done):
    """The only line, besides its summary, of a batch that paints nothing."""
    first, *others = done.stderr.splitlines()
    assert [line[:9] for line in others] == ["2 not sta"], done.stderr
    return first


def test_wrong_tls_files_are_reported_before_anything_starts(certificates, tmp_path):
    authority, certificate, key = certificates
    locked = key.replace("key.pem", "locked.pem")
    missing, junk = str(tmp_path / "none.pem"), str(tmp_path / "junk.pem")
    (tmp_path / "junk.pem").write_text("junk")
    wrong = {
        (None, *certificates): "--cluster-tls requires --cluster",
        ("local", *certificates): "--cluster-tls is for other machines: leave it out with",
        ("tcp://a:1", *certificates): "--cluster tcp://a:1 is not encrypted: with --cluster-tls",
        ("a:1", *certificates): "--cluster a:1 is not encrypted: with --cluster-tls",
        ("tls://a:1", missing, certificate, key): f"no file {missing}",
        ("tls://a:1", authority, certificate, missing): f"no file {missing}",
        ("tls://a:1", junk, certificate, key): f"{junk} holds no certificate of an authority (",
        ("tls://a:1", authority, junk, key): f"{junk} and {key} are not a certificate and its key",
        ("tls://a:1", authority, authority, key): f"{authority} and {key} are not a certificate",
        ("tls://a:1", authority, certificate, locked): f"{certificate} and {locked} are not a",
    }
    for (address, *paths), message in wrong.items():
        with pytest.raises(UserError) as caught:
            tls.check(address, paths)
        assert str(caught.value).startswith(message) and "\n" not in str(caught.value)
    tls.check("tls://a:1", certificates)


def test_a_cluster_here_leaves_the_environment_as_it_was(tmp_path, monkeypatch):
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "7")
    events = dask_cluster.run(options_of(tmp_path, 1), "local", True, (1, 3), work=environment)
    done = [event.value.message for event in events if event.kind == "done"]
    assert done == ["3"] and os.environ["TF_NUM_INTRAOP_THREADS"] == "7"


def environment(parcel, topic, number):
    return jobs.Outcome("done", os.environ["TF_NUM_INTRAOP_THREADS"]), None


def test_towards_the_end_no_job_waits_for_a_worker_that_is_busy():
    workers = dask_cluster._DaskWorkers(None, [], True, None, None)
    workers._workers = ["tcp://a", "tcp://b"]
    capacities = {waiting: workers.capacity(waiting) for waiting in (12, 8, 4, 3, 1, 0)}
    assert capacities == {12: 3, 8: 3, 4: 2, 3: 1, 1: 1, 0: 0}


def test_workers_without_the_package_are_reported_in_one_line(
    shared_cluster, tmp_path, monkeypatch
):
    address = shared_cluster.address
    monkeypatch.setattr(dask_cluster, "PACKAGE", "not_installed_there")
    with pytest.raises(UserError) as caught:
        list(dask_cluster.run(options_of(tmp_path, 1), address, True))
    message = (
        r"tcp://\S+ cannot import neural_style_tf: run pip install 'neural-style-tf\[cluster\]' .*"
    )
    assert re.fullmatch(message, str(caught.value))
    monkeypatch.setattr(dask_connection, "PACKAGE", "not_installed_there")
    with pytest.raises(UserError, match=f"^{address} cannot import neural_style_tf"):
        list(dask_cluster.run(options_of(tmp_path, 1), address, True))


class SpecFound:
    """The future of `find_spec` at a worker, which has ended."""

    def __init__(self, spec):
        self.result = lambda: spec

    def add_done_callback(self, _):
        pass

    def done(self):
        return True


def test_a_worker_without_the_package_is_left_out(monkeypatch):
    class Client:
        def submit(self, find_spec, package, workers, pure):
            asked.append(workers)
            return SpecFound(None if workers == ["tcp://a"] else "a spec")

    asked, notes = [], []
    listed = ["tcp://a", "tcp://b"], None
    monkeypatch.setattr(dask_connection, "workers_of", lambda _: listed)
    workers = dask_cluster._DaskWorkers(Client(), [], True, notes.append, None)
    assert [workers.ready(), workers.ready()] == [["tcp://b"], ["tcp://b"]]
    assert asked == [["tcp://a"], ["tcp://b"]]
    (note,) = notes
    assert note.startswith("tcp://a cannot import neural_style_tf: run pip install")

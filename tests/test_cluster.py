"""A Dask cluster of two worker processes, one of which is killed while it paints."""

import os
import re
import signal
import subprocess
import sys

import pytest
from conftest import ROOT, wait_for
from test_batch import NAMES, alone, assert_as_alone, batch, folders, start

import cluster
import jobs
from settings import UserError

pytest.importorskip("distributed", reason="the cluster needs distributed")
__all__ = ["alone", "batch", "folders"]  # fixtures


@pytest.fixture
def scheduler(tmp_path):
    """Its address and its two workers, each a process of one thread."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TF_NUM_INTRAOP_THREADS": "1"}
    quiet = {"cwd": tmp_path, "env": environment, "text": True}
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
    options = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    with open(tmp_path / "log", "w+") as log:
        processes = [subprocess.Popen([*command, *options], stderr=log, **quiet)]
        try:
            found = wait_for(
                lambda: re.search(r"(tcp://127\S+:\d+)", (tmp_path / "log").read_text())
            )
            command = [sys.executable, "-m", "distributed.cli.dask_worker", found[1]]
            options = ["--no-nanny", "--nthreads", "1", "--no-dashboard", "--memory-limit", "0"]
            for _ in range(2):
                processes.append(subprocess.Popen([*command, *options], stderr=log, **quiet))
            yield found[1], processes[1:]
        finally:
            for process in processes:
                process.kill()
                process.wait()


def test_a_worker_killed_in_the_middle_costs_its_own_picture_only(scheduler, folders, alone, batch):
    address, workers = scheduler
    process = start(folders, "--cluster", address, "--threads", 1)
    wait_for(lambda: list(folders.glob("gallery/*--*.png")), 90)
    os.kill(workers[0].pid, signal.SIGKILL)
    told = process.communicate(timeout=120)[1]
    assert process.returncode == 0 and "4 painted in" in told, told
    assert_as_alone(folders, alone)

    # by the folder that all see, where states are kept, too
    (folders / "gallery" / NAMES[0]).unlink()
    (folders / "photos/three.jpg").write_bytes(b"no picture")
    shared = ["--cluster", address, "--threads", 1, "--shared-folder", "--save-states"]
    done = batch(*shared)
    assert done.returncode == 1 and "1 painted, 3 there already, 2 failed in" in done.stderr
    assert done.stderr.count("three.jpg is not a picture") == 2
    assert_as_alone(folders, alone)


def test_a_cluster_on_this_machine(folders, alone, batch):
    done = batch("--cluster", "local", "--contents", "photos/one.png", "--threads", 1)
    assert done.returncode == 0 and "2 painted in" in done.stderr
    assert_as_alone(folders, alone, NAMES[:2])


def test_what_is_missing_is_told_in_one_line(monkeypatch):
    with pytest.raises(UserError, match="no scheduler at tcp"):
        monkeypatch.setattr(cluster, "CONNECT_SECONDS", 1)
        list(cluster.run([jobs], "tcp://127.0.0.1:9", False))
    monkeypatch.setattr(cluster.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError, match="needs Dask: pip install -r requirements-cluster"):
        list(cluster.run([], "local", False))


def test_towards_the_end_no_job_waits_for_a_worker_that_is_busy():
    of_two = {waiting: cluster._ahead(range(waiting), range(2)) for waiting in (12, 8, 4, 3, 1, 0)}
    assert of_two == {12: 3, 8: 3, 4: 2, 3: 1, 1: 1, 0: 0}

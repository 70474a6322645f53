"""What the tests share: tiny networks in real files, small pictures, the command line."""

import functools
import os
import shutil
import signal
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp()  # not the user's

import numpy as np
import pytest
import reference
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from launcher import Launcher, import_all
from PIL import Image
from shared import BROWSER, PATIENCE, QUICK

from neural_style_tf.machine import precision, tensorflow_setup

hypothesis_settings.register_profile(
    "patient", hypothesis_settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("patient")


def pytest_sessionstart(session):
    # whoever runs the tests in the background has these ignored, and so would all that they start
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if not session.config.getoption("numprocesses", None):  # not where others run the tests
        import_all()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers():
    """One more than there are processors: some tests wait for what hangs."""
    return len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else [0, 1]) + 1


def pytest_sessionfinish():
    shutil.rmtree(os.environ["XDG_CACHE_HOME"], ignore_errors=True)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Marks the tests that need a browser or a Dask cluster, for `-m "not browser"`. On Windows,
    skips those that need what it lacks."""
    for item in items:
        if "browser" in item.fixturenames:
            item.add_marker("browser")
        if os.name == "nt" and item.get_closest_marker("posix"):
            item.add_marker(pytest.mark.skip(reason="Windows has no such signals, pipes or modes"))
        if item.path.name == "test_dask_cluster.py":
            item.add_marker("cluster")


@pytest.fixture(autouse=True, scope="session")
def in_float32():
    """Whatever else runs on the machine, which may change what is fastest there."""
    import tensorflow as tf

    tensorflow_setup.prepare()  # as the commands do, before any test initialises TensorFlow
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision, "_fastest", lambda _: tf.float32)
        yield


@pytest.fixture(scope="module")
def many_graphs():
    """Room for the graphs of a whole module, whose tests paint with the same settings again."""
    from neural_style_tf.objective import graphs

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graphs._store, "max_size", 150)  # those of tiny networks are small
        yield


@pytest.fixture(scope="session")
def weights():
    return reference.tiny_weights()


@pytest.fixture(scope="session")
def tiny(weights, tmp_path_factory):
    """A tiny VGG-19 in a file of the newer layout."""
    return reference.save_mat(tmp_path_factory.mktemp("network") / "tiny.mat", weights)


@pytest.fixture(scope="session")
def network(tiny):
    from neural_style_tf.network import vgg

    return vgg.load(tiny)


@pytest.fixture(scope="session")
def shallow(tmp_path_factory):
    """A tiny VGG-11: with all layers that `moments` compares, and fewer between them to trace."""
    from neural_style_tf.network import vgg

    path = tmp_path_factory.mktemp("network") / "shallow.mat"
    return vgg.load(reference.save_mat(path, reference.tiny_weights(depth=11)))


@pytest.fixture(scope="session")
def picture():
    """A function that makes a smooth random picture [height, width, 3] float32, 0..255."""

    def make(height=34, width=45, seed=0):
        coarse = np.random.default_rng(seed).uniform(0, 255, (5, 6, 3)).astype(np.uint8)
        smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        return np.asarray(smooth, np.float32)

    return make


@pytest.fixture(scope="session")
def fill(tiny, picture):
    """A function that puts photo.png (45x34), painting.png, other.png and network.mat into a
    folder, and returns it."""

    def fill(folder):
        for seed, name in enumerate(("photo.png", "painting.png", "other.png")):
            Image.fromarray(picture(seed=seed).astype(np.uint8)).save(folder / name)
        (folder / "network.mat").write_bytes(tiny.read_bytes())
        return folder

    return fill


@pytest.fixture
def folder(tmp_path, fill):
    """A folder with photo.png (45x34), painting.png, other.png and network.mat."""
    return fill(tmp_path)


@pytest.fixture(scope="session")
def launcher(tiny):
    if not hasattr(os, "fork"):
        pytest.skip("commands are forked here, which this system cannot")
    with Launcher(tiny) as launcher:
        yield launcher


@pytest.fixture(scope="session")
def command_line(launcher):
    """A function (arguments, folder) that runs the command line there, in a process that may have
    run others before. Returns status, stdout and stderr."""
    return functools.partial(launcher.run, shares=True)


@pytest.fixture
def start(folder, launcher):
    """A function that starts a run in `folder`, with its pictures and tiny network, and returns its
    process, which does not outlive the test."""
    processes = []

    def start(*options, iterations=100_000, pauses=False):
        arguments = ["--content", "photo.png", "--styles", "painting.png", "--output", "out.png"]
        arguments += ["--network", "network.mat", "--precision", "float32", *QUICK]
        arguments += ["--iterations", iterations, *options]
        process = launcher.start(arguments, folder, pauses)
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()


@pytest.fixture
def run(folder, command_line):
    """A function that runs the command line in `folder`, with its pictures and tiny network, in
    float32 and with the settings that take the least time to begin, unless set otherwise. quick:
    these settings. how: as `Launcher.run` takes it. Returns status, stdout and stderr."""

    def run(
        *options,
        content="photo.png",
        styles=("painting.png",),
        output="out.png",
        quick=QUICK,
        **how,
    ):
        arguments = ["--content", content, "--styles", *styles, "--output", output, *quick]
        if "--network" not in options:
            arguments += ["--network", "network.mat"]
        if "--precision" not in options:  # what is fastest depends on what else runs
            arguments += ["--precision", "float32"]
        return command_line([*arguments, *options], folder, **how)

    return run


@pytest.fixture(scope="module")
def chromium():
    """Chromium, where it is installed; under CI it has to be."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing = "Playwright"
    else:
        missing = None if BROWSER else "Chromium"
    if missing:
        assert not os.environ.get("CI"), f"CI needs {missing}"
        pytest.skip(f"{missing} is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=BROWSER, args=["--no-sandbox"], timeout=1000 * PATIENCE
        )
        yield browser
        browser.close()


@pytest.fixture
def browser(chromium):
    """Chromium without any page yet."""
    yield chromium
    for context in chromium.contexts:
        context.close()

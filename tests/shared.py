"""What tests of several folders share: the command line as they run it, and waiting."""

import shutil
import subprocess
import sys
import time

from launcher import ROOT
from PIL import Image

from neural_style_tf.machine import precision

COMMAND = [sys.executable, str(ROOT / "neural_style.py")]
# What takes least time to begin: few layers, a simple loss, and an optimizer with a short step
QUICK = ["--content-layers", "relu2_1", "--style-layers", "relu1_1", "relu2_1"]
QUICK += ["--optimizer", "adam", "--style-loss", "mean"]
FASTEST_PRECISION = precision._fastest  # which tests replace
PATIENCE = 300  # seconds that anything may take: a busy machine is not a failure
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")


def wait_for(what, seconds=PATIENCE):
    """What a function returns, once it is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        result = what()
        if result:
            return result
        time.sleep(0.02)
    raise AssertionError("nothing came of it")


def error_of(result, status):
    assert result.returncode == status, result.stderr
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    return lines[0].removeprefix("error: ")


def size_of(path):
    with Image.open(path) as image:
        return image.size


def start(folder, *options, iterations=100_000):
    command = [*COMMAND, "--content", "photo.png", "--styles", "painting.png"]
    command += ["--output", "out.png", "--network", "network.mat", "--iterations", str(iterations)]
    command += ["--precision", "float32", *QUICK]
    command += [*options]
    return subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)


def new_page(browser, width, height):
    """An empty page that is patient. It has `errors`, and the addresses of its `requests`."""
    page = browser.new_page(viewport={"width": width, "height": height})
    page.set_default_timeout(1000 * PATIENCE)
    page.errors, page.requests = [], []
    page.on("console", lambda message: page.errors.append(message.text))
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("request", lambda request: page.requests.append(request.url))
    return page

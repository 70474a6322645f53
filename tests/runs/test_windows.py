"""What would be otherwise on Windows, with stand-ins: names that Python lacks there, its locks, and
a file that another program has open."""

import os
import signal
import sys
import types

import numpy as np
import pytest
from PIL import Image
from shared import QUICK

from neural_style_tf.commands import neural_style
from neural_style_tf.pictures import portable

# What Python has on Linux, and not on Windows with Python 3.10 (set_blocking came with 3.12), as
# far as the rest of Python does without it here.
OS = """
chmod chown chroot confstr ctermid fchdir fchmod fchown fdatasync fork forkpty getegid geteuid
getgid getgroups getloadavg getpgid getpgrp getpriority getresuid getsid getuid getxattr killpg
lchown listxattr lockf major makedev mkfifo mknod nice openpty pathconf pipe2 posix_fadvise
posix_fallocate posix_spawn posix_spawnp pread preadv pwrite pwritev readv register_at_fork
sched_getaffinity sched_getparam sched_setaffinity sched_yield sendfile set_blocking setegid
seteuid setgid setgroups setpgid setpriority setsid setuid setxattr statvfs sync sysconf
tcgetpgrp ttyname uname wait3 wait4 waitid writev O_CLOEXEC O_DIRECTORY O_NOCTTY O_NOFOLLOW
O_NONBLOCK O_PATH O_SYNC WNOHANG
"""
KEPT = {"chmod", "register_at_fork"}  # Windows has it; Python's own modules look for it late
SIGNALS = """
SIGALRM SIGCHLD SIGCONT SIGHUP SIGPIPE SIGQUIT SIGSTOP SIGTSTP SIGUSR1 SIGUSR2 SIGXCPU
SIGXFSZ alarm getitimer pthread_kill pthread_sigmask setitimer siginterrupt sigwait
"""
MODULES = ("fcntl", "grp", "pwd", "readline", "resource", "syslog", "termios", "tty")


@pytest.fixture
def windows(monkeypatch):
    """A system without what Windows lacks. Returns what was locked."""
    set_blocking, set_wakeup_fd = os.set_blocking, signal.set_wakeup_fd

    def wake(descriptor):  # which Linux accepts only if writing to it does not wait
        if descriptor != -1:
            set_blocking(descriptor, False)
        return set_wakeup_fd(descriptor)

    monkeypatch.setattr(signal, "set_wakeup_fd", wake)
    for name in set(OS.split()) - KEPT:
        monkeypatch.delattr(os, name, raising=False)
    for name in SIGNALS.split():
        monkeypatch.delattr(signal, name, raising=False)
    for name in MODULES:
        monkeypatch.setitem(sys.modules, name, None)  # so that its import fails
    locked = []
    msvcrt = types.ModuleType("msvcrt")
    msvcrt.LK_NBLCK, msvcrt.locking = 2, lambda *arguments: locked.append(arguments)
    monkeypatch.setitem(sys.modules, "msvcrt", msvcrt)
    monkeypatch.setattr(portable, "is_windows", lambda: True)
    monkeypatch.setattr(portable, "PAUSES_SECONDS", (0.01,))
    monkeypatch.setattr(sys, "platform", "win32")
    return locked


@pytest.fixture
def paint(folder, monkeypatch, capsys):
    """A function that runs the command line in this process. Returns its status and what it
    printed."""
    monkeypatch.chdir(folder)

    def paint(*options, styles=("painting.png",), output="out.png"):
        files = ["--content", "photo.png", "--styles", *styles, "--output", output]
        files += ["--network", "network.mat", "--precision", "float32", "--iterations", "2"]
        status = neural_style.main([*map(str, [*files, *QUICK, *options])])
        return status, capsys.readouterr().err

    return paint


def test_a_picture_is_painted_without_what_windows_lacks(paint, folder, windows):
    status, printed = paint("--save-state", "run.npz", "--progress-write")
    assert status == 0, printed
    names = {path.name for path in folder.iterdir()}
    assert names >= {"out.png", "run.npz", "out-progress.csv"}
    assert not [name for name in names if name.startswith(".neural-style")]
    assert windows  # its claims were locked
    assert paint("--overwrite", "--resume", "run.npz", "--iterations", 3)[0] == 0


def test_patterns_are_expanded_for_every_input(paint, folder, monkeypatch):
    for name in ("b.jpg", "a.jpg"):
        Image.open(folder / "painting.png").save(folder / name)
    Image.new("L", (45, 34), 255).save(folder / "mask1.png")
    styles = []
    monkeypatch.setattr(neural_style, "paint", lambda arguments: styles.append(
        neural_style.read_options(arguments)[0]) or 0)  # fmt: skip
    paint("--content-mask", "m*.png", "--style-masks", "mask?.png", "-", styles=["*.jpg"])
    (options,) = styles
    assert options.styles == ("a.jpg", "b.jpg")
    assert (options.content_mask, options.style_masks) == ("mask1.png", ("mask1.png", "-"))


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--styles", "*.gif"], 1, "no file matches *.gif: check the name"),
        (
            ["--content", "p*.png"],
            2,
            "--content p*.png matches 2 files (painting.png, photo.png ...): name one of them",
        ),
        (["--initial", "[ap]hoto.gi?"], 1, "no file matches [ap]hoto.gi?: check the name"),
    ],
)
def test_a_pattern_that_is_not_one_file_is_reported_in_one_line(paint, options, status, message):
    assert paint(*options) == (status, f"error: {message}\n")


def test_a_device_as_output_is_refused_before_anything_is_read(paint, windows):
    message = "error: aux.png: aux.png is a device on Windows: choose another name\n"
    assert paint(output="aux.png", styles=["not there.png"]) == (2, message)


def test_two_outputs_that_differ_in_case_alone_are_one_file(paint, windows):
    status, printed = paint("--timelapse", "OUT.webp", output="out.webp")
    assert status == 2
    assert printed == (
        "error: two outputs would both be written to OUT.webp: name each differently\n"
    )


def test_a_result_that_another_program_has_open_is_saved_beside_it(
    paint, folder, windows, monkeypatch
):
    (folder / "out.png").write_bytes(b"open in a viewer")
    replace = os.replace

    def refuse(source, target):
        if os.path.basename(target) == "out.png":
            raise PermissionError(13, "Access is denied", str(source), 5, str(target))
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    status, printed = paint("--overwrite")
    assert status == 1
    lines = printed.splitlines()
    error = lines.index(
        "error: cannot write out.png (Access is denied): close the program that has it open or "
        "choose another name"
    )
    assert lines[error + 1] == f"saved as {folder / 'out-2.png'} instead"
    assert (folder / "out.png").read_bytes() == b"open in a viewer"
    assert np.asarray(Image.open(folder / "out-2.png")).shape == (34, 45, 3)


def test_a_recipe_keeps_the_backslashes_of_its_paths(folder, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "nets.args").write_text("--network C:\\nets\\vgg.mat\n--size 32\n")
    arguments = ["--content", "photo.png", "--styles", "painting.png", "--output", "o.png"]
    options, _ = neural_style.read_options([*arguments, "@nets.args"])
    assert options.network == r"C:\nets\vgg.mat"

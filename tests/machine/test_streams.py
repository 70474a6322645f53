"""Streams: what libraries write to standard error, kept from the terminal, and shown if need be."""

import contextlib
import os
import subprocess
import sys
import tempfile

import pytest
from launcher import ROOT

from neural_style_tf.machine import streams, tensorflow_setup

# Keeps a line, and then ends: as TensorFlow's import does on a processor without AVX, or by Ctrl-C
ENDING = """
import os
from neural_style_tf.machine import streams
with streams.kept():
    os.write(2, b"no such instruction\\n")
    {}
"""
# In place of TensorFlow: says something, then ends
TENSORFLOW = """
import os
os.write(2, b"libfirst.so.1: cannot open\\n")
{}
"""


def run(*command, **environment):
    """Runs Python. Returns its exit status and its standard error."""
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout == ""
    return done.returncode, done.stderr


def test_what_is_kept_is_not_on_the_terminal(capfd):
    with streams.kept() as text:
        os.write(2, b"loaded cuDNN\n")
        sys.stderr.flush()
        assert text() == "loaded cuDNN\n"
    os.write(2, b"then\n")
    assert capfd.readouterr().err == "then\n"
    assert streams._watched == []


def test_what_is_kept_is_deleted_when_ctrl_c_ends_it(tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "_shown_after_death", lambda path: contextlib.nullcontext())
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(KeyboardInterrupt), streams.kept():
        assert list(tmp_path.iterdir())
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_without_a_place_for_it_nothing_is_kept(monkeypatch, capfd):
    import tempfile

    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", fail)
    with streams.kept() as text:
        os.write(2, b"loaded cuDNN\n")
        assert text() == ""
    assert capfd.readouterr().err == ""


@pytest.mark.posix
@pytest.mark.parametrize(
    ("ending", "shown"),
    [
        ("os.abort()", "no such instruction\n"),
        ("streams.leave_in_peace(); os._exit(3)", ""),
        ("pass", ""),
    ],
)
def test_what_is_kept_is_shown_if_the_process_dies(ending, shown, tmp_path):
    _, stderr = run("-c", ENDING.format(ending), TMPDIR=str(tmp_path))
    assert stderr == shown
    assert list(tmp_path.iterdir()) == []


@pytest.mark.posix
@pytest.mark.parametrize(
    ("ending", "line"),
    [
        (
            'raise ImportError("GLIBCXX_3.4.29 not found\\nmore")',
            "error: TensorFlow cannot be imported (ImportError: GLIBCXX_3.4.29 not found): install "
            "it again, in an environment of its own\n",
        ),
        (
            'raise ModuleNotFoundError("No module named tensorflow", name="tensorflow")',
            "error: TensorFlow is not installed: pip install tensorflow\n",
        ),
        ("os.abort()", ""),
    ],
)
def test_what_tensorflow_says_is_shown_if_its_import_fails(ending, line, tmp_path):
    (tmp_path / "tensorflow.py").write_text(TENSORFLOW.format(ending))
    status, stderr = run(ROOT / "neural_style.py", "--list-devices", PYTHONPATH=str(tmp_path))
    assert stderr == "libfirst.so.1: cannot open\n" + line
    assert status == (1 if line else -6)


@pytest.mark.parametrize(("level", "is_shown"), [("0", True), ("2", False), (None, False)])
def test_a_user_who_asks_for_all_messages_sees_them(level, is_shown, monkeypatch, capfd):
    monkeypatch.delenv(tensorflow_setup.LOG_LEVEL)
    if level is not None:
        monkeypatch.setenv(tensorflow_setup.LOG_LEVEL, level)
    for quiet in (tensorflow_setup.kept, tensorflow_setup.silence):
        with quiet():
            os.write(2, b"loaded\n")
        assert capfd.readouterr().err == "loaded\n" * is_shown
    assert os.environ[tensorflow_setup.LOG_LEVEL] == (level or "3")

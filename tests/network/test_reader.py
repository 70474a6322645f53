"""Files that break the libraries which parse them: the program survives and reports one line."""

import os
import sys
import time

import h5py
import numpy as np
import pytest
import reference
from network_files import error_of, save_broken_h5, save_h5

from neural_style_tf.network import cache, reader, vgg, weights

CRASH = "exit status 11" if os.name == "nt" else "SIGSEGV"
BEHAVIOURS = {
    "crash": ("os.kill(os.getpid(), 11)", f"the reader of .h5 files crashed on it ({CRASH})"),
    "end": ("os._exit(3)", "the reader of .h5 files crashed on it (exit status 3)"),
    "lie": ("os.write(OUTPUT, b'W' + bytes(8)); os._exit(0)", "the reader of .h5 files crashed on "
            "it (exit status 0)"),
    "promise": ("os.write(OUTPUT, b'W' + b'\\xff' * 8); os._exit(0)",
                "the reader of .h5 files crashed on it (exit status 0)"),
    "work": ("while True: pass", "reading it takes more than 2 s"),
    "wait": ("time.sleep(600)", "reading it takes more than 2 s"),
}  # fmt: skip


@pytest.mark.parametrize("what", BEHAVIOURS)
def test_whatever_the_library_does_is_reported_in_one_line(tmp_path, opens, monkeypatch, what):
    code, message = BEHAVIOURS[what]
    if what in ("work", "wait"):  # a crash is reported as one, however long it takes
        monkeypatch.setattr(reader, "SECONDS", 0.5)
        monkeypatch.setattr(reader, "WAIT_SECONDS", 1.5)
    else:
        monkeypatch.setattr(reader, "WAIT_SECONDS", 60)
    opens(code.replace("OUTPUT", "3"))  # the first descriptor that is free in the child
    path = save_broken_h5(tmp_path / "network.h5")
    began = time.monotonic()
    assert error_of(weights.read, path) == (
        f"network {path} is broken: {message}: download it again or choose another network"
    )
    assert time.monotonic() - began < 60


def test_a_file_may_take_memory_in_proportion_to_its_size(tmp_path, opens):
    opens("bytearray(10**9)")
    path = save_broken_h5(tmp_path / "network.h5")
    assert error_of(weights.read, path) == (
        f"network {path} is broken (it unpacks to far more than a VGG has): download it again or "
        "choose another network"
    )


def test_the_library_writes_no_file(tmp_path, opens):
    file = tmp_path / "written"
    opens(f"open({str(file)!r}, 'wb', buffering=0).write(b'x')")
    path = save_broken_h5(tmp_path / "network.h5")
    assert "not a .h5 file (OSError)" in error_of(weights.read, path)
    assert not file.exists() or not file.read_text()


def test_what_the_library_prints_is_not_in_the_answer(tmp_path, stand_in):
    stand_in(
        "import sys\nsys.path.remove(__file__.rpartition('/h5py/')[0])\n"
        "del sys.modules['h5py']\nprint('hello')\nimport h5py\n"
    )
    path = save_h5(tmp_path / "network.h5", reference.tiny_weights())
    assert len(weights.read(path).layers) == 36


def test_a_library_that_is_missing_or_cannot_be_imported_is_reported_in_one_line(
    tmp_path, stand_in
):
    path = save_broken_h5(tmp_path / "network.h5")
    stand_in('raise ModuleNotFoundError("No module named h5py", name="h5py")')
    message = f"network {path} needs h5py: pip install neural-style-tf"
    assert error_of(weights.read, path) == message
    stand_in('raise OSError("libhdf5.so: cannot open shared object file")')
    assert error_of(weights.read, path) == (
        f"network {path} needs h5py, which cannot be imported here (libhdf5.so: cannot open shared "
        "object file): install it again"
    )


def test_a_network_is_read_from_any_folder_and_once_for_equal_files(tmp_path, monkeypatch):
    values = reference.tiny_weights(seed=5)
    path = reference.save_mat(tmp_path / "network.mat", values)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "formats.py").write_text("raise Exception")
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    first = weights.read("network.mat")
    monkeypatch.setattr(reader, "read", lambda *_: pytest.fail("read again"))
    (tmp_path / "copy.mat").write_bytes(path.read_bytes())
    again = weights.read("copy.mat")
    assert (first.title, again.title) == ("the network network.mat", "the network copy.mat")
    assert again.layers is first.layers


def test_without_a_second_process_one_line_says_so(tmp_path, monkeypatch):
    path = reference.save_mat(tmp_path / "network.mat", reference.tiny_weights(seed=6))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert error_of(weights.read, path) == (
        f"cannot start the reader of network {path} (No such file or directory): "
        "close other programs"
    )


def test_an_h5_file_that_declares_more_than_it_has_is_refused(tmp_path):
    path = tmp_path / "huge.h5"
    with h5py.File(path, "w") as file:
        shape = 3, 3, 3, 10**9
        file.create_dataset("block1_conv1/kernel:0", shape, "f4", chunks=(3, 3, 3, 100))
    assert path.stat().st_size < 20_000
    began = time.monotonic()
    assert error_of(weights.read, path) == (
        f"network {path} is broken (it unpacks to far more than a VGG has): download it again or "
        "choose another network"
    )
    assert time.monotonic() - began < 60


@pytest.mark.posix
def test_an_h5_file_does_not_lead_to_other_files(tmp_path):
    path, secret = tmp_path / "network.h5", tmp_path / "secret"
    secret.write_bytes(np.arange(12, dtype="f4").tobytes())
    message = f"network {path} is truncated or not a .h5 file (ValueError)"
    with h5py.File(path, "w") as file:
        name, shape = "block1_conv1/kernel:0", (3, 4)
        file.create_dataset(name, shape, "f4", external=[(str(secret), 0, 48)])
    assert message in error_of(weights.read, path)
    with h5py.File(path, "w") as file:
        layout = h5py.VirtualLayout(shape, "f4")
        layout[:] = h5py.VirtualSource(str(secret), "x", shape)
        file.create_virtual_dataset(name, layout)
    assert message in error_of(weights.read, path)
    os.mkfifo(tmp_path / "pipe")
    with h5py.File(path, "w") as file:
        file["model_weights"] = h5py.ExternalLink(str(tmp_path / "pipe"), "/")
    assert f"network {path} is not a Keras VGG network" in error_of(weights.read, path)


@pytest.mark.posix
def test_what_is_not_a_file_of_a_plausible_size_is_refused_at_once(tmp_path):
    pipe, large = tmp_path / "pipe", tmp_path / "large.mat"
    os.mkfifo(pipe)
    with large.open("wb") as file:
        file.write(b"MATLAB 5.0 MAT-file")
        file.truncate(100_000_000_000)
    for read in (weights.read, cache.read, vgg.load):
        for path in (pipe, "/dev/zero"):
            assert error_of(read, path) == f"network {path} is a device or a pipe: choose a file"
        assert error_of(read, large) == (
            f"network {large} has 100.0 GB: choose a VGG network, which has at most 2 GB"
        )
        assert error_of(read, tmp_path) == f"{tmp_path} is a folder: name a file inside it"
        assert error_of(read, "a\0b") == "no file 'a\\x00b' (embedded null byte): check the name"


def test_a_matlab_7_3_file_is_refused_with_how_to_save_it(tmp_path):
    path = tmp_path / "new.mat"
    path.write_bytes(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512) + b"\x89HDF\r\n\x1a\n")
    assert error_of(weights.read, path) == (
        f"network {path} is a MATLAB 7.3 file: save it again with the option -v7"
    )

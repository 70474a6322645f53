"""Networks that are kept in a form that loads at once."""

import os
import subprocess
import sys

import numpy as np
import platformdirs
import pytest
import reference
from conftest import ROOT
from platformdirs import macos, unix, windows

import cache
import weights
from settings import UserError


@pytest.fixture
def path(tiny, tmp_path, monkeypatch):
    """A network's file, and an empty cache that takes small files too."""
    monkeypatch.setattr(cache, "SMALLEST", 0)
    monkeypatch.setattr(cache, "folder", lambda: tmp_path / "caches" / "neural-style")
    path = tmp_path / "network.mat"
    path.write_bytes(tiny.read_bytes())
    return path


@pytest.fixture
def reads(monkeypatch):
    """The paths that were really read."""
    paths, read = [], weights.read

    def counted(path):
        paths.append(path)
        return read(path)

    monkeypatch.setattr(weights, "read", counted)
    return paths


def assert_same(ours, theirs):
    assert ours.title == theirs.title
    np.testing.assert_array_equal(ours.mean_pixel, theirs.mean_pixel)
    np.testing.assert_array_equal(ours.scale, theirs.scale)
    for one, other in zip(ours.layers, theirs.layers, strict=True):
        assert (one.name, one.kind) == (other.name, other.kind)
        if one.kind == "conv":
            assert one.kernel.dtype == np.float32
            np.testing.assert_array_equal(one.kernel, other.kernel)
            np.testing.assert_array_equal(one.bias, other.bias)
        else:
            assert one.kernel is None and one.bias is None


def test_the_second_time_the_file_is_not_read(path, reads):
    expected = weights.read(path)
    reads.clear()
    for _ in range(3):
        assert_same(cache.read(path), expected)
    assert reads == [path]


def test_a_file_that_changed_is_read_again(path, reads):
    cache.read(path)
    other = reference.tiny_weights(seed=7)
    reference.save_mat(path, other)
    kernel = next(layer for layer in cache.read(path).layers if layer.name == "conv3_2").kernel
    np.testing.assert_array_equal(kernel, other["conv3_2"][0])
    assert len(reads) == 2
    os.utime(path, ns=(0, 0))
    cache.read(path)
    assert len(reads) == 3


@pytest.mark.parametrize("harm", ["empty", "half", "other", "pickle", "folder"])
def test_a_broken_cache_is_ignored_and_mended(path, reads, harm):
    expected = cache.read(path)
    (kept,) = cache.folder().iterdir()
    whole = kept.read_bytes()
    if harm == "folder":
        kept.unlink()
        kept.mkdir()
    elif harm == "pickle":
        with kept.open("wb") as file:
            np.savez(file, origin=np.array([{}], object))
    else:
        broken = {"empty": b"", "half": whole[: len(whole) // 2], "other": b"no archive at all"}
        kept.write_bytes(broken[harm])
    assert_same(cache.read(path), expected)
    assert len(reads) == 2
    if harm != "folder":
        assert_same(cache.read(path), expected)
        assert len(reads) == 2


def test_a_cache_that_cannot_be_written_costs_nothing(path, reads, tmp_path):
    (tmp_path / "caches").write_text("a file where the folder should be")
    expected = weights.read(path)
    assert_same(cache.read(path), expected)


def test_a_network_that_is_gone_is_told_though_it_is_in_the_cache(path):
    cache.read(path)
    path.unlink()
    with pytest.raises(UserError, match=r"^no file .*network.mat"):
        cache.read(path)


def test_small_files_are_not_kept(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "folder", lambda: tmp_path / "caches")
    cache.read(tiny)
    assert not (tmp_path / "caches").exists()


def test_two_programs_that_start_at_once_both_get_the_network(tmp_path):
    code = """
import cache, hashlib
layers = cache.read("imagenet-vgg-verydeep-19.mat").layers
kernels = (layer.kernel.tobytes() for layer in layers if layer.kind == "conv")
print(hashlib.sha256(b"".join(kernels)).hexdigest())
"""
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path), "HOME": str(tmp_path)}
    environment |= {"LOCALAPPDATA": str(tmp_path)}
    command = [sys.executable, "-c", code]
    both = [
        subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    told = [process.communicate(timeout=120)[0] for process in both]
    assert told[0] and told[0] == told[1]
    kept = [found for found in tmp_path.rglob("*") if found.is_file()]
    assert len(kept) == 1 and kept[0].suffix == ".network"
    again = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert again.stdout == told[0]


@pytest.mark.parametrize(
    "platform, variables, expected",
    [
        (unix.Unix, {"XDG_CACHE_HOME": "/x/cache"}, "/x/cache/neural-style"),
        (unix.Unix, {"XDG_CACHE_HOME": "not/whole"}, "/home/her/.cache/neural-style"),
        (unix.Unix, {}, "/home/her/.cache/neural-style"),
        (macos.MacOS, {}, "/home/her/Library/Caches/neural-style"),
        (windows.Windows, {"LOCALAPPDATA": "/local"}, "/local/neural-style"),
    ],
)
def test_the_folder_is_the_platforms(monkeypatch, platform, variables, expected):
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (variables | {"HOME": "/home/her"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(platformdirs, "PlatformDirs", platform)
    monkeypatch.setattr(windows, "get_win_folder", windows.get_win_folder_from_env_vars)
    assert cache.folder().as_posix() == expected


def test_a_word_is_found_once_and_two_who_look_at_once_agree(path, tmp_path):
    folder = tmp_path / "caches" / "neural-style"

    def meanwhile():
        folder.mkdir(parents=True)
        (folder / "drink.txt").write_text("tea")
        return "coffee"

    for _ in range(2):
        assert cache.word("drink", ("tea", "coffee"), meanwhile) == "tea"

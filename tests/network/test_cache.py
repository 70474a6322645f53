"""The cache of networks that were read before."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import reference
from shared import PATIENCE, ROOT

from neural_style_tf.errors import UserError
from neural_style_tf.machine import user_cache
from neural_style_tf.network import cache, packed, weights


@pytest.fixture
def path(tiny, tmp_path, monkeypatch):
    """A network's file, and an empty cache that takes small files too."""
    monkeypatch.setattr(cache, "SMALLEST", 0)
    monkeypatch.setattr(user_cache, "folder", lambda: tmp_path / "caches" / "neural-style")
    path = tmp_path / "network.mat"
    path.write_bytes(tiny.read_bytes())
    return path


@pytest.fixture
def reads(monkeypatch):
    """The paths of the files that were read, not loaded from the cache."""
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
    for layer, other in zip(ours.layers, theirs.layers, strict=True):
        assert (layer.name, layer.kind) == (other.name, other.kind)
        if layer.kind == "conv":
            assert layer.kernel.dtype == np.float32
            np.testing.assert_array_equal(layer.kernel, other.kernel)
            np.testing.assert_array_equal(layer.bias, other.bias)
        else:
            assert layer.kernel is None and layer.bias is None


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
def test_a_broken_entry_is_ignored_and_replaced(path, reads, harm):
    expected = cache.read(path)
    (kept,) = user_cache.folder().iterdir()
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


def entry():
    """The only file in the cache."""
    (path,) = user_cache.folder().iterdir()
    return path


@pytest.mark.parametrize("place", range(24))
def test_one_wrong_bit_anywhere_is_detected(path, reads, place):
    expected = cache.read(path)
    data = bytearray(entry().read_bytes())
    data[place * (len(data) - 1) // 23] ^= 1 << place % 8
    entry().write_bytes(data)
    assert_same(cache.read(path), expected)
    assert len(reads) == 2


def test_an_intact_entry_that_is_not_a_network_is_ignored(path, reads):
    expected = cache.read(path)
    origin = cache._origin(path)
    packed_network = packed.pack(expected)
    size = int.from_bytes(packed_network[:4], "little")
    about = json.loads(packed_network[4 : 4 + size])

    def packed_with(**changes):
        header = json.dumps(about | changes).encode()
        return len(header).to_bytes(4, "little") + header + packed_network[4 + size :]

    cases = [
        b"",
        packed_network + b"1234",
        packed_network[:-4],
        b"\xff\xff\xff\xff" + packed_network[4:],
        (10**6).to_bytes(4, "little") + b"[" * 10**6,
        packed_with(title=None, layers=7),
        packed_with(layers=[["conv1_1"]]),
        packed_with(layers=[["a", "relu"]]),
        packed_with(layers=[["a", "conv"]] * 99),
        packed_with(mean_pixel=[1, 2]),
        packed_with(scale="abc"),
        packed_with(mean_pixel=[10**400, 1, 1]),
        packed_with(shapes=[[[10**30, 10**30], [1]]]),
        packed_with(shapes=[[[-1], [True]]]),
        packed_with(shapes={"a": 1}),
    ]
    for case in cases:
        entry().write_bytes(cache._sealed(origin + case))
        reads.clear()
        assert_same(cache.read(path), expected)
        assert reads == [path], case[:300]


def test_the_entry_of_another_file_is_ignored(path, reads, tmp_path):
    cache.read(path)
    theirs = entry().read_bytes()
    other = reference.save_mat(tmp_path / "other.mat", reference.tiny_weights(seed=3))
    path.write_bytes(other.read_bytes())
    expected = cache.read(path)
    entry().write_bytes(theirs)
    assert_same(cache.read(path), expected)
    assert len(reads) == 3


needs_owners = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="files have no owners here")


@pytest.mark.posix
@needs_owners
@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_an_entry_that_others_could_have_written_is_ignored_and_replaced(path, reads, mode):
    expected = cache.read(path)
    entry().chmod(mode)
    assert_same(cache.read(path), expected)
    assert len(reads) == 2
    assert entry().stat().st_mode & 0o777 == 0o600
    cache.read(path)
    assert len(reads) == 2


@pytest.mark.posix
@needs_owners
def test_a_folder_that_others_can_write_is_made_private_before_it_is_used(path, reads):
    cache.read(path)
    assert user_cache.folder().stat().st_mode & 0o777 == 0o700
    user_cache.folder().chmod(0o777)
    cache.read(path)
    assert len(reads) == 2
    assert user_cache.folder().stat().st_mode & 0o777 == 0o700
    cache.read(path)
    assert len(reads) == 2


@needs_owners
def test_in_a_folder_of_another_user_nothing_is_read_or_kept(path, reads, monkeypatch):
    expected = cache.read(path)
    before = entry().stat()
    monkeypatch.setattr(os, "geteuid", lambda: before.st_uid + 1)
    for _ in range(2):
        assert_same(cache.read(path), expected)
        assert user_cache.remembered("drink", ("tea", "coffee"), lambda: "tea") == "tea"
    assert len(reads) == 3
    after = entry().stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.posix
@needs_owners
def test_no_link_and_no_pipe_is_followed(path, reads, tmp_path):
    expected = cache.read(path)
    elsewhere = tmp_path / "elsewhere"
    entry().rename(elsewhere)
    (user_cache.folder() / cache._name(path)).symlink_to(elsewhere)
    assert_same(cache.read(path), expected)
    entry().unlink()
    os.mkfifo(user_cache.folder() / cache._name(path), 0o600)
    assert_same(cache.read(path), expected)
    assert len(reads) == 3


def test_the_networks_that_were_used_last_are_kept(path, reads, tmp_path):
    (user_cache.folder()).mkdir(parents=True, mode=0o700)
    others = [user_cache.folder() / name for name in ("0123456789abcdef.npz", "old.tmp", "my.npz")]
    for place in others:
        place.touch()
    os.utime(others[1], (0, 0))
    copies = [tmp_path / f"{number}.mat" for number in range(cache.MAX_NETWORKS + 1)]
    for number, copy in enumerate(copies):
        copy.write_bytes(path.read_bytes())
        cache.read(copy)
        os.utime(user_cache.folder() / cache._name(copy), (number, number))
        if number == cache.MAX_NETWORKS - 1:
            cache.read(copies[0])  # used again
    names = {place.name for place in user_cache.folder().iterdir()}
    assert names == {cache._name(copy) for copy in (copies[0], *copies[2:])} | {"my.npz"}


def test_it_is_cleared_of_all_but_the_key_and_what_is_not_ours(path, reads):
    cache.read(path)
    assert user_cache.remembered("precision-0123", ("float32",), lambda: "float32") == "float32"
    folder = user_cache.folder()
    for name in ("0123456789abcdef.npz", "old.tmp", "being-written.tmp", "signing.key", "my.npz"):
        (folder / name).write_bytes(bytes(100))
    os.utime(folder / "old.tmp", (0, 0))
    (folder / "folder.network").mkdir()
    removed = ["0123456789abcdef.npz", "old.tmp", "precision-0123.txt", cache._name(path)]
    size = sum((folder / name).stat().st_size for name in removed)
    assert cache.clear() == (folder, len(removed), size)
    rest = {"being-written.tmp", "signing.key", "my.npz", "folder.network"}
    assert {entry.name for entry in folder.iterdir()} == rest
    assert cache.clear() == (folder, 0, 0)
    cache.read(path)
    assert reads == [path, path]


@pytest.mark.posix
def test_a_cache_that_does_not_exist_or_is_another_users_is_not_cleared(path, monkeypatch):
    assert cache.clear() == (user_cache.folder(), 0, 0)
    assert not user_cache.folder().exists()
    cache.read(path)
    if hasattr(os, "geteuid"):
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
        assert cache.clear() == (user_cache.folder(), 0, 0)
        assert entry().exists()


def test_a_cache_that_cannot_be_cleared_is_reported_in_one_line(path, monkeypatch):
    cache.read(path)

    def refuse(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "unlink", refuse)
    message = f"cannot clear the cache {user_cache.folder()} (Permission denied)"
    with pytest.raises(UserError) as error:
        cache.clear()
    assert str(error.value) == message


def test_a_file_name_that_is_not_unicode_is_cached_too(path, reads):
    other = os.fsdecode(os.fsencode(path.parent) + b"/\xfc.mat")
    path.rename(other)
    expected = cache.read(other)
    assert_same(cache.read(other), expected)
    assert len(reads) == 1


def test_a_cache_that_cannot_be_written_costs_nothing(path, reads, tmp_path):
    (tmp_path / "caches").write_text("a file where the folder should be")
    expected = weights.read(path)
    assert_same(cache.read(path), expected)


def test_a_missing_file_is_reported_though_its_network_is_in_the_cache(path):
    cache.read(path)
    path.unlink()
    with pytest.raises(UserError, match=r"^no file .*network.mat"):
        cache.read(path)


def test_small_files_are_not_kept(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(user_cache, "folder", lambda: tmp_path / "caches")
    cache.read(tiny)
    assert not (tmp_path / "caches").exists()


def test_two_programs_that_start_at_once_both_get_the_network(tmp_path):
    code = """
import hashlib
from neural_style_tf.network import cache
from neural_style_tf.settings import BUNDLED_NETWORK
layers = cache.read(BUNDLED_NETWORK).layers
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
    digests = [process.communicate(timeout=PATIENCE)[0] for process in both]
    assert digests[0] and digests[0] == digests[1]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 1 and files[0].suffix == ".network"
    again = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert again.stdout == digests[0]

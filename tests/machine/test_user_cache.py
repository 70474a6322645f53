"""The user's cache folder: where it is, and what is remembered there."""

import os
import tempfile

import platformdirs
import pytest
from platformdirs import macos, unix, windows

from neural_style_tf.machine import user_cache

needs_owners = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="files have no owners here")


@pytest.fixture
def caches(tmp_path, monkeypatch):
    """The cache folder, which does not exist yet."""
    path = tmp_path / "caches" / "neural-style"
    monkeypatch.setattr(user_cache, "folder", lambda: path)
    return path


@pytest.mark.posix
@needs_owners
def test_without_a_home_the_folder_is_the_users_own_among_temporary_files(monkeypatch, tmp_path):
    def unknown(_):
        raise KeyError("no such user")

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    assert user_cache.folder() == tmp_path / f"neural-style-{os.getuid()}"
    assert user_cache.remembered("drink", ("tea", "coffee"), lambda: "tea") == "tea"
    assert user_cache.folder().stat().st_mode & 0o777 == 0o700

    def nowhere():
        raise FileNotFoundError("no usable temporary folder")

    monkeypatch.setattr(tempfile, "gettempdir", nowhere)
    assert user_cache.remembered("drink", ("tea", "coffee"), lambda: "coffee") == "coffee"


@pytest.mark.parametrize("content", [b"", b"te", b"tea\n", b"\xff", b"\0", b"tea" * 10**6])
def test_a_damaged_answer_is_found_again(caches, content):
    assert user_cache.remembered("drink", ("tea", "coffee"), lambda: "tea") == "tea"
    (caches / "drink.txt").write_bytes(content)
    assert user_cache.remembered("drink", ("tea", "coffee"), lambda: "coffee") == "coffee"
    assert (caches / "drink.txt").read_bytes() == b"coffee"


@pytest.mark.parametrize(
    "platform, variables, expected",
    [
        (unix.Unix, {"XDG_CACHE_HOME": "/x/cache"}, "/x/cache/neural-style"),
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
    assert user_cache.folder().as_posix() == expected


def test_an_answer_is_found_once_and_two_processes_that_ask_at_once_agree(caches):
    def meanwhile():
        caches.mkdir(parents=True)
        (caches / "drink.txt").write_text("tea")
        return "coffee"

    for _ in range(2):
        assert user_cache.remembered("drink", ("tea", "coffee"), meanwhile) == "tea"

"""Files: written whole or not at all, and cleared up after processes that were killed."""

import errno
import os
import subprocess
import sys
import threading
import time

import pytest
from shared import ROOT

from neural_style_tf.errors import UserError
from neural_style_tf.pictures import files, places


def test_a_file_is_written_whole_and_leaves_no_litter(tmp_path):
    files.write(tmp_path / "losses.csv", b"1,2")
    files.write(tmp_path / "losses.csv", b"3,4")
    assert [path.name for path in tmp_path.iterdir()] == ["losses.csv"]
    assert (tmp_path / "losses.csv").read_bytes() == b"3,4"


def test_what_an_ended_process_had_begun_is_removed_and_nothing_else(tmp_path):
    (tmp_path / "picture.png").touch()
    with files.writing(tmp_path / "losses.csv") as file:
        files.remove_unfinished(tmp_path, os.getpid() + 1)
        files.remove_unfinished(tmp_path / "gone", os.getpid())
        assert os.path.exists(file.name)
        files.remove_unfinished(tmp_path, os.getpid())
        assert [path.name for path in tmp_path.iterdir()] == ["picture.png"]
        open(file.name, "x").close()  # or it could not be moved


def test_what_killed_processes_left_is_removed_by_the_next_that_writes_there(tmp_path):
    code = "import os, sys\nfrom neural_style_tf.pictures import files\n"
    code += 'claim = files.claim("b.png"); claim.__enter__()\n'
    code += "with files.writing('a.png') as file: print(os.getpid(), flush=True); sys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    process.stdout.readline()
    theirs = {path.name for path in tmp_path.iterdir()}
    assert len(theirs) == 2
    elsewhere = tmp_path / ".neural-style-another.machine-17-0123abcd.tmp"
    elsewhere.touch()
    (tmp_path / ".neural-style-notes").touch()
    files.check_writable(tmp_path / "c.png")  # it is alive, and theirs stay
    assert theirs < {path.name for path in tmp_path.iterdir()}
    process.kill()
    process.communicate()
    with files.writing(tmp_path / "c.png") as ours:
        files.check_writable(tmp_path / "d.png")
        names = {path.name for path in tmp_path.iterdir()}
        assert names == {elsewhere.name, ".neural-style-notes", os.path.basename(ours.name)}


def test_without_locks_only_old_files_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_lock", lambda _: None)
    for name, age in (("new", 60), ("old", 2 * files.OLD_SECONDS)):
        path = tmp_path / f"{files._temporaries_of(17)}{name}.tmp"
        path.touch()
        os.utime(path, (time.time() - age,) * 2)
    files.remove_left_behind(tmp_path)
    assert [path.name[-7:] for path in tmp_path.iterdir()] == ["new.tmp"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no named pipes in folders")
def test_a_device_or_a_pipe_is_never_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(UserError, match=r"pipe is not a regular file: choose another name$"):
        files.check_writable(pipe, overwrite=True)
    with pytest.raises(UserError, match=r"cannot write .*pipe \(not a regular file\): make room"):
        files.write(pipe, b"")
    assert pipe.is_fifo() and len(list(tmp_path.iterdir())) == 1


def test_a_process_that_leaves_removes_what_it_is_writing(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    with pytest.raises(UserError, match="cannot write"), files.claim(path), files.writing(path):
        assert len(list(tmp_path.iterdir())) == 2
        monkeypatch.setattr(files, "_creating", threading.Lock())  # for the tests after this one
        files.clear_up()
        assert not list(tmp_path.iterdir())
        assert files._creating.locked()  # and begins to write nothing more
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="Windows follows links")
def test_a_claim_does_not_follow_a_link(tmp_path):
    with files.claim(tmp_path / "a.png"):
        (lock,) = tmp_path.iterdir()
    lock.symlink_to(tmp_path / "elsewhere")
    claim = files.claim(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"^cannot write .*\.lock \("):
        claim.__enter__()
    assert not (tmp_path / "elsewhere").exists()


def test_an_output_stays_where_it_was_meant(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    output = files.Output("a.csv")
    monkeypatch.chdir("/")
    files.write(output, b"1")
    assert str(output) == "a.csv" and (tmp_path / "a.csv").read_bytes() == b"1"


def test_large_temporary_files_go_to_a_disk(tmp_path, monkeypatch):
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.delenv(name, raising=False)
    mounts = tmp_path / "mounts"
    mounts.write_text("disk / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\ndisk /tmp/disk ext4 rw 0 0\n")
    monkeypatch.setattr(places, "MOUNTS", mounts)
    monkeypatch.setattr(places.tempfile, "gettempdir", lambda: "/tmp")
    assert places.temporary_folder() == "/var/tmp"
    mounts.write_text("disk / ext4 rw 0 0\n")
    assert places.temporary_folder() == "/tmp"
    monkeypatch.setenv("TMPDIR", "/tmp")
    mounts.write_text("tmpfs /tmp tmpfs rw 0 0\n")
    assert places._temporary_folders() == ["/tmp"]  # as the user has it


def test_a_temporary_file_without_room_is_refused_before_it_is_written():
    with pytest.raises(OSError) as caught:
        places.temporary_file(1 << 60)
    assert caught.value.errno == errno.ENOSPC
    with places.temporary_file(10) as file:
        file.write(b"0123456789")


def test_a_folder_that_is_missing_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"^cannot write .*gone/a.csv \(No such file or directory"):
        files.write(tmp_path / "gone" / "a.csv", b"")


def test_an_empty_or_missing_file_is_an_error(tmp_path):
    (tmp_path / "empty").touch()
    with pytest.raises(UserError, match=r"empty is empty: get a fresh copy$"):
        files.open_to_read(tmp_path / "empty")
    with pytest.raises(
        UserError, match=r"no file .*empt \(did you mean empty\?\): check the name$"
    ):
        files.open_to_read(tmp_path / "empt")

"""Files that are no pictures: whole or not at all."""

import os

import pytest

import files
from settings import UserError


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


def test_a_vanished_folder_is_told(tmp_path):
    with pytest.raises(UserError, match=r"^cannot write .*gone/a.csv \(No such file or directory"):
        files.write(tmp_path / "gone" / "a.csv", b"")


def test_an_empty_or_missing_file_is_told(tmp_path):
    (tmp_path / "empty").touch()
    with pytest.raises(UserError, match=r"empty is empty: get a fresh copy$"):
        files.open_to_read(tmp_path / "empty")
    with pytest.raises(
        UserError, match=r"no file .*empt \(did you mean empty\?\): check the name$"
    ):
        files.open_to_read(tmp_path / "empt")

"""What file names mean on Windows and macOS, with stand-ins for these systems."""

import ntpath
import os
import sys

import pytest

from neural_style_tf.errors import UsageError, UserError
from neural_style_tf.pictures import files, places, portable


@pytest.fixture
def on_windows(monkeypatch):
    monkeypatch.setattr(portable, "is_windows", lambda: True)
    monkeypatch.setattr(portable, "PAUSES_SECONDS", (0.01, 0.01, 0.01))


def touch(folder, *names):
    for name in names:
        (folder / name).touch()


# Patterns


def test_a_pattern_is_its_files_in_order_without_hidden_ones(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "b.jpg", "a.jpg", "c.png", ".hidden.jpg")
    assert portable.matching("*.jpg") == ["a.jpg", "b.jpg"]
    assert portable.matching("?.*") == ["a.jpg", "b.jpg", "c.png"]
    assert portable.matching("[bc].*") == ["b.jpg", "c.png"]
    full = os.path.join(tmp_path, "*.jpg")
    assert portable.matching(full) == [str(tmp_path / "a.jpg"), str(tmp_path / "b.jpg")]
    (tmp_path / "deep" / "er").mkdir(parents=True)
    touch(tmp_path, "deep/er/d.jpg")
    assert portable.matching("**/d.jpg") == [os.path.join("deep", "er", "d.jpg")]


def test_a_file_whose_name_is_a_pattern_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "photo[1].jpg", "photo1.jpg", "*.png", "a.png")
    assert portable.matching("photo[1].jpg") == ["photo[1].jpg"]
    assert portable.matching("*.png") == ["*.png"]
    assert portable.matching("missing.jpg") == ["missing.jpg"]
    assert portable.matching("-") == ["-"]
    with pytest.raises(UserError) as error:
        portable.matching("*.gif")
    assert str(error.value) == "no file matches *.gif: check the name"


# Names

REFUSED = {
    "aux.jpg": "aux.jpg is a device on Windows",
    "CON": "CON is a device on Windows",
    "nul.tar.png": "nul.tar.png is a device on Windows",
    "Com1.png": "Com1.png is a device on Windows",
    "lpt9 .png": "lpt9 .png is a device on Windows",
    "out.png.": "a name cannot end in a dot on Windows",
    "out.png ": "a name cannot end in a space on Windows",
    r"aux\out.png": "aux is a device on Windows",
    "prn/out.png": "prn is a device on Windows",
    "note:b.png": "a name cannot contain ':' on Windows",
    "a?.png": "a name cannot contain '?' on Windows",
    'say "a".png': "a name cannot contain '\"' on Windows",
    "a\tb.png": "a name cannot contain '\\t' on Windows",
}
ALLOWED = ["out.png", "auxiliary.png", "console.png", "com10.png", "com.png", r"C:\nets\out.png",
           r"\\host\share\out.png", "../out.png", "./out.png", ".hidden", "a b.png", "ü.png",
           "C:out.png", "a.aux"]  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_windows_cannot_name_is_refused_there_in_one_line(name, on_windows):
    with pytest.raises(UsageError) as error:
        portable.check_name(name)
    assert str(error.value) == f"{name}: {REFUSED[name]}: choose another name"
    if hasattr(ntpath, "isreserved"):  # since Python 3.13
        assert ntpath.isreserved(name)


@pytest.mark.parametrize("name", ALLOWED)
def test_all_other_names_are_allowed(name, on_windows):
    portable.check_name(name)
    if hasattr(ntpath, "isreserved"):
        assert not ntpath.isreserved(name)


@pytest.mark.skipif(portable.is_windows(), reason="these names are refused on Windows")
def test_other_systems_allow_every_name(tmp_path):
    for name in ("aux.jpg", "a:b.png", "out.png."):
        files.check_writable(tmp_path / name)
        files.write(tmp_path / name, b"1")
        files.open_to_read(tmp_path / name).close()


def test_outputs_and_inputs_are_checked(tmp_path, on_windows):
    for check in (files.check_writable, files.open_to_read, files.version):
        with pytest.raises(UsageError, match=r"nul\.png is a device on Windows"):
            check(tmp_path / "nul.png")


@pytest.mark.parametrize(
    ("system", "is_one"), [("win32", True), ("darwin", True), ("linux", False)]
)
def test_case_and_accents_tell_files_apart_where_the_system_does(system, is_one, monkeypatch):
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(portable, "is_windows", lambda: system == "win32")
    for one, other in (("Out.png", "out.PNG"), ("\u00e9.png", "e\u0301.png")):
        assert (portable.place(one) == portable.place(other)) is is_one
    assert portable.place("a/../b.png") == portable.place("b.png")
    assert portable.place("a.png") != portable.place("b.png")


def test_two_runs_cannot_claim_one_file_by_names_of_different_case(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    locks = []
    monkeypatch.setattr(files, "_locked", lambda lock: locks.append(lock.name))
    for name in ("Out.png", "out.png", "other.png"):
        with files.claim(tmp_path / name) as is_ours:
            assert not is_ours
    assert locks[0] == locks[1] != locks[2]


# Files that another program has open


class Locked:
    """`os.replace` on Windows while another program has the target open."""

    def __init__(self, monkeypatch, times):
        self.calls, self.times, self.replace = 0, times, os.replace
        monkeypatch.setattr(os, "replace", self)

    def __call__(self, source, target):
        self.calls += 1
        if self.calls <= self.times:
            raise PermissionError(13, "Access is denied", str(source), 5, str(target))
        self.replace(source, target)


def test_a_file_that_is_open_elsewhere_is_tried_again_for_a_moment(
    tmp_path, on_windows, monkeypatch
):
    locked = Locked(monkeypatch, 2)
    files.write(tmp_path / "out.png", b"new")
    assert locked.calls == 3 and (tmp_path / "out.png").read_bytes() == b"new"


def test_a_file_that_stays_open_elsewhere_is_reported_in_one_line(
    tmp_path, on_windows, monkeypatch
):
    (tmp_path / "out.png").write_bytes(b"old")
    locked = Locked(monkeypatch, 99)
    with pytest.raises(UserError) as error:
        files.write(tmp_path / "out.png", b"new")
    assert str(error.value) == (
        f"cannot write {tmp_path / 'out.png'} (Access is denied): close the program that has it "
        "open or choose another name"
    )
    assert locked.calls == 4
    assert [path.name for path in tmp_path.iterdir()] == ["out.png"]
    assert (tmp_path / "out.png").read_bytes() == b"old"


def test_other_systems_do_not_wait(tmp_path, monkeypatch):
    monkeypatch.setattr(portable, "is_windows", lambda: False)
    locked = Locked(monkeypatch, 99)
    with pytest.raises(UserError, match=r"\(Access is denied\): make room there or choose another"):
        files.write(tmp_path / "out.png", b"new")
    assert locked.calls == 1


def test_what_cannot_be_written_as_named_is_saved_beside_it(tmp_path):
    touch(tmp_path, "out.png", "out-2.png")
    path = places.save_elsewhere(tmp_path / "out.png", lambda path: files.write(path, b"a picture"))
    assert path == str(tmp_path / "out-3.png")
    assert (tmp_path / "out-3.png").read_bytes() == b"a picture"
    gone = places.save_elsewhere(
        tmp_path / "gone" / "out.png", lambda path: files.write(path, b"a picture")
    )
    assert os.path.basename(gone) == "out.png" and not gone.startswith(str(tmp_path / "gone"))
    os.unlink(gone)
    os.rmdir(os.path.dirname(gone))

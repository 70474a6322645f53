"""What a batch is to paint: the pictures that are named, and results that would be one file."""

import os

import pytest
from PIL import Image

from neural_style_tf.batch import pairs
from neural_style_tf.commands import batch
from neural_style_tf.errors import UsageError, UserError
from neural_style_tf.pictures import portable


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """A function that makes pictures in the current folder."""
    monkeypatch.chdir(tmp_path)

    def make(*names):
        for name in names:
            os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
            Image.new("RGB", (8, 6)).save(name, "png")

    return make


def read(*options):
    return batch.read(["--output-dir", "out", *options])[0]


def test_files_folders_and_patterns_name_pictures_once_and_in_order(pictures):
    pictures("photos/b.png", "photos/a.jpg", "more/c.png", "style.png")
    named = pairs.find_pictures(["photos/*.png", "photos", "m*", "style.png"])
    assert named == ["photos/b.png", "photos/a.jpg", "more/c.png", "style.png"]
    with pytest.raises(UserError, match=r"^no file matches photos/\*\.gif: check the name$"):
        pairs.find_pictures(["photos/*.gif"])
    with pytest.raises(UsageError, match=r"^no file gone: check the name$"):
        pairs.find_pictures(["gone"])


def test_patterns_are_expanded_in_every_option_of_a_batch(pictures, tmp_path):
    pictures("p1.png", "p2.png", "s1.png", "mask.png")
    listed = read("--contents", "p?.png", "--styles", "s*.png", "--style-masks", "m*.png")
    assert [pair.output for pair in listed] == ["out/p1--s1.png", "out/p2--s1.png"]
    assert {pair.options.style_masks for pair in listed} == {("mask.png",)}
    (tmp_path / "table.csv").write_text("content,styles\np1.png,s1.png\n")
    assert [pair.content for pair in read("--pairs", "*.csv")] == ["p1.png"]


def test_a_table_keeps_the_backslashes_of_its_paths(pictures, tmp_path):
    row = r"C:\photos\a.jpg,C:\styles\b.jpg;D:\c.jpg,,--style-masks C:\m\1.png -"
    (tmp_path / "table.csv").write_text(f"content,styles,output,options\n{row}\n")
    (pair,) = read("--pairs", "table.csv", "--name", "x.png")
    assert pair.content == r"C:\photos\a.jpg"
    assert pair.styles == (r"C:\styles\b.jpg", r"D:\c.jpg")
    assert pair.options.style_masks == (r"C:\m\1.png", "-")


@pytest.mark.parametrize(
    "names", [("a/Photo.png", "b/photo.png"), ("a/\u00e9.png", "b/e\u0301.png")]
)
def test_results_that_case_or_accents_alone_tell_apart_are_refused_everywhere(pictures, names):
    pictures(*names, "s.png")
    with pytest.raises(UsageError) as error:
        read("--contents", *names, "--styles", "s.png")
    output = f"out/{os.path.splitext(os.path.basename(names[1]))[0]}--s.png"
    assert str(error.value) == (
        f"{names[0]} in s.png and {names[1]} in s.png would both be {output}: use a --name with "
        "{content_file} or {content_folder} or the like"
    )
    assert len(read("--contents", *names, "--styles", "s.png", "--name",
                    "{content_folder}-{content}.png")) == 2  # fmt: skip


def test_a_name_that_windows_cannot_have_is_refused_there_before_anything_starts(
    pictures, monkeypatch
):
    pictures("p.png", "s.png")
    arguments = ["--contents", "p.png", "--styles", "s.png", "--name", "{content}?{style}.png"]
    assert read(*arguments)[0].output == "out/p?s.png"
    monkeypatch.setattr(portable, "is_windows", lambda: True)
    with pytest.raises(UsageError) as error:
        read(*arguments)
    assert str(error.value) == (
        "out/p?s.png: a name cannot contain '?' on Windows: choose another name"
    )

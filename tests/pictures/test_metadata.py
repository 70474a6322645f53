"""Metadata: what a file says about how it was painted, in every format."""

import json

import pytest
from PIL import Image
from samples import ENDINGS, METADATA, error_of, picture, write

from neural_style_tf.pictures import metadata, writing


@pytest.mark.parametrize("ending", ENDINGS)
def test_metadata_round_trip(tmp_path, ending):
    path = tmp_path / f"out{ending}"
    writing.save(path, picture(), metadata=METADATA)
    assert metadata.read(path) == ({} if ending == ".bmp" else METADATA)
    writing.save(path, picture())
    assert metadata.read(path) == {}


def test_metadata_is_where_other_programs_look(tmp_path):
    for ending in (".jpg", ".png", ".webp", ".tif"):
        writing.save(tmp_path / f"out{ending}", picture(), metadata=METADATA)
    software, text = metadata.SOFTWARE, json.dumps(METADATA)
    with Image.open(tmp_path / "out.png") as image:
        assert image.text == {"Software": software, "Comment": text}
    with Image.open(tmp_path / "out.tif") as image:
        assert (image.tag_v2[305], image.tag_v2[270]) == (software, text)
    for name in ("out.jpg", "out.webp"):
        with Image.open(tmp_path / name) as image:
            exif = image.getexif()
        assert exif[0x0131] == software
        assert exif.get_ifd(0x8769)[0x9286] == b"ASCII\0\0\0" + text.encode()


def test_metadata_of_foreign_files_is_empty(tmp_path):
    exif = Image.Exif()
    exif[0x0131], exif[0x010E] = "Another program 1.0", '{"a": 1}'
    for ending in (".jpg", ".png", ".webp", ".tif", ".gif", ".bmp"):
        path = write(tmp_path / f"photo{ending}", picture(), exif=exif)
        assert metadata.read(path) == {}


@pytest.mark.parametrize("ending", [".jpg", ".png", ".webp", ".tif"])
def test_long_metadata_is_kept_whole(tmp_path, ending, caplog):
    for count in (640, 700, 9_000):  # characters, in hundreds: a segment of a JPEG holds 65,533
        long = {"styles": ["x" * 96] * count}
        path, again = tmp_path / f"out{ending}", tmp_path / f"again{ending}"
        writing.save(path, picture(), metadata=long)
        writing.save(again, picture(), metadata=long)
        assert metadata.read(path) == long
        assert path.read_bytes() == again.read_bytes()
    assert caplog.text == ""


@pytest.mark.parametrize("ending", [".jpg", ".png", ".webp", ".tif"])
def test_metadata_that_is_too_long_is_left_out_with_a_warning(tmp_path, ending, caplog):
    path = tmp_path / f"out{ending}"
    writing.save(path, picture(), metadata={"styles": ["x" * 96] * 10_000})
    assert metadata.read(path) == {}
    assert caplog.messages == [
        f"{path} is saved without its settings, which are 1.0 MB long: at most 1.0 MB are read "
        "again, so that it cannot be painted again by --settings-from"
    ]
    assert caplog.records[0].name == "neural_style_tf"


def test_metadata_of_which_a_segment_is_lost_is_none(tmp_path):
    path = tmp_path / "out.jpg"
    writing.save(path, picture(), metadata={"styles": ["x" * 96] * 2000})
    data = path.read_bytes()
    start = data.index(b"\xff\xfe")
    length = int.from_bytes(data[start + 2 : start + 4], "big")
    path.write_bytes(data[:start] + data[start + 2 + length :])
    assert metadata.read(path) == {}


DAMAGED = {
    "deep": "[" * 100_000,
    "a little deep": '{"a":' * 21 + "1" + "}" * 21,
    "a list": "[1, 2]",
    "no JSON": "{",
    "null": "null",
    "a null byte": '{"a": \0}',
    "many digits": '{"a": ' + "1" * 10_000 + "}",
    "long": '{"a": "' + "x" * 1_000_000 + '"}',
}


@pytest.mark.parametrize("ending", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("text", DAMAGED.values(), ids=DAMAGED)
def test_damaged_metadata_is_one_line(tmp_path, monkeypatch, ending, text):
    path = tmp_path / f"out{ending}"
    with monkeypatch.context() as patch:
        patch.setattr(json, "dumps", lambda _: text)
        patch.setattr(metadata, "MAX_BYTES", 10**7)
        writing.save(path, picture(), metadata={})
    assert error_of(metadata.read, path) == (
        f"the metadata of {path} is damaged: paint the picture again, or use another one"
    )


@pytest.mark.parametrize("text", DAMAGED.values(), ids=DAMAGED)
def test_damaged_metadata_of_other_programs_is_empty(tmp_path, text):
    exif = Image.Exif()
    exif[0x0131] = "Another program 1.0"
    exif[0x8769] = {0x9286: b"ASCII\0\0\0" + text[:60_000].encode()}
    assert metadata.read(write(tmp_path / "photo.jpg", picture(), exif=exif)) == {}

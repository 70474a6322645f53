"""What a batch leaves to look at: the list, the contact sheet, and the page in a real browser."""

import io
import json
import os
import re

import numpy as np
import pytest
from PIL import Image
from shared import new_page

from neural_style_tf.batch import contact_sheet, gallery
from neural_style_tf.batch.gallery import Entry
from neural_style_tf.errors import UserError

PAPER, GREY = (246, 245, 242), (216, 213, 206)
RED, GREEN, BLUE, WHITE, BLACK = (200, 0, 0), (0, 160, 0), (0, 0, 200), (255,) * 3, (0,) * 3
GAP = 10  # between fields of 256 pixels


@pytest.fixture
def paint(tmp_path):
    """A function that writes a picture of one colour and returns its path."""

    def paint(name, color, height=200, width=300):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (width, height), color).save(path, "PNG")
        return str(path)

    return paint


def listed(folder):
    return json.loads((folder / "gallery.json").read_text())["pictures"]


def page_data(folder):
    """The data of the page's script."""
    page = (folder / "gallery.html").read_text(encoding="utf-8")
    return json.loads(re.search(r'id="gallery">(.*?)</script>', page, re.DOTALL)[1])


def small(color, height, width):
    data = io.BytesIO()
    Image.new("RGB", (width, height), color).save(data, "PNG")
    return data.getvalue()


def color_at(image, below, right):
    """The colour of the point at this distance from the lower right corner, in pixels."""
    return np.array(image.getpixel((image.width - right, image.height - below)))


def box_of(image, color):
    """Left, top, right and bottom of all that has a colour."""
    y, x = np.nonzero((np.asarray(image) == color).all(-1))
    return x.min(), y.min(), x.max() + 1, y.max() + 1


def test_hostile_pictures_are_left_out(tmp_path, paint):
    """One that declares too much, one that is cut short, one that is none."""
    huge = Image.new("L", (16, 16))
    data = io.BytesIO()
    huge.save(data, "PNG")
    declared = bytearray(data.getvalue())
    declared[16:24] = b"\x7f\xff\xff\xff" * 2  # its width and height
    contents = {"huge.png": bytes(declared), "cut.png": data.getvalue()[:45], "none.png": b"?"}
    photo, painting = paint("photo.png", RED), paint("painting.png", BLUE)
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    names = [str(tmp_path / name) for name in contents]
    entries = [Entry(photo, (painting,), paint("good.png", GREEN), "done")]
    entries += [Entry(photo, (name,), name, "done") for name in names]
    entries += [Entry(name, (painting,), name, "kept") for name in names]
    gallery.write(tmp_path, entries)
    pictures = json.loads((tmp_path / "gallery.json").read_text())["pictures"]
    assert [entry["status"] for entry in pictures] == ["done"] + ["failed"] * 6
    assert all(entry["message"] for entry in pictures[1:])
    with Image.open(tmp_path / "gallery.jpg") as image:
        image.load()


# The sheet


def test_photos_go_down_and_paintings_across(tmp_path, paint):
    """300x200 becomes 256x171; two gaps are around all, and after photos and paintings."""
    photos = [paint("one.png", RED), paint("two.png", GREEN)]
    paintings = [(paint("a.png", WHITE),), (paint("b.png", BLACK, 300, 200),)]
    results = [[paint(f"{x}{y}.png", (40 * x, 40 * y, 90)) for x in range(2)] for y in range(2)]
    entries = [
        Entry(photo, group, results[y][x], "done")
        for x, group in enumerate(paintings)
        for y, photo in enumerate(photos)
    ]
    gallery.write(tmp_path, entries)
    with Image.open(tmp_path / "gallery.jpg") as image:
        assert image.format == "JPEG"

        def is_at(below, right, color):
            return np.abs(color_at(image, below, right) - color).max() <= 4

        rows = [2 * GAP + 171 + GAP + 85, 2 * GAP + 85]
        columns = [2 * GAP + 256 + GAP + 128, 2 * GAP + 128]
        first, head = columns[0] + 256 + 2 * GAP, rows[0] + 85 + 2 * GAP + 128
        for y, x in np.ndindex(2, 2):
            assert is_at(rows[y], columns[x], (40 * x, 40 * y, 90))
        assert is_at(rows[0], first, RED) and is_at(rows[1], first, GREEN)
        assert is_at(head, columns[0], WHITE) and is_at(head, columns[1], BLACK)
        assert is_at(head, first, PAPER) and is_at(rows[0] - 85 - GAP // 2, first, PAPER)


def test_fields_are_evenly_apart_and_nothing_is_stretched():
    columns = [("a", [small(BLUE, 256, 128)]), ("b", [small(BLACK, 100, 256)])]
    rows = [("one", [small(RED, 171, 256)]), ("two", [small(GREEN, 256, 171)])]
    colors = [[(9, 0, 0), (0, 9, 0)], [(0, 0, 9), (9, 9, 9)]]
    shapes = [[(171, 256), (256, 128)], [(128, 256), (64, 32)]]  # in rows of 171 and 256
    fields = [[[small(colors[y][x], *shapes[y][x])] for x in range(2)] for y in range(2)]
    image = contact_sheet.draw(columns, rows, fields)
    right, bottom = image.width - 2 * GAP, image.height - 2 * GAP
    second, first = right - 256, right - 256 - GAP - 256
    low, high = bottom - 256, bottom - 256 - GAP - 171
    photo, painting = first - 2 * GAP - 256, high - 2 * GAP - 256
    assert box_of(image, colors[0][0]) == (first, high, first + 256, high + 171)
    assert box_of(image, colors[0][1]) == (second + 85, high, right - 85, high + 171)
    assert box_of(image, colors[1][0]) == (first, low + 64, first + 256, low + 192)
    assert box_of(image, colors[1][1]) == (second + 112, low + 96, right - 112, bottom - 96)
    assert box_of(image, RED) == (photo, high, photo + 256, high + 171)
    assert box_of(image, GREEN) == (photo + 42, low, photo + 42 + 171, bottom)
    assert box_of(image, BLUE) == (first + 64, painting, first + 192, painting + 256)
    assert box_of(image, BLACK) == (second, painting + 78, right, painting + 178)


def test_what_failed_is_grey_and_what_was_never_asked_for_is_not_there(tmp_path, paint):
    photos = [paint("one.png", RED), paint("two.png", GREEN)]
    painting = paint("a.png", WHITE)
    left_behind = paint("x.png", BLUE)
    entries = [
        Entry(photos[0], (painting,), left_behind, "failed", "no memory"),
        Entry(photos[1], (painting,), left_behind, "kept"),
        Entry(photos[1], (painting, photos[0]), paint("y.png", BLUE), "done"),
    ]
    gallery.write(tmp_path, entries)
    with Image.open(tmp_path / "gallery.jpg") as image:
        above, right, left = 3 * GAP + 171 + 20, 2 * GAP + 128, 3 * GAP + 256 + 128
        assert np.abs(color_at(image, above, right) - PAPER).max() <= 4
        assert np.abs(color_at(image, above, left) - GREY).max() <= 4
        x, y = image.width - left, image.height - (3 * GAP + 171 + 85)
        word = image.crop((x - 30, y - 10, x + 30, y + 10)).convert("L")
        assert np.asarray(word).min() < 170 < np.asarray(word)[0].min()
        assert np.abs(color_at(image, 2 * GAP + 85, left) - BLUE).max() <= 4
    assert [row["status"] for row in listed(tmp_path)] == ["failed", "kept", "done"]
    assert [[r and r["status"] for r in row] for row in page_data(tmp_path)["rows"]] == [
        ["failed", None],
        ["kept", "done"],
    ]
    assert page_data(tmp_path)["rows"][0][0]["thumbnail"] is None


def test_blended_paintings_share_a_field():
    field = [small(RED, 256, 128), small(BLUE, 128, 256)]
    joined = contact_sheet._joined(field, 256, 256)
    assert joined.size == (256, 164)  # by 246 / 384
    assert joined.getpixel((40, 2)) == RED and joined.getpixel((87, 80)) == PAPER
    assert joined.getpixel((160, 82)) == BLUE and joined.getpixel((160, 20)) == PAPER


@pytest.mark.parametrize("rows, columns", [(2, 2), (20, 20), (201, 201), (2, 5001), (20001, 2)])
def test_no_sheet_is_too_large_for_a_file(rows, columns):
    side = contact_sheet._side(rows, columns)
    pitch = side + contact_sheet._gap(side)
    assert max(rows, columns) * pitch + contact_sheet.MAX_NAME_WIDTH + 6 * GAP <= 65_500
    assert rows * columns * pitch**2 <= 34e6
    assert side == 256 or max(rows, columns) > 20


def test_long_names_keep_both_ends():
    font = contact_sheet._font(256)
    shown = contact_sheet._shortened("holiday-" * 20 + "1234", 100, font)
    assert shown.startswith("hol") and "…" in shown and shown.endswith("234")
    assert 80 < font.getlength(shown) <= 100
    assert contact_sheet._shortened("cat", 100, font) == "cat"


# Names, numbers, what cannot be read


def test_photos_of_one_name_are_two_rows(tmp_path, paint):
    photos = [paint("north/cat.png", RED), paint("south/cat.png", GREEN), paint("dog.png", BLUE)]
    entries = [Entry(photo, (photos[2],), photo, "done") for photo in photos]
    gallery.write(tmp_path, entries)
    names = [photo["name"] for photo in page_data(tmp_path)["photos"]]
    assert names == ["north/cat.png", "south/cat.png", "dog"]


def test_what_cannot_be_read_is_listed_as_failed(tmp_path, paint):
    photo, painting = paint("photo.png", RED), paint("painting.png", BLUE)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    missing, broken = str(tmp_path / "missing.png"), str(tmp_path / "broken.png")
    entries = [
        Entry(photo, (painting,), missing, "done"),
        Entry(photo, (broken,), broken, "kept"),
        Entry(missing, (painting,), photo, "done"),
    ]
    gallery.write(tmp_path, entries)
    first, second, third = listed(tmp_path)
    assert first["status"] == "failed" and first["message"].startswith(f"no file {missing}")
    assert second["status"] == "failed" and "is not a picture" in second["message"]
    assert third["status"] == "done"
    assert page_data(tmp_path)["photos"][1]["pictures"][0]["thumbnail"] is None
    gallery.write(tmp_path, entries[2:], max_megapixels=0.01)
    assert "more than 0.01" in listed(tmp_path)[0]["message"]


def test_the_list_says_all_that_is_known(tmp_path, paint):
    photo, painting = paint("photo.png", RED), paint("painting.png", BLUE)
    result = paint("out/naïve 日.png", GREEN)
    losses = {"content": 1.5, "total": float("nan")}
    settings = {"size": 512, "width": None, "style_scales": (1.0, 0.5), "scales": "auto"}
    gallery.write(
        tmp_path / "out", [Entry(photo, (painting,), result, "done", "", 2.5, losses, settings)]
    )
    assert listed(tmp_path / "out") == [
        {
            "content": photo,
            "styles": [painting],
            "output": "naïve 日.png",
            "status": "done",
            "message": "",
            "seconds": 2.5,
            "losses": {"content": 1.5, "total": None},
            "settings": {**settings, "style_scales": [1.0, 0.5]},
        }
    ]


def test_settings_in_common_are_listed_once(tmp_path, paint):
    photo, painting = paint("photo.png", RED), paint("painting.png", BLUE)
    shared = {"size": 512, "style_scales": (1.0, 0.5), "width": None}
    entries = [
        Entry(photo, (painting,), photo, "done", settings=shared | {"seed": 1}),
        Entry(painting, (painting,), photo, "kept", settings=shared | {"style_scales": [1, 0.5]}),
        Entry(photo, (photo,), photo, "failed", "why"),
    ]
    gallery.write(tmp_path, entries)
    assert page_data(tmp_path)["common"] == json.loads(json.dumps(shared))
    (first, failed), (second, missing) = page_data(tmp_path)["rows"]
    assert first["settings"] == {"seed": 1} and second["settings"] == failed["settings"] == {}
    assert missing is None


def test_many_thumbnails_are_smaller(tmp_path, monkeypatch, picture):
    paths = []
    for seed in range(20):
        paths.append(str(tmp_path / f"{seed}.png"))
        Image.fromarray(picture(200, 300, seed).astype(np.uint8)).save(paths[-1])
    monkeypatch.setattr(gallery, "THUMBNAIL_MEGABYTES", 0.03)
    thumbnails, _ = gallery._thumbnails(paths, 1)
    assert sum(map(len, thumbnails.values())) <= 30_000
    assert 50 < max(Image.open(io.BytesIO(thumbnails[paths[0]])).size) < 100
    monkeypatch.setattr(gallery, "THUMBNAIL_MEGABYTES", 0)
    (data,) = gallery._thumbnails(paths[:1], 1)[0].values()
    assert Image.open(io.BytesIO(data)).size == (24, 16)


def test_a_missing_folder_is_reported(tmp_path, paint):
    photo = paint("photo.png", RED)
    with pytest.raises(UserError, match=r"cannot write .*gallery\.json \(No such file"):
        gallery.write(tmp_path / "gone", [Entry(photo, (photo,), photo, "done")])


def test_no_results_are_an_empty_gallery(tmp_path):
    gallery.write(tmp_path, [])
    assert listed(tmp_path) == [] and (tmp_path / "gallery.jpg").exists()


# The page

EVIL = "<img src=x onerror=alert(1)>&quot;'\"</script>{{GALLERY}}"


def test_no_name_is_read_as_html(tmp_path, paint):
    name = EVIL.replace("/", "")
    entry = Entry(paint(f"{name}.png", RED), (paint("a.png", BLUE),), EVIL, "failed", EVIL)
    gallery.write(tmp_path, [entry])
    page = (tmp_path / "gallery.html").read_text(encoding="utf-8")
    assert "<img src=x" not in page and not re.search(r"https?://", page)
    assert page_data(tmp_path)["photos"][0]["name"] == name
    assert page_data(tmp_path)["rows"][0][0]["message"] == EVIL


@pytest.mark.skipif(os.name == "nt", reason="file names are text there")
def test_a_name_may_have_bytes_that_cannot_be_decoded(tmp_path, paint):
    photo = paint(os.fsdecode(b"caf\xe9 100%\n?#1.png"), RED)
    gallery.write(tmp_path, [Entry(photo, (photo,), photo, "done")])
    (shown,) = page_data(tmp_path)["photos"]
    assert shown["name"] == "caf? 100% ?#1"
    assert shown["pictures"][0]["link"] == "caf%E9%20100%25%0A%3F%231.png"
    assert listed(tmp_path)[0]["content"] == photo


@pytest.fixture
def opened(tmp_path, browser, paint):
    """Opens the page of a gallery of 2 photos and 6 paintings; one result failed. The page has
    `errors` and `requests`."""

    def opened(width):
        photos = [
            paint("<b>one<b>.png", RED),
            paint("é & 2.png", GREEN),
        ]
        paintings = [paint(f"painting-{x}-with-a-long-name.png", (40 * x, 0, 0)) for x in range(6)]
        entries = []
        for photo in photos:
            for x, painting in enumerate(paintings):
                result = paint(f"out/{len(entries)} #%.png", (0, 40 * x, 99), 400, 600)
                settings = {"size": 512, "seed": x, "style_scales": None}
                done = Entry(
                    photo, (painting,), result, "done", "", 2.5, {"total": 12345.6}, settings
                )
                entries.append(done)
        entries[-1] = entries[-1]._replace(status="failed", message=EVIL)
        gallery.write(tmp_path / "out", entries)
        page = new_page(browser, width, 700)
        page.goto((tmp_path / "out" / "gallery.html").as_uri())
        return page

    return opened


def test_a_browser_shows_the_gallery_and_opens_a_picture(tmp_path, opened):
    page = opened(1200)
    assert page.inner_text("h1") == "out"
    assert page.inner_text("#summary") == "2 photos, 6 paintings, 11 painted, 1 failed"
    assert page.locator("#grid img").count() == 8 + 11
    assert page.evaluate("[...document.images].every(i => !i.src || i.naturalWidth == 256)")
    assert page.inner_text(".photo >> nth=1") == "<b>one<b>"
    page.click("summary")
    assert page.inner_text("#common").split() == ["size", "512"]
    # a result
    assert not page.is_visible("dialog")
    page.click(".result a >> nth=7")
    page.wait_for_function("document.querySelector('#large img').naturalWidth == 600")
    assert page.inner_text("#name") == "é & 2 in the style of painting-1-with-a-long-name"
    assert page.inner_text("#facts").split("\n") == [
        "seconds",
        "2.5",
        "total loss",
        "12,350",
        "seed",
        "1",
    ]
    link = page.get_attribute("#file", "href")
    assert link == "7%20%23%25.png" and page.inner_text("#error") == ""
    page.click("#close")
    # what failed
    page.click("button.failed")
    assert page.inner_text("#error") == EVIL and not page.is_visible("#large")
    assert page.inner_text("#name").startswith("é & 2 in the style of painting-5")
    page.keyboard.press("Escape")
    # a picture that has gone since is shown small
    (tmp_path / "out" / "0 #%.png").unlink()
    page.click(".result a >> nth=0")
    page.wait_for_function("document.querySelector('#large img').naturalWidth == 256")
    assert [error for error in page.errors if "ERR_FILE_NOT_FOUND" not in error] == []
    assert len(page.errors) == 1
    assert all(url.startswith((tmp_path.as_uri(), "data:")) for url in page.requests)


@pytest.mark.parametrize("width", [360, 1200])
def test_the_page_is_no_wider_than_the_screen(opened, width):
    page = opened(width)
    for name in ("summary", ".result a >> nth=1"):
        page.click(name)
    page.wait_for_function("document.querySelector('#large img').naturalWidth == 600")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for name in ("dialog", "#large img", "#facts", "#close"):
        box = page.locator(name).bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= width
    page.click("#close")
    # photos and paintings stay where the grid is scrolled
    before = page.locator(".photo >> nth=1").bounding_box()
    page.evaluate("document.getElementById('grid').scrollTo(200, 0)")
    assert page.locator(".photo >> nth=1").bounding_box() == before
    assert page.errors == []
    # nothing is stretched
    shapes = "[...document.querySelectorAll('#grid img')].map(i => i.clientWidth / i.clientHeight)"
    assert np.abs(np.array(page.evaluate(shapes)) - 1.5).max() < 0.05

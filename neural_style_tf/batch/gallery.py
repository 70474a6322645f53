"""Gallery: the results of a batch -> gallery.json, gallery.html and a contact sheet, gallery.jpg.

NumPy and Pillow are imported late, as in neural_style.py.
"""

import base64
import collections
import io
import json
import math
import os
import urllib.parse
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from neural_style_tf.errors import UserError
from neural_style_tf.pictures import files
from neural_style_tf.runs.provenance import plain
from neural_style_tf.settings import MAX_MEGAPIXELS

if TYPE_CHECKING:
    from PIL import Image

PAGE = Path(__file__).with_name("gallery.template.html")
LONGEST_SIDE, SHORTEST_SIDE = 256, 24  # pixels, of a thumbnail's long side
THUMBNAIL_MEGABYTES = 11  # all together; the page has them in base64, a third more
THUMBNAIL_QUALITY, SHEET_QUALITY = 75, 90  # libjpeg's default, and finer
# Size of a thumbnail in bytes: this, and more by the square of its long side in pixels. Measured on
# the pictures in examples, at 24 to 256 pixels.
BYTES, BYTES_PER_PIXEL = 400, 0.23


class Entry(NamedTuple):
    """A picture of the gallery, and what became of it."""

    content: str  # path of the photo
    styles: tuple[str, ...]  # paths of the paintings: one, or several blended
    output: str  # path of the result
    status: str  # "done", "kept" (it existed already) or "failed"
    message: str = ""  # one line: why it failed
    seconds: float = 0.0
    losses: Mapping[str, float] = {}  # content, style, tv, total
    settings: Mapping[str, Any] = {}  # every setting by name, JSON values


class _Grid(NamedTuple):
    photos: dict[tuple[str, ...], str]  # path -> name, one per row
    paintings: dict[tuple[str, ...], str]  # paths -> name, one per column
    rows: list[list[Entry | None]]
    thumbnails: dict[str, bytes]  # JPEG files, by path


def write(folder: Path, entries: Sequence[Entry], max_megapixels: float = MAX_MEGAPIXELS) -> None:
    """Writes the three files. Page and contact sheet have a row per photo and a column per painting
    or blend of paintings; of two results for one place they show the later.

    A result that cannot be read, or has more than `max_megapixels`, is listed as failed. Raises
    `UserError` if a file cannot be written.
    """
    paths = {path: None for entry in entries for path in (entry.content, *entry.styles)}
    paths |= {entry.output: None for entry in entries if entry.status != "failed"}
    thumbnails, errors = _thumbnails(paths, max_megapixels)
    entries = [_corrected(entry, errors) for entry in entries]
    grid = _grid(entries, thumbnails)
    table, page, contact_sheet = files_in(folder)
    files.write(table, _json(folder, entries))
    files.write(page, _page(folder, grid))
    sheet = _sheet(grid)
    with files.writing(contact_sheet) as file:
        sheet.save(file, "JPEG", quality=SHEET_QUALITY)


def files_in(folder: files.StrPath) -> list[str]:
    """The three files of a gallery: table, page and contact sheet."""
    return [os.path.join(folder, f"gallery.{ending}") for ending in ("json", "html", "jpg")]


def _grid(entries: Sequence[Entry], thumbnails: dict[str, bytes]) -> _Grid:
    photos = _named([(entry.content,) for entry in entries])
    paintings = _named([entry.styles for entry in entries])
    results = {(entry.content, entry.styles): entry for entry in entries}
    rows = [[results.get((photo, group)) for group in paintings] for (photo,) in photos]
    return _Grid(photos, paintings, rows, thumbnails)


def _named(groups: Sequence[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """The names of files without their endings; with ending and folder where two would have the
    same name."""
    short = {group: " + ".join(Path(path).stem for path in group) for group in groups}
    count = collections.Counter(short.values())
    return {
        group: _clean(name if count[name] == 1 else _long(group)) for group, name in short.items()
    }


def _long(group: Sequence[str]) -> str:
    return " + ".join("/".join(Path(os.path.abspath(path)).parts[-2:]) for path in group)


def _clean(name: str) -> str:
    """The name on one line and without bytes that cannot be decoded: file names may have both."""
    return " ".join(name.encode("utf-8", "replace").decode().split())


def _corrected(entry: Entry, errors: Mapping[str, str]) -> Entry:
    """The entry as failed if its picture could not be read."""
    if entry.status == "failed" or entry.output not in errors:
        return entry
    return entry._replace(status="failed", message=errors[entry.output])


def _thumbnails(
    paths: Collection[str], max_megapixels: float
) -> tuple[dict[str, bytes], dict[str, str]]:
    """The thumbnails of pictures, and why some could not be read, by path. Holds one picture in
    memory at a time."""
    room = max(0.0, THUMBNAIL_MEGABYTES * 1e6 / max(1, len(paths)) - BYTES)
    side = min(LONGEST_SIDE, max(SHORTEST_SIDE, int(math.sqrt(room / BYTES_PER_PIXEL))))
    thumbnails, errors = {}, {}
    for path in paths:
        try:
            thumbnails[path] = _thumbnail(path, side, max_megapixels)
        except UserError as error:
            errors[path] = str(error)
    return thumbnails, errors


def _thumbnail(path: str, side: int, max_megapixels: float) -> bytes:
    """A JPEG file of at most this long side in pixels. Raises `UserError` if the picture cannot be
    read."""
    from PIL import Image

    from neural_style_tf.pictures import reading, writing

    def size_of(*size: int) -> tuple[int, int]:
        scale = min(1, side / max(size))
        height, width = (max(1, round(scale * length)) for length in size)
        return height, width

    small = Image.fromarray(writing.to_bytes(reading.read(path, max_megapixels, size_of).pixels))
    data = io.BytesIO()
    small.save(data, "JPEG", quality=THUMBNAIL_QUALITY, optimize=True)
    return data.getvalue()


def _result(grid: _Grid, entry: Entry) -> bytes | None:
    """The thumbnail of a result. One that failed has none, even if its file exists."""
    return None if entry.status == "failed" else grid.thumbnails[entry.output]


# The three files


def _json(folder: Path, entries: Sequence[Entry]) -> bytes:
    """One line per picture."""
    lines = []
    for entry in entries:
        plainer = {
            "output": _relative(entry.output, folder),
            "settings": dict(entry.settings),
            "losses": _losses(entry),
        }
        lines.append(json.dumps(entry._asdict() | plainer))
    return ('{"pictures": [\n' + ",\n".join(lines) + "\n]}\n").encode()


def _page(folder: Path, grid: _Grid) -> bytes:
    """`PAGE` with the data that its script shows: as JSON without "<", so that no name is read as
    HTML."""
    find = grid.thumbnails.get
    common = _common([entry.settings for row in grid.rows for entry in row if entry])

    def picture(path: str, data: bytes | None) -> dict[str, Any]:
        thumbnail = base64.b64encode(data).decode() if data else None
        return {"link": _link(path, folder), "thumbnail": thumbnail}

    def inputs(named: dict[tuple[str, ...], str]) -> list[dict[str, Any]]:
        return [
            {"name": name, "pictures": [picture(path, find(path)) for path in group]}
            for group, name in named.items()
        ]

    def result(entry: Entry) -> dict[str, Any]:
        settings = {name: value for name, value in entry.settings.items() if name not in common}
        return picture(entry.output, _result(grid, entry)) | {
            "status": entry.status,
            "message": entry.message,
            "seconds": entry.seconds,
            "losses": _losses(entry),
            "settings": settings,
        }

    data = {
        "title": folder.resolve().name,
        "common": common,
        "photos": inputs(grid.photos),
        "paintings": inputs(grid.paintings),
        "rows": [[entry and result(entry) for entry in row] for row in grid.rows],
    }
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    return PAGE.read_bytes().replace(b"{{GALLERY}}", text.encode())


def _sheet(grid: _Grid) -> "Image.Image":
    from neural_style_tf.batch import contact_sheet

    find = grid.thumbnails.get
    paintings = [(name, [find(path) for path in group]) for group, name in grid.paintings.items()]
    photos = [(name, [find(photo)]) for (photo,), name in grid.photos.items()]
    fields = [[[_result(grid, entry)] if entry else [] for entry in row] for row in grid.rows]
    return contact_sheet.draw(paintings, photos, fields)


def _relative(path: str, folder: Path) -> str:
    """The path relative to `folder`, with slashes; the absolute one if that is on another drive."""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:
        return os.path.abspath(path)


def _link(path: str, folder: Path) -> str:
    relative = _relative(path, folder)
    if os.path.isabs(relative):
        return Path(relative).as_uri()
    return urllib.parse.quote(os.fsencode(relative))


def _losses(entry: Entry) -> dict[str, float | None]:
    """JSON cannot express nan or infinity: they are null."""
    return {name: loss if math.isfinite(loss) else None for name, loss in entry.losses.items()}


def _common(settings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The settings that have the same value in all runs. A run that failed early has none."""
    first, *others = [values for values in settings if values] or [{}]
    return {
        name: value
        for name, value in first.items()
        if all(name in other and plain(other[name]) == plain(value) for other in others)
    }

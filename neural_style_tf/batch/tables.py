"""Tables: a CSV file of pairs -> its rows, checked. A table may come from a stranger."""

import csv
import io
import os
from pathlib import Path

from neural_style_tf.errors import UsageError, UserError, shortened
from neural_style_tf.pictures import files
from neural_style_tf.runs import recipe

MOST_BYTES = 50_000_000


def read(path: str) -> list[tuple[int, dict[str, str]]]:
    """The rows of a table (CSV), each with the number of its line."""
    try:
        with files.open_to_read(path) as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise UserError(f"{path} is larger than {MOST_BYTES // 10**6} MB: split it")
        table = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        columns = table.fieldnames or []
        rows = [(table.line_num, row) for row in table]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"{path} is not a table ({files.reason(error)}): save it as CSV, in UTF-8"
        ) from error
    missing = {"content", "styles"} - set(columns)
    unknown = set(columns) - {"content", "styles", "output", "options"}
    if missing:
        raise UsageError(f"{path} has no column {min(missing)}: its first line names the columns")
    if unknown:
        raise UsageError(f"{path} has the unknown column {shortened(min(unknown))}: remove it")
    if not rows:
        raise UsageError(f"{path} has no row: add one row per picture")
    return rows


def pictures_of(row: dict[str, str]) -> tuple[str, tuple[str, ...]]:
    """The photo and the paintings of a row."""
    cells = [cell for cell in row.values() if isinstance(cell, str)]
    if any("\0" in cell for cell in cells):
        raise UsageError("holds a null byte: check the table")
    styles = tuple(filter(None, (name.strip() for name in (row["styles"] or "").split(";"))))
    content = (row["content"] or "").strip()
    if not content or not styles or None in row:
        raise UsageError("needs content and styles: put a value that has a comma between quotes")
    return content, styles


def own_options(
    text: str, check_table: recipe.Check, check_recipe: recipe.Check
) -> recipe.Expanded:
    """The arguments in a row's options column. A recipe among them (@FILE) may set what recipes
    may. Raises `UsageError`, as the two checks do for options that a table or a recipe may not
    set."""
    try:
        words = recipe.bundled_as_files(recipe.split(text))
    except ValueError:
        raise UsageError("a quote in the options is not closed") from None
    check_table([word for word in words if not word.startswith("@")])
    return recipe.expand(words, check_recipe)


def check_inside(output: str, folder: str) -> None:
    """Raises `UsageError` for an output that does not lie in the folder, links followed."""
    if Path(os.path.realpath(folder)) not in Path(os.path.realpath(output)).parents:
        raise UsageError(
            f"the output {output} is outside of {folder}: pass --allow-outside to write there"
        )

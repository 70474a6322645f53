"""Pairs: photos and paintings, or the rows of a table -> what a batch paints, checked.

NumPy and Pillow are imported late, as in neural_style.py.
"""

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from neural_style_tf.batch import tables
from neural_style_tf.batch.options import BatchOptions
from neural_style_tf.errors import UsageError, UserError
from neural_style_tf.needs import Layer
from neural_style_tf.runs import checks
from neural_style_tf.runs.options import RunOptions


class Pair(NamedTuple):
    """A photo, the paintings whose style it gets, and how."""

    content: str
    styles: tuple[str, ...]
    output: str
    options: RunOptions


class Readers(NamedTuple):
    """How command lines are read.

    options: layers of options -> those of every picture that is painted so. row: the text in the
    options column of a table -> its layers.
    """

    options: Callable[[Sequence[Layer]], RunOptions]
    row: Callable[[str], Sequence[Layer]]


def read(options: BatchOptions, layers: Sequence[Layer], readers: Readers) -> list[Pair]:
    """What is to be painted, in the order of the gallery. layers: the options of every picture."""
    if options.pairs:
        return list(_read_table(options, layers, readers))
    common = _checked(readers.options(layers))
    contents = find_pictures(options.contents or ())
    styles = find_pictures(options.styles or ())
    return [
        _pair(content, (style,), None, common, options) for content in contents for style in styles
    ]


def _checked(common: RunOptions) -> RunOptions:
    pattern = common.checkpoint_output
    if pattern and not ("{content}" in pattern and "{style}" in pattern):
        raise UsageError(
            f"--checkpoint-output {pattern} would be one file for several pictures: add "
            "{content} and {style}, as in {content}-{style}-%04d.jpg"
        )
    return common


def _read_table(options: BatchOptions, layers: Sequence[Layer], readers: Readers) -> Iterator[Pair]:
    """Raises `UsageError`, with its line, for a row that is wrong."""
    known: dict[str, RunOptions] = {}  # by the text of their column: many rows have the same
    for line, row in tables.read(options.pairs or ""):
        try:
            text = row.get("options") or ""
            if text not in known:
                known[text] = _checked(readers.options([*layers, *readers.row(text)]))
            content, styles = tables.pictures_of(row)
            output = row.get("output")
            pair = _pair(content, styles, output, known[text], options)
            if output and not options.allow_outside:
                tables.check_inside(pair.output, options.output_dir)
        except UserError as error:
            raise UsageError(f"{options.pairs}, line {line}: ", *error.args) from error
        yield pair


def find_pictures(paths: Sequence[str]) -> list[str]:
    """The pictures that files, folders and patterns name, each once. Raises `UsageError` for a
    path that names none."""
    from neural_style_tf.pictures import portable

    pictures: dict[str, None] = {}
    for path in paths:
        for match in portable.matching(path):
            if not os.path.lexists(match):
                raise UsageError(f"no file {match}: check the name")
            pictures |= dict.fromkeys(_in_folder(match) if os.path.isdir(match) else [match])
    return list(pictures)


def _in_folder(folder: str) -> list[str]:
    from neural_style_tf.pictures import formats

    paths = sorted(
        os.path.join(folder, name)
        for name in os.listdir(folder)
        if Path(name).suffix.lower() in formats.READABLE_ENDINGS and not name.startswith(".")
    )
    if not paths:
        raise UsageError(f"no picture in {folder}: choose another folder")
    return paths


def _pair(
    content: str,
    styles: tuple[str, ...],
    output: str | None,
    common: RunOptions,
    options: BatchOptions,
) -> Pair:
    """common: the options of such a picture, except for its files."""
    output = os.path.join(options.output_dir, output or _name(content, styles, options.name))
    state = f"{output}.state.npz" if options.save_states else None
    own = dataclasses.replace(
        common, content=content, styles=styles, output=output, save_state=state
    )
    return Pair(content, styles, output, own)


def _name(content: str, styles: tuple[str, ...], pattern: str) -> str:
    try:
        return pattern.format(
            content=Path(content).stem,
            style="+".join(Path(style).stem for style in styles),
            content_folder=Path(os.path.abspath(content)).parent.name,
            style_folder=Path(os.path.abspath(styles[0])).parent.name,
            content_file=Path(content).name,
            style_file="+".join(Path(style).name for style in styles),
        )
    except (KeyError, ValueError, IndexError, AttributeError, TypeError) as error:
        raise UsageError(
            f"--name {pattern} has an unknown field: use {{content}}, {{style}}, "
            "{content_file}, {style_file}, {content_folder} or {style_folder}"
        ) from error


def check_names(pairs: Sequence[Pair]) -> None:
    """Raises `UserError` for results that would be one file, or whose format has no settings, or
    not what is asked of it."""
    from neural_style_tf.pictures import portable, writing
    from neural_style_tf.runs import outputs

    pairs_by_path: dict[str, Pair] = {}
    for pair in pairs:
        if Path(pair.output).stem.lower() == "gallery":
            raise UsageError(f"{pair.output} is the gallery's own name: choose another --name")
        if Path(pair.output).suffix.lower() == ".bmp":
            raise UsageError(f"{pair.output} could not keep its settings: use .png, .jpg or .webp")
        portable.check_name(pair.output)
        outputs.check_form(pair.options)
        path = portable.folded(os.path.abspath(pair.output))
        other = pairs_by_path.setdefault(path, pair)
        if other is not pair:
            first, second = (
                f"{pair.content} in {' + '.join(pair.styles)}" for pair in (other, pair)
            )
            raise UsageError(
                f"{first} and {second} would both be {pair.output}: use a --name with "
                "{content_file} or {content_folder} or the like"
            )
    for ending in {Path(pair.output).suffix: pair.output for pair in pairs}.values():
        writing.check_ending(ending)


def check_inputs(
    pairs: Sequence[Pair], other_inputs: Sequence[str], other_outputs: Sequence[str]
) -> None:
    """Raises `UsageError` for a file that would replace one that the batch reads. The others are
    inputs and outputs of the batch besides those of the pairs."""
    from neural_style_tf.pictures import portable
    from neural_style_tf.runs import outputs

    read, written = set(other_inputs), list(other_outputs)  # many pairs have the same inputs
    for pair in pairs:
        read.update(checks.files_read(pair.options))
        written += outputs.paths(pair.options)
    places = set(map(portable.place, read))
    for path in written:
        if portable.place(path) in places:
            raise UsageError(
                f"the output {path} is also an input: choose another --output-dir or --name"
            )

"""Inputs: the pictures and masks that the command line names -> arrays at the size of the run.

NumPy and Pillow are imported late, as in neural_style.py.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from neural_style_tf.errors import SettingName, UsageError, UserError
from neural_style_tf.machine import memory, recent
from neural_style_tf.painting import stages
from neural_style_tf.pictures import files, sizes
from neural_style_tf.pictures.sizes import Placement, Size
from neural_style_tf.runs.options import RunOptions

if TYPE_CHECKING:
    import numpy as np

    from neural_style_tf.painting.stages import Stage
    from neural_style_tf.pictures.photo_metadata import PhotoMetadata
    from neural_style_tf.pictures.regions import RegionMap

NO_MASK = "-"  # in the place of a style's
PICTURES_HELD = 6  # of the result's size, [H, W, 3] float32, by a run that makes do with the least
PROPORTIONS_TOLERANCE = 0.02  # of a mask against its picture: they come in whole pixels


@dataclass
class Pictures:
    """What is painted from what: [H, W, 3] float32 RGB, 0..255, at the size of the run."""

    content: "np.ndarray"
    alpha: "np.ndarray | None"  # the photo's own transparency, [H, W] float32, 0..1
    styles: "list[np.ndarray]"
    initial: "np.ndarray | None"
    masks: "dict[str, Any]"  # as `stylize` takes them
    plan: "list[Stage]"
    metadata: "PhotoMetadata | None" = None  # of the photo
    fit: str = ""  # what was done to the photo's proportions, in words
    # the widths of the styles' strokes, where the settings ask for a size of strokes
    strokes: "list[float | None]" = field(default_factory=list)

    def let_go(self) -> None:
        """Of all pictures: the run that has them lets each go when it is done with it."""
        self.content = None  # type: ignore[assignment]  # nobody looks at it after this
        self.alpha = self.initial = None
        self.styles, self.masks = [], {}


class Read(NamedTuple):
    """A picture, and how it came to its size."""

    pixels: "np.ndarray"  # [H, W, 3] float32 RGB, 0..255, at the size of the run
    alpha: "np.ndarray | None"  # [H, W] float32, 0..1; the pixels are then filled behind it
    file_size: Size  # height and width
    placement: Placement


def load(options: RunOptions) -> Pictures:
    """Reads them all. Raises `UserError` for one that cannot be read, or does not fit."""
    from neural_style_tf.pictures import photo_metadata, regions

    settings = options.settings
    content = _load_content(options)
    size = height, width = content.pixels.shape[:2]
    plan = stages.plan(height, width, settings, has_initial=options.initial is not None)
    strokes = [_stroke_of(path, options) for path in options.styles]
    styles, sources, style_maps = _load_styles(options, size, strokes)
    has_sources = any(source is not None for source in sources)
    masks: dict[str, Any] = {
        "content_mask": _mask_of(content, options.content or "", options.content_mask, options),
        "style_masks": options.style_masks
        and [load_mask(path, content, options.max_megapixels) for path in options.style_masks],
        "style_source_masks": sources if has_sources else None,
    }
    if options.content_regions is not None:
        content_map = _load_map(options.content_regions, content, options)
        assert content_map is not None  # only a painting may be without
        masks |= {"content_regions": content_map, "style_regions": style_maps}
        shares = settings.style_shares(len(styles))
        regions.parts(
            *(content_map, style_maps, shares, masks["content_mask"], sources),
            options.content_regions,
        )  # before anything expensive begins
    initial = _load_initial(options, content)
    photo = None if options.no_metadata else options.content
    metadata = photo_metadata.read(photo) if photo else None
    fit = sizes.in_words(content.file_size, content.placement)
    return Pictures(
        content.pixels, content.alpha, styles, initial, masks, plan, metadata, fit, strokes
    )


def _load_content(options: RunOptions) -> Read:
    """The photo, at the size of the result, which is checked before anything is enlarged to it; of
    a texture what stands for it."""
    from neural_style_tf.pictures import writing

    settings = options.settings
    if options.content is None:
        return _without_photo(options)

    def place(height: int, width: int) -> Placement:
        placement = sizes.of_content((height, width), settings)
        writing.check_output_size(options.output, *placement.full_size)
        _check_memory(*placement.full_size)
        return placement

    extension = os.path.splitext(options.output)[1]
    key = settings.size, settings.width, settings.height, settings.fit, extension
    return _read(options.content, options.max_megapixels, place, key)


def _without_photo(options: RunOptions) -> Read:
    from neural_style_tf.painting import arguments
    from neural_style_tf.pictures import writing

    size = options.settings.texture_size()
    assert size is not None  # or there is a photo
    writing.check_output_size(options.output, *size)
    _check_memory(*size)
    return Read(arguments.nothing(options.settings), None, size, Placement(size))


def _load_styles(
    options: RunOptions, size: tuple[int, int], strokes: "list[float | None]"
) -> "tuple[list[np.ndarray], list[np.ndarray | None], list[RegionMap | None]]":
    """The paintings, each at its size in the run, the masks of what is learnt of them, and their
    maps of regions. size: height and width of the result. strokes: the widths of their strokes."""
    settings, count = options.settings, len(options.styles)
    mask_paths = options.style_source_masks or [None] * count
    map_paths = options.style_regions or [None] * count
    styles, sources, maps = [], [], []
    for number, (path, mask_path, map_path, stroke) in enumerate(
        zip(options.styles, mask_paths, map_paths, strokes, strict=True)
    ):

        def place(
            height: int, width: int, number: int = number, stroke: float | None = stroke
        ) -> Placement:
            return sizes.of_style((height, width), size, settings, number, stroke)

        chosen = settings.style_fit, settings.style_scales, settings.style_size, stroke
        style = _read(path, options.max_megapixels, place, (size, chosen, number))
        styles.append(style.pixels)
        sources.append(_mask_of(style, path, mask_path, options))
        maps.append(_load_map(map_path, style, options))
    return styles, sources, maps


def _stroke_of(path: str, options: RunOptions) -> float | None:
    """The width of a painting's strokes, where the settings ask for a size of strokes."""
    from neural_style_tf.pictures import strokes

    if options.settings.stroke_size is None:
        return None

    def place(height: int, width: int) -> Placement:
        return Placement(strokes.measured_size(height, width))

    picture = _read(path, options.max_megapixels, place, ("strokes",))
    return strokes.width(picture.pixels)


def _load_map(path: str | None, picture: Read, options: RunOptions) -> "RegionMap | None":
    """The map of the regions of a picture, brought to its size as the picture was, whatever its own
    proportions are; None without one. Raises `UserError`."""
    from neural_style_tf.pictures import reading, regions

    if path is None or path == NO_MASK:
        return None
    map_ = regions.region_map(path, reading.read(path, options.max_megapixels).pixels)
    size = map_.labels.shape
    placement = _placed_with(picture, size) or picture.placement.scaled(picture.file_size, size)
    return map_.placed(placement)


def _mask_of(
    picture: Read, path: str, mask_path: str | None, options: RunOptions
) -> "np.ndarray | None":
    """What counts of a picture, [H, W] at its size in the run: its mask, and what is opaque."""
    from neural_style_tf.pictures import masks

    mask = load_mask(mask_path, picture, options.max_megapixels)
    joined = masks.joined(mask, picture.alpha)
    if joined is not None and not joined.any():
        raise UsageError(
            f"{path} is transparent where mask {mask_path} is white: paint white what counts"
        )
    return joined


def _load_initial(options: RunOptions, content: Read) -> "np.ndarray | None":
    """The picture to start from; where it is transparent, the photo."""
    from neural_style_tf.pictures import reading, transparency

    if not options.initial:
        return None

    def place(height: int, width: int) -> Placement:
        size = height, width
        placement = _placed_with(content, size)
        fit = options.settings.fit_of_pictures()
        return placement or sizes.fitted(size, content.placement.full_size, fit)

    initial = reading.read(options.initial, options.max_megapixels, place)
    if initial.alpha is None:
        return initial.pixels
    return transparency.over(initial.pixels, initial.alpha, content.pixels)


def _placed_with(picture: Read, size: Size) -> Placement | None:
    """How what belongs to a picture, a mask or the start of a run, is brought to its size: as the
    picture is, if it has the proportions of its file, or whole, if it has those of the picture as
    it is painted. None for other proportions."""
    result = picture.placement.full_size
    of_file, of_result = (sizes.deviation(size, other) for other in (picture.file_size, result))
    if min(of_file, of_result) > PROPORTIONS_TOLERANCE:
        return None
    if of_result < of_file:
        return Placement(result)
    return picture.placement.scaled(picture.file_size, size)


def _check_memory(height: int, width: int) -> None:
    """Raises `UserError` for a result that this machine cannot hold, however it is painted."""
    free, least = memory.free_system_memory(), PICTURES_HELD * 12 * height * width
    if free is not None and least > free:
        raise UserError(
            f"{width}x{height} pixels take {least / 1e9:.1f} GB of memory at least, and "
            f"{free / 1e9:.1f} GB are free: make the picture smaller"
        )


def _read(
    path: str,
    max_megapixels: float,
    place: Callable[[int, int], Placement],
    depends_on: tuple,
) -> Read:
    """A picture brought to a size as `place` says for that of its file. depends_on: all that
    `place` depends on: pictures that a batch reads again are found by it. Raises `UsageError` for
    one that is transparent everywhere."""
    from neural_style_tf.pictures import reading, transparency

    def read() -> Read:
        (pixels, alpha), size = reading.read(path, max_megapixels, place), reading.size(path)
        if alpha is not None:
            if not alpha.any():
                raise UsageError(f"{path} is transparent everywhere: use another picture")
            pixels = transparency.filled(pixels, alpha)
        return Read(pixels, alpha, size, place(*size))

    key = (*files.version(path), max_megapixels, *depends_on)
    return recent.pictures.get(key, read, lambda picture: picture.pixels.nbytes)


def load_mask(path: str | None, picture: Read, max_megapixels: float) -> "np.ndarray | None":
    """The mask of a picture, brought to its size as the picture was; None without one. Raises
    `UserError` unless it has the proportions of the picture's file, or of the picture as it is
    painted, and something white."""
    from neural_style_tf.pictures import reading

    if path is None or path == NO_MASK:
        return None

    def place(mask_height: int, mask_width: int) -> Placement:
        placement = _placed_with(picture, (mask_height, mask_width))
        if placement is None:
            height, width = picture.file_size
            raise UsageError(
                f"mask {path} is {mask_width}x{mask_height} and its picture {width}x{height}: "
                "give it the same proportions"
            )
        return placement

    mask = reading.read_mask(path, max_megapixels, place)
    if not mask.any():
        where = " in what is left of its picture" if picture.placement.box else ""
        raise UsageError(f"mask {path} is all black{where}: paint white what counts")
    return mask


def check_masks(options: RunOptions) -> None:
    """Raises `UsageError` unless there is one mask per style, and one map of regions."""
    from neural_style_tf.pictures import regions

    for name in ("style_masks", "style_source_masks"):
        masks, count = getattr(options, name), len(options.styles)
        if masks is not None and len(masks) != count:
            raise UsageError(
                f"got {len(masks)} ",
                SettingName(name),
                f" for {count} style{'s' * (count != 1)}: pass one per style, {NO_MASK} for none",
            )
    regions.check_given(
        *(options.content_regions, options.style_regions, options.style_masks), len(options.styles)
    )

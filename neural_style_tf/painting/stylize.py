"""Stylize: pictures in memory -> better and better pictures in memory. Prints nothing.

TensorFlow is imported when `stylize` is called, not with this module.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neural_style_tf.errors import NotFiniteError, UsageError
from neural_style_tf.machine import tensorflow_setup
from neural_style_tf.painting.step import Step
from neural_style_tf.schema import settings_from_keywords
from neural_style_tf.settings import BUNDLED_NETWORK, Settings

if TYPE_CHECKING:
    import numpy as np
    from typing_extensions import Unpack

    from neural_style_tf.network.vgg import Network
    from neural_style_tf.painting.options import SettingsOptions

__all__ = ["NotFiniteError", "Step", "stylize"]


def stylize(
    network: "str | Path | Network" = BUNDLED_NETWORK,
    content: "np.ndarray | None" = None,
    styles: "Sequence[np.ndarray]" = (),
    *,
    initial: "np.ndarray | None" = None,
    style_masks: "Sequence[np.ndarray | None] | None" = None,
    content_mask: "np.ndarray | None" = None,
    style_source_masks: "Sequence[np.ndarray | None] | None" = None,
    content_regions: "np.ndarray | None" = None,
    style_regions: "Sequence[np.ndarray | None] | None" = None,
    on_step: Callable[[Step], None] | None = None,
    settings: Settings | None = None,
    **options: "Unpack[SettingsOptions]",
) -> "Iterator[tuple[int | None, np.ndarray]]":
    """Repaints a photo in the style of one or more paintings (Gatys, Ecker and Bethge 2016,
    Kolkin et al. 2022).

    network: a weights file, or what `vgg.load` made of one; by default the bundled one.
    content, styles, initial: [H, W, 3] RGB, 0..255, of any number type. `initial`, to start from,
        has the content's size. Larger styles give larger strokes. With an alpha, 0..255, as fourth
        channel, what is transparent is not painted, not learnt, or started from the content.
    style_masks: where each style paints, [H, W] of the content's size, 0..1; None for everywhere.
    content_mask: what is painted at all, likewise; the rest of the photo stays.
    style_source_masks: what each style is learnt from, [h, w] of its size; None for all of it.
    content_regions, style_regions: instead of style masks, a map of the content and of each style,
        or None: [H, W, 3], a flat colour per region, or [H, W], its number; of any size. Each of at
        most 16 regions is painted like those of its colour.
    on_step: called with a `Step` after every step, and once more at the end.
    settings, options: either `Settings`, or some of its fields by name; `texture` has no content.

    Yields `(iteration, image)` after each step whose number, from 0, is a multiple of
    `checkpoint_iterations`: the picture as it stands, at the size of its stage; and last `(None,
    image)`: the picture with the lowest loss, at the content's size. Images are [H, W, 3] float32
    RGB, 0..255, or [H, W, 4] with the content's alpha. Raises `UserError` for a wrong argument when
    called, and `NotFiniteError` later.
    """
    if settings is None:
        settings = settings_from_keywords(options)
    elif options:
        raise UsageError("got settings and options: use dataclasses.replace(settings, ...)")
    tensorflow_setup.prepare()  # before TensorFlow is imported
    from neural_style_tf.painting.painter import paint_stages

    pictures: dict[str, Any] = {
        **{"initial": initial, "style_masks": style_masks, "content_mask": content_mask},
        **{"style_source_masks": style_source_masks},
        **{"content_regions": content_regions, "style_regions": style_regions},
    }
    images = paint_stages(network, content, styles, settings, on_step=on_step, **pictures)
    return _with_alpha_of(content, images)


def _with_alpha_of(
    content: Any, images: "Iterator[tuple[int | None, np.ndarray]]"
) -> "Iterator[tuple[int | None, np.ndarray]]":
    """The images [H, W, 3], with the alpha of the content as fourth channel if it has one."""
    import numpy as np

    from neural_style_tf.pictures import resampling

    content = None if content is None else np.asarray(content)
    if content is None or content.shape[2] == 3:
        return images
    alpha = content[..., 3].astype(np.float32) / 255

    def with_alpha(image: np.ndarray) -> np.ndarray:
        return np.dstack([image, 255 * resampling.resize(alpha, *image.shape[:2])])

    return ((iteration, with_alpha(image)) for iteration, image in images)

"""The keyword options of `paint_file`, typed, so that an editor completes them: the fields of
`RunOptions`. A test compares the two."""

import os
from collections.abc import Sequence

from neural_style_tf.painting.options import SettingsOptions

StrPath = str | os.PathLike[str]


class RunKeywords(SettingsOptions, total=False):
    """What `paint_file` accepts by keyword; `RunOptions` and `Settings` have the meaning."""

    initial: StrPath | None
    content_mask: StrPath | None
    style_masks: Sequence[StrPath] | None
    style_source_masks: Sequence[StrPath] | None
    content_regions: StrPath | None
    style_regions: Sequence[StrPath] | None
    network: StrPath
    settings_from: StrPath | None
    save_settings: StrPath | None
    save_state: StrPath | None
    state_iterations: int | None
    resume: StrPath | None
    allow_changes: bool
    overwrite: bool
    bits: int
    jpeg_quality: int | None
    no_metadata: bool
    max_megapixels: float
    checkpoint_output: StrPath | None
    checkpoint_full_size: bool
    timelapse: StrPath | None
    log_dir: StrPath | None
    progress_write: bool
    progress_plot: bool
    threads: int | None
    device: str
    quiet: bool
    debug: bool

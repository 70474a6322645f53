"""The keyword options of `stylize`, typed: the fields of `Settings`, so that an editor completes
them. A test compares the two."""

from collections.abc import Mapping, Sequence
from typing import TypedDict


class SettingsOptions(TypedDict, total=False):
    """What `stylize` accepts by keyword; `Settings` has the defaults, the rules and the meaning."""

    width: int | None
    height: int | None
    size: int | None
    fit: str | None
    scales: str | int
    texture: str | None
    style_scales: Sequence[float] | None
    style_size: Sequence[int] | None
    stroke_size: float | None
    style_stages: str
    style_fit: str
    content_weight: float
    content_weight_blend: float
    style_weight: float | None
    stylization: float | None
    style_layer_weight_exp: float
    style_blend_weights: Sequence[float] | None
    tv_weight: float
    preserve_colors: str | bool | None
    content_layers: Mapping[str, float] | Sequence[str] | None
    style_layers: Mapping[str, float] | Sequence[str] | None
    layer_reduction: str
    content_loss: str
    style_loss: str | None
    style_rotations: bool
    tv_loss: str
    pooling: str
    pooling_rescale: bool
    padding: str
    normalization: bool
    iterations: int | None
    optimizer: str | None
    evaluations: int
    clip: bool
    max_evaluations: int | None
    max_seconds: float | None
    patience: int | None
    learning_rate: float | None
    learning_rate_schedule: str | None
    decay_every: int | None
    decay_factor: float | None
    beta1: float | None
    beta2: float | None
    eps: float | None
    initial_noiseblend: float
    initial_colors: str | None
    noise_range: Sequence[float] | None
    precision: str
    tile: str | int
    seed: int
    print_iterations: int | None
    checkpoint_iterations: int | None

"""Settings: every knob of a run, its default and its rule, written once."""

import dataclasses
import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neural_style_tf.errors import SettingName, UsageError, nearest, shortened

BUNDLED_NETWORK = Path(__file__).resolve().parent / "data" / "imagenet-vgg-verydeep-19.mat"

# Gatys, Ecker and Bethge 2016, section 2: the layers that stand for style.
STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
# The content layers that `content_weight_blend` mixes.
CONTENT_LAYERS = ("relu4_2", "relu5_2")

# Steps of each optimizer, unless told otherwise.
ITERATIONS = {"lbfgs": 100, "adam": 300, "l-bfgs-b": 10}
LEARNING_RATE = 5.0  # likewise
# What only Adam asks for: who gives one of these and no optimizer means Adam.
OF_ADAM = (
    *("learning_rate", "learning_rate_schedule", "decay_every", "decay_factor"),
    *("beta1", "beta2", "eps"),
)

DEFAULT_STYLE_WEIGHT = 5000.0
STYLIZATION_RANGE = 100.0  # times more or less weight of style, at either end

MAX_MEGAPIXELS = 200.0  # of an input picture, unless told otherwise
MOST_STEPS = 1_000_000
LONGEST_SIDE = 1_000_000  # pixels; beyond what any machine holds, but still a number to reckon with
LAYER_NAME = re.compile(r"[a-z0-9_]{1,64}")
LAYER = "relu4_2=0.5"  # an example
MOST_VALUES = 1000  # of a setting that has several
SMALLEST_TILE = 64  # pixels; below, nearly all of a tile would be margin
SMALLEST_SIDE = 16  # four poolings halve a side four times: 16 pixels leave one position at relu5_1


def knob(default: Any, group: str, text: str, **rule: Any) -> Any:
    """A field of `Settings` with its place in `--help`, its text and its rule.

    rule: `kind` (int, float, str, bool, or dict for
    weights by layer: what one value is), `many` (several values), `unit`,
    `choices`, `flag` (what the option alone, or True, means), and the bounds `at_least`, `above`,
    `at_most`, `below`.
    """
    return field(default=default, metadata={"group": group, "text": text, **rule})


@dataclass(frozen=True)
class Settings:
    """What shapes the picture, checked as it is made.

    Raises `UsageError` for a value that breaks its rule. A variant is
    `dataclasses.replace(settings, iterations=10)`. `None` means "not given"; optimizer and
    iterations are then chosen as their texts say.
    """

    # fmt: off
    width: int | None = knob(None, "size", "width of the result; the height follows unless given",
        kind=int, unit="pixels", at_least=SMALLEST_SIDE, at_most=LONGEST_SIDE)
    height: int | None = knob(None, "size", "height of the result; the width follows unless given",
        kind=int, unit="pixels", at_least=SMALLEST_SIDE, at_most=LONGEST_SIDE)
    size: int | None = knob(None, "size", "long side of the result",
        kind=int, unit="pixels", at_least=SMALLEST_SIDE, at_most=LONGEST_SIDE)
    scales: str = knob("auto", "size",
        "paint in N stages, from coarse to fine, each twice as large as the one before; "
        "auto: begin near 512 pixels, unless --initial is given",
        kind=str, unit="auto, off or N", metavar="SCALES")
    style_scales: tuple[float, ...] | None = knob(None, "size",
        "width of each style as a share of the result's width: larger means larger strokes",
        kind=float, many=True, unit="one number per style; default 1, or less where a painting "
        "would be enlarged more than twice: so strokes stay crisp", above=0)
    style_stages: str = knob("scale", "size",
        "scale the styles with the stages, or keep them fixed at the size of the last: larger "
        "strokes in the coarse stages", kind=str, choices=("scale", "fixed"))
    style_fit: str = knob("keep", "size",
        "keep a style's proportions, or stretch it to exactly the size of the result",
        kind=str, choices=("keep", "stretch"))

    content_weight: float = knob(5.0, "balance", "weight of the content loss",
        kind=float, at_least=0)
    content_weight_blend: float = knob(1.0, "balance",
        "relu4_2's share of the content loss; relu5_2 has the rest: lower means freer shapes",
        kind=float, unit="0 to 1", at_least=0, at_most=1)
    style_weight: float = knob(DEFAULT_STYLE_WEIGHT, "balance", "weight of the style loss",
        kind=float, at_least=0)
    stylization: float | None = knob(None, "balance",
        "how far to go, instead of --style-weight: 0 barely paints, 1 is nearly all painting",
        kind=float, unit="0 to 1; 0.5 is the default balance", at_least=0, at_most=1)
    style_layer_weight_exp: float = knob(1.0, "balance",
        "weight of each style layer relative to the one before: above 1 favours large shapes",
        kind=float, above=0)
    style_blend_weights: tuple[float, ...] | None = knob(None, "balance",
        "share of each painting", kind=float, many=True,
        unit="one number per style, default equal", at_least=0)
    tv_weight: float = knob(300.0, "balance", "smoothness (total variation)",
        kind=float, at_least=0)
    preserve_colors: str | None = knob(None, "balance",
        "keep the photo's colours. luma: only the brightness is painted; match: the paintings are "
        "given the mean and spread of the photo's colours before the run; histogram: their full "
        "distribution", kind=str, choices=("luma", "match", "histogram"), flag="luma")

    content_layers: Mapping[str, float] | None = knob(None, "losses",
        "layers that stand for the content, instead of --content-weight-blend's",
        kind=dict, unit="LAYER=WEIGHT each", at_least=0)
    style_layers: Mapping[str, float] | None = knob(None, "losses",
        "layers that stand for the style, instead of relu1_1 to relu5_1",
        kind=dict, unit="LAYER=WEIGHT each", at_least=0)
    layer_reduction: str = knob("sum", "losses", "how the losses of several layers are combined",
        kind=str, choices=("sum", "mean"))
    content_loss: str = knob("mean", "losses", "how squared differences of features are combined",
        kind=str, choices=("mean", "sum"))
    style_loss: str = knob("moments", "losses",
        "squared differences of Gram matrices. mean: their mean, each normalised; moments: that, "
        "and of the channels' means and deviations; layer: sum over 4 M^2 N^2 for M positions and "
        "N channels; picture: sum over 36 (H W)^2. Or wasserstein: distance of Gaussians that have "
        "the features' means and covariances: shapes are freer, and steps slower",
        kind=str, choices=("moments", "mean", "layer", "picture", "wasserstein"))
    tv_loss: str = knob("squares", "losses",
        "smoothness: squares: mean of squared steps; power: sum of (dy^2 + dx^2)^1.25",
        kind=str, choices=("squares", "power"))
    pooling: str = knob("avg", "losses",
        "how the network shrinks its pictures: max is crisper, avg smoother",
        kind=str, choices=("max", "avg", "l2"))
    pooling_rescale: bool = knob(False, "losses",
        "multiply avg by 2 and l2 by 0.78, so that features keep the size they have with max",
        kind=bool)
    padding: str = knob("replicate", "losses",
        "what the network sees beyond the edge: replicate keeps the border clean, zero is the "
        "published way", kind=str, choices=("replicate", "zero"))
    normalization: bool = knob(True, "losses",
        "feed the network as it was trained; without, a torchvision network gets RGB 0..1 as it is",
        kind=bool)

    iterations: int | None = knob(None, "run", "steps", kind=int, at_least=1, at_most=MOST_STEPS,
        unit=f"default {ITERATIONS['lbfgs']}, adam {ITERATIONS['adam']}, l-bfgs-b "
        f"{ITERATIONS['l-bfgs-b']}")
    optimizer: str | None = knob(None, "run",
        "lbfgs: one unit step at a time; adam: with less memory; l-bfgs-b: SciPy's, a round of "
        "evaluations per step", kind=str, choices=("lbfgs", "adam", "l-bfgs-b"),
        unit="default lbfgs, or adam if an option of Adam's is set")
    evaluations: int = knob(20, "run", "l-bfgs-b: evaluations per step", kind=int, at_least=1,
        at_most=MOST_STEPS)
    clip: bool = knob(True, "run", "keep to the valid range 0..255 at every step", kind=bool)
    max_evaluations: int | None = knob(None, "run", "stop after N evaluations of the loss",
        kind=int, at_least=1)
    max_seconds: float | None = knob(None, "run", "stop after this time", kind=float,
        unit="seconds", above=0)
    patience: int | None = knob(None, "run", "stop when the loss has not fallen for N steps",
        kind=int, unit="steps", at_least=1)
    learning_rate: float | None = knob(None, "run", "Adam: how far a step moves",
        kind=float, unit=f"grey levels of 255; default {LEARNING_RATE:g}", above=0)
    learning_rate_schedule: str = knob("cosine", "run",
        "Adam: constant; cosine: falls to 0 over the run, for a calmer picture; step: times "
        "--decay-factor every --decay-every steps",
        kind=str, choices=("constant", "cosine", "step"))
    decay_every: int = knob(100, "run", "step schedule: how often", kind=int, unit="steps",
        at_least=1)
    decay_factor: float = knob(0.5, "run", "step schedule: by how much", kind=float, above=0,
        at_most=1)
    beta1: float = knob(0.9, "run", "Adam: decay of the first moment",
        kind=float, at_least=0, below=1)
    beta2: float = knob(0.999, "run", "Adam: decay of the second moment",
        kind=float, at_least=0, below=1)
    eps: float = knob(1e-8, "run", "Adam: keeps the division away from zero",
        kind=float, above=0)
    initial_noiseblend: float = knob(0.0, "run",
        "grey noise in the start: 1 is all noise, 0 the photo (or the --initial picture)",
        kind=float, unit="0 to 1", at_least=0, at_most=1)
    initial_colors: str | None = knob(None, "run",
        "colours of the starting picture: matched to the paintings' (as in --preserve-colors) or "
        "unchanged (own)", kind=str, choices=("match", "histogram", "own"),
        unit="default match, with --initial own")
    noise_range: tuple[float, ...] | None = knob(None, "run",
        "uniform noise between LOW and HIGH around the network's mean pixel, instead of faint "
        "noise",
        kind=float, many=True, unit="grey levels of 255, two numbers")
    precision: str = knob("auto", "run",
        "number format of the features; auto: the fastest here that does not change the picture "
        "visibly. Losses are reported in float32",
        kind=str, choices=("auto", "float32", "bfloat16", "float16"))
    tile: str = knob("auto", "run",
        "paint in tiles of about PIXELS x PIXELS: less memory, more time, the "
        "same picture; auto: only what does not fit in memory", kind=str,
        unit="auto, off or PIXELS", metavar="TILE")
    seed: int = knob(0, "run", "random seed: the same seed gives the same picture",
        kind=int, at_least=0)

    print_iterations: int | None = knob(None, "progress", "print the losses every N steps",
        kind=int, unit="steps", at_least=1)
    checkpoint_iterations: int | None = knob(None, "progress", "keep the picture every N steps",
        kind=int, unit="steps", at_least=1)
    # fmt: on

    def __post_init__(self) -> None:
        for knob in dataclasses.fields(self):
            value = getattr(self, knob.name)
            if value is None:
                continue
            rule = knob.metadata
            if "flag" in rule and isinstance(value, bool):
                value = rule["flag"] if value else None
                object.__setattr__(self, knob.name, value)
                if value is None:
                    continue
            if rule["kind"] is dict:
                value = _layer_weights(knob.name, value)
                checked = value.values()
            elif rule.get("many"):
                value = checked = _values(knob.name, value)
            else:
                checked = [value]
            for one in checked:
                _check(knob.name, one, rule)
            if rule["kind"] is int:
                value = int(value)  # 300.0 is a whole number too
            elif rule["kind"] is bool:
                value = bool(value)
            object.__setattr__(self, knob.name, value)
        if self.optimizer is None:
            of_adam = (knob for knob in dataclasses.fields(self) if knob.name in OF_ADAM)
            means_adam = any(getattr(self, knob.name) != knob.default for knob in of_adam)
            object.__setattr__(self, "optimizer", "adam" if means_adam else "lbfgs")
        if self.iterations is None:
            object.__setattr__(self, "iterations", ITERATIONS[self.optimizer])
        self._check_together()

    def _check_together(self) -> None:
        self._check_or_number("scales", 1, "stages")
        self._check_or_number("tile", SMALLEST_TILE, "pixels")
        if self.size is not None and (self.width is not None or self.height is not None):
            raise UsageError(
                *_names("size"),
                " is the long side: use it alone, or use ",
                *_names("width", "height"),
            )
        if self.stylization is not None and self.style_weight != DEFAULT_STYLE_WEIGHT:
            raise _cannot_be_combined("stylization", "style_weight")
        if self.content_weight == self.style_weight == 0:
            raise UsageError(
                *_names("content_weight", "style_weight"), " are both 0: raise one of them"
            )
        if self.style_blend_weights is not None and not any(self.style_blend_weights):
            raise UsageError(
                *_names("style_blend_weights"), " are all 0: give at least one style a share"
            )
        if self.noise_range is not None:
            low_high = self.noise_range
            if len(low_high) != 2 or low_high[0] >= low_high[1]:
                values = shortened(" ".join(f"{value:g}" for value in low_high))
                raise UsageError(
                    *_names("noise_range"), f" is {values}: use a low and a higher number"
                )
        if self.content_layers is not None and self.content_weight_blend != 1:
            raise _cannot_be_combined("content_weight_blend", "content_layers")
        if self.style_layers is not None and self.style_layer_weight_exp != 1:
            raise _cannot_be_combined("style_layer_weight_exp", "style_layers")

    def _check_or_number(self, name: str, least: int, unit: str) -> None:
        """Makes a string of the setting. Raises `UsageError` unless that is auto, off or a
        number."""
        value = str(getattr(self, name))
        if value not in ("auto", "off") and not _is_number_from(least, value):
            raise UsageError(
                *_names(name),
                f" is {shortened(value)}: use auto, off, or a whole number of {unit} from {least}",
            )
        object.__setattr__(self, name, value)

    def check_styles(self, count: int) -> None:
        """Raises `UsageError` unless what is set per style is set for `count` styles."""
        for name in ("style_scales", "style_blend_weights"):
            values = getattr(self, name)
            if values is not None and len(values) != count:
                raise UsageError(
                    f"got {len(values)} ",
                    *_names(name),
                    f" for {count} style{'s' * (count != 1)}: pass one number per style",
                )

    def weight_of_style(self) -> float:
        """What the style loss counts: every tenth of `stylization` two and a half times the one
        before it."""
        if self.stylization is None:
            return self.style_weight
        return self.style_weight * STYLIZATION_RANGE ** (2 * self.stylization - 1)

    def content_layer_weights(self) -> dict[str, float]:
        """The content layers that count, each with its share of the content loss."""
        if self.content_layers is not None:
            return self._reduced(self.content_layers)
        first, second = CONTENT_LAYERS
        blend = self.content_weight_blend
        return {layer: share for layer, share in ((first, blend), (second, 1 - blend)) if share}

    def style_layer_weights(self) -> dict[str, float]:
        """The style layers, each with its share of the style loss."""
        if self.style_layers is not None:
            return self._reduced(self.style_layers)
        raw = [self.style_layer_weight_exp**i for i in range(len(STYLE_LAYERS))]
        return {layer: weight / sum(raw) for layer, weight in zip(STYLE_LAYERS, raw, strict=True)}

    def of_losses(self) -> str:
        """All that the losses hang on, in a form that can be compared."""
        groups = ("balance", "losses")
        names = (one.name for one in dataclasses.fields(self) if one.metadata["group"] in groups)
        return repr([getattr(self, name) for name in names])

    def layers(self) -> list[str]:
        """All layers whose features count."""
        return [*self.content_layer_weights(), *self.style_layer_weights()]

    def _reduced(self, weights: dict[str, float]) -> dict[str, float]:
        count = len(weights) if self.layer_reduction == "mean" else 1
        return {layer: weight / count for layer, weight in weights.items()}

    def style_shares(self, count: int) -> list[float]:
        """The share of each of `count` styles; they sum to 1."""
        raw = self.style_blend_weights or (1.0,) * count
        return [weight / sum(raw) for weight in raw]


def shapes_picture(field: dataclasses.Field) -> bool:
    """Whether a setting says what a run paints, rather than what it reports on the way."""
    return field.metadata["group"] != "progress"


def settings_from(options: dict[str, Any]) -> Settings:
    """`Settings` from keyword arguments; an unknown name is answered with the nearest one."""
    names = [knob.name for knob in dataclasses.fields(Settings)]
    for name in options:
        if name not in names:
            raise UsageError(f"unknown setting {shortened(name)}{nearest(name, names)}")
    return Settings(**options)


def _names(*settings: str) -> list[str]:
    """The names of settings as parts of a message: one, or two joined by "and"."""
    parts: list[str] = []
    for name in settings:
        parts += [" and "] * bool(parts) + [SettingName(name)]
    return parts


def _cannot_be_combined(*settings: str) -> UsageError:
    return UsageError(*_names(*settings), " cannot be combined: use one of them")


def _is_number_from(least: int, text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 10 and int(text) >= least


def _values(name: str, values: Any) -> tuple:
    """The values of a setting that has several. Raises `UsageError` for anything else."""
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        raise UsageError(*_names(name), f" is {shortened(values)}: use a list of numbers")
    values = tuple(values)
    _check_count(name, values)
    return values


def _check_count(name: str, values: Collection) -> None:
    if not values or len(values) > MOST_VALUES:
        raise UsageError(*_names(name), f" has {len(values)} values: use 1 to {MOST_VALUES}")


def _layer_weights(name: str, value: Any) -> dict[str, float]:
    """{"relu4_2": 0.5} from itself, or from ["relu4_2=0.5"]; a layer alone has weight 1. Layers are
    named as here. Raises `UsageError` for anything else."""
    if isinstance(value, Mapping):
        weights = {_layer(name, layer): weight for layer, weight in value.items()}
    elif isinstance(value, str) or not isinstance(value, Iterable):
        raise UsageError(*_names(name), f" is {shortened(value)}: use LAYER=WEIGHT, as in {LAYER}")
    else:
        weights = dict(_layer_weight(name, item) for item in value)
    _check_count(name, weights)
    return weights


def _layer_weight(name: str, item: Any) -> tuple[str, float]:
    layer, _, weight = str(item).partition("=")
    try:
        return _layer(name, layer), float(weight or 1)
    except ValueError:
        raise UsageError(
            *_names(name), f" {shortened(item)}: use LAYER=WEIGHT, as in {LAYER}"
        ) from None


def _layer(name: str, layer: Any) -> str:
    if not isinstance(layer, str) or not LAYER_NAME.fullmatch(layer):
        raise UsageError(
            *_names(name),
            f" names the layer {shortened(repr(layer))}: use small letters, digits and "
            f"underscores, as in {LAYER}",
        )
    return canonical(layer)


def canonical(name: str) -> str:
    """A layer's name as it is here, from Keras's too; any other is given back as it is.

    block1_pool is pool1. block1_conv1 is relu1_1: a layer of Keras's VGG has its ReLU within, and
    what it gives out is what comes after.
    """
    name = re.sub(r"^block(\d+)_conv(\d+)$", r"relu\1_\2", name)
    return re.sub(r"^block(\d+)_pool$", r"pool\1", name)


def _check(name: str, value: Any, rule: dict[str, Any]) -> None:
    """Raises `UsageError` if one value of the knob `name` breaks its rule."""
    kind = float if rule["kind"] is dict else rule["kind"]
    if kind is str:
        _check_choice(name, value, rule)
        return
    if not _is_of_kind(value, kind):
        wanted = {int: "a whole number", float: "a finite number", bool: "True or False"}[kind]
        raise UsageError(*_names(name), f" is {shortened(value)}: use {wanted}")
    bounds = (
        ("at_least", "or more", lambda bound: value >= bound),
        ("above", None, lambda bound: value > bound),
        ("at_most", "or less", lambda bound: value <= bound),
        ("below", None, lambda bound: value < bound),
    )
    for bound_name, words, holds in bounds:
        bound = rule.get(bound_name)
        if bound is not None and not holds(bound):
            wanted = f"{bound} {words}" if words else f"a number {bound_name} {bound}"
            raise UsageError(*_names(name), f" is {shortened(value)}: use {wanted}")


def _check_choice(name: str, value: Any, rule: dict[str, Any]) -> None:
    if "choices" not in rule or (isinstance(value, str) and value in rule["choices"]):
        return
    choices = list(rule["choices"])
    raise UsageError(
        *_names(name),
        f" {shortened(repr(value))} is unknown{nearest(str(value), choices)}: "
        f"choose {', '.join(choices[:-1])} or {choices[-1]}",
    )


def _is_of_kind(value: Any, kind: type) -> bool:
    """Whether it is such a number, of any number type; a bool is not a number."""
    is_bool = isinstance(value, bool) or getattr(getattr(value, "dtype", None), "kind", "") == "b"
    if is_bool != (kind is bool):
        return False
    try:
        return bool(kind(value) == value and math.isfinite(value))
    except (TypeError, ValueError, OverflowError):
        return False

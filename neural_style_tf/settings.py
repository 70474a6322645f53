"""Settings: what shapes a picture: each with its default, text and rule, written once."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neural_style_tf import combinations, needs, rules, usual
from neural_style_tf.errors import UsageError, shortened
from neural_style_tf.needs import above_zero, all_of, any_of, below, none_of, one_of, without
from neural_style_tf.rules import names
from neural_style_tf.usual import (
    ADAM_DEFAULTS,
    ITERATIONS,
    ITERATIONS_OF_NEIGHBORS,
    NEIGHBOR_LAYERS,
)

BUNDLED_NETWORK = Path(__file__).resolve().parent / "data" / "imagenet-vgg-verydeep-19.mat"

STYLE_STRENGTH = 5000.0  # the weight of the style loss in the middle of `stylization`
DEFAULT_STYLIZATION = 0.5
STYLIZATION_RANGE = 100.0  # times more or less weight of style, at either end

MAX_MEGAPIXELS = 200.0  # of an input picture, by default
MOST_STEPS = 1_000_000
LONGEST_SIDE = 1_000_000  # pixels; beyond what any machine holds, but still a number to reckon with
SMALLEST_TILE = 64  # pixels; below, nearly all of a tile would be margin
SMALLEST_SIDE = 16  # four poolings halve a side four times: 16 pixels leave one position at relu5_1
WRAPPED_UNIT = 16  # pixels: of this the sides of pictures that tile are multiples, likewise


def setting(default: Any, group: str, text: str, **rule: Any) -> Any:
    """A field of `Settings`: its place in `--help`, its text, and its rule (see `rules`).

    Besides, `rule` may hold `brief`, the text of an option that `--help` shows, not `--help-all`
    alone; `resolved`: a run settles it for this machine and size; `free`: it says how far to go
    and what to report, not what the picture is, and may change when a run is resumed; `needs`: the
    `Need` without which it has no effect; `batch`: False for what a batch does not have.
    """
    return dataclasses.field(default=default, metadata={"group": group, "text": text, **rule})


def _adam(name: str, text: str, unit: str = "", **rule: Any) -> Any:
    """A setting of Adam's. None stands for "not set": a value, whichever it is, selects Adam."""
    default = ADAM_DEFAULTS[name]
    shown = f"{default:g}" if isinstance(default, float) else default
    unit = f"{unit}; default {shown}" if unit else f"default {shown}"
    needs = one_of("optimizer", "adam", or_none=True)
    return setting(None, "run", f"Adam: {text}", unit=unit, **{"needs": needs, **rule})


@dataclass(frozen=True)
class Settings:
    """What shapes the picture, checked as it is made.

    Raises `UsageError` for a value that breaks its rule. A variant is
    `dataclasses.replace(settings, iterations=10)`. `None` means "not set"; optimizer, iterations
    and style_loss are then chosen as in usual.py, and a variant keeps what was chosen.
    """

    # fmt: off
    width: int | None = setting(None, "size",
        "width of the result; the height follows",
        kind=int, unit="pixels", at_least=SMALLEST_SIDE, at_most=LONGEST_SIDE)
    height: int | None = setting(None, "size",
        "height of the result; the width follows",
        kind=int, unit="pixels", at_least=SMALLEST_SIDE, at_most=LONGEST_SIDE)
    size: int | None = setting(None, "size", "long side of the result",
        brief="long side in pixels (default: the photo's)",
        kind=int, unit="pixels; default the photo's", at_least=SMALLEST_SIDE, at_most=LONGEST_SIDE)
    fit: str | None = setting(None, "size",
        "with --width and --height: crop the photo, mirror its edges, or stretch it",
        kind=str, choices=("crop", "pad", "stretch"), unit="default crop",
        needs=all_of("width", "height"))
    scales: str = setting("auto", "size",
        "paint in N stages from coarse to fine, each twice the size",
        kind=str, unit="auto, N or off", metavar="SCALES", resolved=True)
    texture: str | None = setting(None, "size",
        "without a photo: a texture of that size from the paintings alone",
        kind=str, is_size=True, metavar="WIDTHxHEIGHT", batch=False,
        at_least=SMALLEST_SIDE, at_most=LONGEST_SIDE)
    style_scales: tuple[float, ...] | None = setting(None, "size",
        "size of the styles; at 1 they have as many pixels as the result",
        kind=float, many=True, unit="default at most 1", above=0,
        needs=one_of("style_fit", "area", "width"))
    style_size: tuple[int, ...] | None = setting(None, "size",
        "instead of --style-scales: long side of the styles",
        kind=int, many=True, unit="pixels, one for all or one per style",
        at_least=SMALLEST_SIDE, at_most=LONGEST_SIDE)
    stroke_size: float | None = setting(None, "size",
        "width of the strokes, whatever that of the styles' own",
        brief="width of the strokes, in percent of the long side",
        kind=float, unit="percent of the long side", above=0, at_most=50)
    style_stages: str = setting("scale", "size",
        "scale the styles with the stages, or keep their size: larger strokes",
        kind=str, choices=("scale", "fixed"),
        needs=none_of("scales", ("off", "1", 1), "auto, or 2 or more"))
    style_fit: str = setting("area", "size",
        "match a style's area or width to the result's, or stretch it to the result",
        kind=str, choices=("area", "width", "stretch"))

    content_weight: float = setting(5.0, "balance", "weight of the content loss",
        kind=float, at_least=0)
    content_weight_blend: float = setting(1.0, "balance",
        "content: share of relu3_2 (without neighbors relu4_2); relu5_2 has the rest",
        kind=float, unit="0 to 1", at_least=0, at_most=1, needs=above_zero("content_weight"))
    style_weight: float | None = setting(None, "balance",
        "instead of --stylization: weight of the style loss, as in published programs",
        kind=float, at_least=0)
    stylization: float | None = setting(None, "balance",
        "0 barely paints, 1 is nearly all painting, alike for every painting",
        brief="0 barely paints, 1 is nearly all painting",
        kind=float, unit="0.5 is the default balance", at_least=0, at_most=1)
    style_layer_weight_exp: float = setting(1.0, "balance",
        "weight of each style layer relative to the last: above 1 favours large shapes",
        kind=float, above=0, needs=above_zero("style_weight"))
    style_blend_weights: tuple[float, ...] | None = setting(None, "balance",
        "share of each painting", brief="share of each painting (default: equal shares)",
        kind=float, many=True, unit="one number per style, default equal", at_least=0)
    tv_weight: float = setting(300.0, "balance", "smoothness (total variation)",
        kind=float, at_least=0)
    preserve_colors: str | None = setting(None, "balance",
        "keep the photo's colours: exactly, or as the palette of the painting",
        brief="keep the photo's colours: luma, match or histogram",
        kind=str, choices=("luma", "match", "histogram"), flag="luma")

    content_layers: Mapping[str, float] | None = setting(None, "losses",
        "layers that stand for the content, instead of --content-weight-blend's",
        kind=dict, unit="LAYER=WEIGHT each", at_least=0, needs=above_zero("content_weight"))
    style_layers: Mapping[str, float] | None = setting(None, "losses",
        "layers that stand for the style, instead of those that the style loss has",
        kind=dict, unit="LAYER=WEIGHT each", at_least=0, needs=above_zero("style_weight"))
    layer_reduction: str = setting("sum", "losses", "how the losses of several layers are combined",
        kind=str, choices=("sum", "mean"), needs=any_of("content_layers", "style_layers"))
    content_loss: str = setting("mean", "losses",
        "how squared differences of features are combined", kind=str, choices=("mean", "sum"),
        needs=above_zero("content_weight"))
    style_loss: str = setting(None, "losses",  # `None` is resolved, as for optimizer
        "how features are compared, see docs/tuning.md",
        kind=str, choices=("neighbors", "moments", "mean", "layer", "picture", "wasserstein"),
        unit="default neighbors; in some cases moments",
        needs=above_zero("style_weight"))
    style_rotations: bool = setting(False, "losses",
        "neighbors: also offer copies of the styles turned by 90, 180 and 270 degrees", kind=bool,
        needs=one_of("style_loss", "neighbors", or_none=True))
    tv_loss: str = setting("squares", "losses",
        "smoothness: mean of squared differences, or sum of (dy^2 + dx^2)^1.25",
        kind=str, choices=("squares", "power"), needs=above_zero("tv_weight"))
    pooling: str = setting("avg", "losses",
        "how the network shrinks its pictures: max is crisper, avg smoother",
        kind=str, choices=("max", "avg", "l2"))
    pooling_rescale: bool = setting(False, "losses",
        "multiply avg by 2 and l2 by 0.78: features as large as with max",
        kind=bool, needs=one_of("pooling", "avg", "l2"))
    padding: str = setting("replicate", "losses",
        "what the network sees beyond the edge; with wrap the result tiles",
        kind=str, choices=("replicate", "zero", "wrap"))
    normalization: bool = setting(True, "losses",
        "feed the network as it was trained, or (torchvision) plain RGB 0..1",
        kind=bool)

    # `None` is resolved for these two, as their texts say.
    iterations: int = setting(None, "run", "steps",
        brief="steps (default {lbfgs}; adam {adam})".format_map(ITERATIONS_OF_NEIGHBORS),
        kind=int, at_least=1, at_most=MOST_STEPS, free=True,
        unit="default "
        + ", ".join(f"{name} {steps}" for name, steps in ITERATIONS_OF_NEIGHBORS.items())
        + "; without neighbors " + ", ".join(map(str, ITERATIONS.values())))
    optimizer: str = setting(None, "run",
        "adam takes less memory; l-bfgs-b is SciPy's",
        kind=str, choices=("lbfgs", "adam", "l-bfgs-b"),
        unit="default lbfgs, or adam if an Adam option is set")
    evaluations: int = setting(20, "run", "l-bfgs-b: evaluations per step", kind=int, at_least=1,
        at_most=MOST_STEPS, needs=one_of("optimizer", "l-bfgs-b"))
    clip: bool = setting(True, "run", "keep to the valid range 0..255 at every step", kind=bool)
    max_evaluations: int | None = setting(None, "run", "stop after N evaluations of the loss",
        kind=int, at_least=1, free=True)
    max_seconds: float | None = setting(None, "run", "stop after this time", kind=float,
        unit="seconds", above=0, free=True)
    patience: int | None = setting(None, "run", "stop when the loss has not fallen for N steps",
        kind=int, at_least=1, free=True)
    learning_rate: float | None = _adam("learning_rate", "how far a step moves",
        unit="grey levels of 255", kind=float, above=0)
    learning_rate_schedule: str | None = _adam("learning_rate_schedule",
        "cosine falls to 0 over the run, step by --decay-factor",
        kind=str, choices=("constant", "cosine", "step"))
    decay_every: int | None = _adam("decay_every", "how often, with the step schedule",
        unit="steps", kind=int, at_least=1, needs=one_of("learning_rate_schedule", "step"))
    decay_factor: float | None = _adam("decay_factor", "by how much, with the step schedule",
        kind=float, above=0, at_most=1, needs=one_of("learning_rate_schedule", "step"))
    beta1: float | None = _adam("beta1", "decay of the first moment",
        kind=float, at_least=0, below=1)
    beta2: float | None = _adam("beta2", "decay of the second moment",
        kind=float, at_least=0, below=1)
    eps: float | None = _adam("eps", "keeps the division away from zero", kind=float, above=0)
    initial_noiseblend: float = setting(0.0, "run",
        "share of grey noise in the starting picture: 0 none, 1 all noise",
        kind=float, at_least=0, at_most=1)
    initial_colors: str | None = setting(None, "run",
        "colours of the starting picture: the paintings', or its own",
        kind=str, choices=("match", "histogram", "own"),
        unit="default match, with --initial own", needs=below("initial_noiseblend", 1))
    noise_range: tuple[float, ...] | None = setting(None, "run",
        "start from uniform noise between two grey levels around the network's mean pixel",
        kind=float, many=True,
        needs=needs.either(above_zero("initial_noiseblend"), all_of("texture")))
    precision: str = setting("auto", "run",
        "number format of the features; auto: the fastest here",
        kind=str, choices=("auto", "float32", "bfloat16", "float16"), resolved=True)
    tile: str = setting("auto", "run",
        "paint in tiles of N x N pixels, in less memory",
        kind=str, unit="auto, N or off", metavar="TILE", resolved=True)
    seed: int = setting(0, "run", "of the random numbers: the same seed paints the same picture",
        kind=int, at_least=0)

    print_iterations: int | None = setting(None, "progress", "print the losses every N steps",
        kind=int, at_least=1, free=True, needs=without("quiet"), batch=False)
    checkpoint_iterations: int | None = setting(None, "progress", "keep a checkpoint every N steps",
        kind=int, at_least=1, free=True)
    # fmt: on

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = rules.checked(field.name, getattr(self, field.name), field.metadata)
            object.__setattr__(self, field.name, value)
        for name in ("optimizer", "style_loss", "iterations"):  # the last depends on the others
            if getattr(self, name) is None:
                object.__setattr__(self, name, getattr(usual, name)(self))
        self._check_together()

    def _check_together(self) -> None:
        self._check_or_number("scales", 1, "stages")
        self._check_or_number("tile", SMALLEST_TILE, "pixels")
        combinations.check(self)
        fields = dataclasses.fields(self)
        own = {field.name for field in fields if getattr(self, field.name) != field.default}
        if self.style_loss == usual.style_loss(self):  # named or not, it is the same
            own.discard("style_loss")
        # what a run settles may leave others without effect, which were set with good reason
        settled = {field.name for field in fields if "resolved" in field.metadata}
        others = {name: value for name, value in vars(self).items() if name not in settled}
        needs.check(own, others, setting_rules())

    def texture_size(self) -> tuple[int, int] | None:
        """Height and width of a texture that is painted without a photo."""
        return None if self.texture is None else rules.sides(self.texture)

    def _check_or_number(self, name: str, least: int, unit: str) -> None:
        """Makes a string of the setting. Raises `UsageError` unless that is auto, off or a
        number."""
        value = str(getattr(self, name))
        is_number = value.isascii() and value.isdecimal() and len(value) < 10
        if value not in ("auto", "off") and not (is_number and int(value) >= least):
            raise UsageError(
                *names(name),
                f" is {shortened(value)}: use auto, off, or a whole number of {unit} from {least}",
            )
        object.__setattr__(self, name, value)

    def check_styles(self, count: int) -> None:
        """Raises `UsageError` unless what is set per style is set for `count` styles."""
        for name in ("style_scales", "style_size", "style_blend_weights"):
            values = getattr(self, name)
            one_for_all = name == "style_size"
            if values is not None and len(values) not in (count, one_for_all or count):
                raise UsageError(
                    f"got {len(values)} ",
                    *names(name),
                    f" for {count} style{'s' * (count != 1)}: pass one number per style",
                    *[", or one for all"] * one_for_all,
                )

    def of_adam(self, name: str) -> Any:
        """The value of one of Adam's settings, or its default."""
        value = getattr(self, name)
        return ADAM_DEFAULTS[name] if value is None else value

    def fit_of_pictures(self) -> str:
        """How a picture is brought to other proportions: `fit`, or the default."""
        return self.fit or "crop"

    def balance(self) -> float:
        """Between photo and painting, 0 to 1: `stylization`, or the default."""
        return DEFAULT_STYLIZATION if self.stylization is None else self.stylization

    @property
    def wraps(self) -> bool:
        """Whether the picture's opposite edges meet, so that it tiles."""
        return self.padding == "wrap"

    def padding_of_parts(self) -> str:
        """The `padding` of paintings, whose opposite edges never meet, and of tiles."""
        return "replicate" if self.wraps else self.padding

    @property
    def equalizes_styles(self) -> bool:
        """Whether style losses are divided by what is usual for their paintings."""
        return self.style_weight is None or self.style_loss == "neighbors"

    def weight_of_style(self) -> float:
        """The weight of the style loss: 0.1 more `stylization` raises it two and a half times;
        with neighbors, only the share of the statistics in it grows, above 0.5."""
        if self.style_weight is not None:
            return self.style_weight
        if self.style_loss == "neighbors":
            return STYLE_STRENGTH
        return STYLE_STRENGTH * STYLIZATION_RANGE ** (2 * self.balance() - 1)

    def weight_of_content(self) -> float:
        """The weight of the content loss: with neighbors, 0.1 more `stylization` lowers it two and
        a half times."""
        if self.style_loss != "neighbors":
            return self.content_weight
        return self.content_weight * STYLIZATION_RANGE ** (1 - 2 * self.balance())

    def weights_by_loss(self) -> dict[str, tuple[str, float]]:
        """The setting that each loss is weighted by, and its value."""
        style: tuple[str, float] = "stylization", self.balance()
        if self.style_weight is not None:
            style = "style_weight", self.style_weight
        return {
            "content": ("content_weight", self.content_weight),
            "style": style,
            "tv": ("tv_weight", self.tv_weight),
        }

    def statistics(self) -> str:
        """Which statistics of the features are compared, a `style_loss`; for "neighbors", those
        that are compared besides."""
        return "moments" if self.style_loss == "neighbors" else self.style_loss

    def content_layer_weights(self) -> dict[str, float]:
        """The content layers that count, each with its share of the content loss; none without a
        photo."""
        if self.texture is not None:
            return {}
        if self.content_layers is not None:
            return self._reduced(self.content_layers)
        first, second = usual.content_layers(self)
        blend = self.content_weight_blend
        return {layer: share for layer, share in ((first, blend), (second, 1 - blend)) if share}

    def style_layer_weights(self) -> dict[str, float]:
        """The style layers, each with its share of the style loss."""
        if self.style_layers is not None:
            return self._reduced(self.style_layers)
        layers = usual.style_layers(self)
        raw = [self.style_layer_weight_exp**i for i in range(len(layers))]
        return {layer: weight / sum(raw) for layer, weight in zip(layers, raw, strict=True)}

    def of_losses(self) -> str:
        """All that the losses depend on, as text that can be compared: a texture has no content."""
        groups = ("balance", "losses")
        fields = (field for field in dataclasses.fields(self) if field.metadata["group"] in groups)
        return repr([self.texture is None, *(getattr(self, field.name) for field in fields)])

    def layers(self) -> list[str]:
        """All layers whose features count."""
        columns = NEIGHBOR_LAYERS if self.style_loss == "neighbors" else ()
        return [*self.content_layer_weights(), *self.style_layer_weights(), *columns]

    def _reduced(self, weights: Mapping[str, float]) -> dict[str, float]:
        count = len(weights) if self.layer_reduction == "mean" else 1
        return {layer: weight / count for layer, weight in weights.items()}

    def style_shares(self, count: int) -> list[float]:
        """The share of each of `count` styles; they sum to 1."""
        raw = self.style_blend_weights or (1.0,) * count
        return [weight / sum(raw) for weight in raw]


def setting_rules() -> dict[str, Mapping[str, Any]]:
    """The metadata of the settings, by name."""
    return {field.name: field.metadata for field in dataclasses.fields(Settings)}

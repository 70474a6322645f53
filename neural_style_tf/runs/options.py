"""Options: all that a run is started with, each described once.

A field of `RunOptions` says what the option is for, its default, its text and its rule, and who may
set it besides the command line: a recipe, the table of a batch, a saved run. From these
descriptions follow the parser, its checks, what is recorded of a run, what a resumed run inherits,
what a batch has, and what travels to a cluster: add a field here, and nowhere else.

What shapes the picture is in `Settings`. Its fields may be set by all of these, and by the metadata
of a picture: each value is checked by its own rule.
"""

import dataclasses
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from neural_style_tf import needs, rules, usual
from neural_style_tf.errors import UsageError, nearest, shortened
from neural_style_tf.machine import devices
from neural_style_tf.needs import Layer, any_of, ending_in
from neural_style_tf.rules import names
from neural_style_tf.schema import setting_defaults, setting_names, settings_from
from neural_style_tf.settings import BUNDLED_NETWORK, MAX_MEGAPIXELS, Settings, setting_rules

NO_FILE = (None, "-")  # in place of an input: there is none
MOST_PORT = 65535


def option(default: Any, role: str, group: str, text: str, **rule: Any) -> Any:
    """A field of `RunOptions`.

    role: "input" or "output" for what names files to read or write, "behaviour" for all else.
    group: the option's place in `--help`. rule: as in `rules`, and

    - `saved`: a run that this user saved has it, and passes it on when it is resumed;
    - `recipe`: a recipe may set it without --trust-recipes;
    - `table`: the options column of a batch's table may set it;
    - `batch`: a batch has it (all but those with False);
    - `needs`: the `Need` without which it has no effect;
    - `is_path`: its values name files, one each; with `is_folder` files in a folder of that name,
      with `is_pattern` files whose names follow that pattern;
    - `brief`: the text of one of the few options that `--help` shows.
    """
    metadata = {"role": role, "group": group, "text": text, **rule}
    return dataclasses.field(default=default, metadata=metadata)


def _input(default: Any, text: str, **rule: Any) -> Any:
    """A file, or several, that a run reads."""
    shared = {"kind": str, "is_path": True, "metavar": "FILE", "saved": True, "table": True}
    return option(default, "input", "files", text, **shared | rule)


def _output(default: Any, group: str, text: str, **rule: Any) -> Any:
    """A file that a run writes."""
    shared = {"kind": str, "is_path": True, "metavar": "FILE", "saved": True, "batch": False}
    return option(default, "output", group, text, **shared | rule)


def _behaviour(default: Any, group: str, text: str, **rule: Any) -> Any:
    return option(default, "behaviour", group, text, **rule)


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What one run is started with, checked as it is made.

    Raises `UsageError` for a value that breaks its rule. A variant is
    `dataclasses.replace(options, overwrite=True)`.
    """

    # fmt: off
    content: str | None = _input(dataclasses.MISSING, "the photo to repaint",
        brief="the photo to repaint", table=False, batch=False)
    styles: tuple[str, ...] = _input(dataclasses.MISSING, "one painting or more",
        brief="one painting or more", many=True, table=False)
    output: str = _output(dataclasses.MISSING, "files",
        "the result (.jpg .png .webp .tif .bmp)",
        brief="the result (.jpg .png .webp .tif .bmp)")
    initial: str | None = _input(None, "the picture to start from (default: the photo)")
    content_mask: str | None = _input(None,
        "grey picture with the photo's proportions: white is painted, black stays",
        brief="grey picture: white is painted, black stays")
    style_masks: tuple[str, ...] | None = _input(None,
        "one such mask per style: white where it applies; - for everywhere", many=True,
        brief="grey pictures: white where each style applies")
    style_source_masks: tuple[str, ...] | None = _input(None,
        "one mask per style, with its proportions: white is learnt; - for all of it", many=True)
    content_regions: str | None = _input(None,
        "picture with a flat colour per region of the photo, instead of --style-masks")
    style_regions: tuple[str, ...] | None = _input(None,
        "one such picture per style: equal colours, equal regions; - for all of it", many=True)
    network: str = _input(str(BUNDLED_NETWORK),
        "VGG weights (.mat .h5 .pth .safetensors), or vgg19 or vgg16: Keras's (default: bundled)",
        recipe=True)
    settings_from: str | None = _input(None,
        "paint with the settings and inputs of a picture that this program made",
        metavar="PICTURE",
        saved=False, table=False, batch=False)
    save_settings: str | None = _output(None, "files",
        "write the settings as a recipe, such as my.args", saved=False)
    save_state: str | None = _output(None, "files",
        "keep the run in FILE at intervals and when it ends, to continue it with --resume",
        brief="keep the run in FILE, to continue it with --resume")
    state_iterations: int | None = _behaviour(None, "files",
        "steps between two saves of the state (default: 20 saves per run)", kind=int, at_least=1,
        saved=True, needs=any_of("resume", "save_state"))
    resume: str | None = _input(None,
        "continue the run in FILE, with more --iterations if you like",
        brief="continue the run in FILE", saved=False, table=False, batch=False)
    allow_changes: bool = _behaviour(False, "files",
        "resume even with other settings or inputs than before", kind=bool, batch=False,
        needs=any_of("resume"))
    overwrite: bool = _behaviour(False, "files", "replace files that exist", kind=bool,
        brief="replace files that exist")
    bits: int = _behaviour(8, "files", "bits per colour of the result; 16 for .png and .tif",
        kind=int, choices=(8, 16), saved=True, recipe=True, table=True)
    jpeg_quality: int | None = _behaviour(None, "files", "quality of a JPEG (default: 95)",
        kind=int, at_least=1, at_most=100, saved=True, recipe=True, table=True,
        needs=ending_in((".jpg", ".jpeg"), "output", "checkpoint_output"))
    no_metadata: bool = _behaviour(False, "files",
        "leave the photo's metadata and the settings out of the result", kind=bool,
        saved=True, recipe=True, table=True)
    max_megapixels: float = _behaviour(MAX_MEGAPIXELS, "files", "refuse larger input pictures",
        kind=float, above=0, unit="million pixels", saved=True)

    checkpoint_output: str | None = _output(None, "progress",
        "name of the checkpoints, as in {content}-{style}-%05d.jpg; %d stands for the step",
        metavar="PATTERN", batch=True, is_pattern=True)
    checkpoint_full_size: bool = _behaviour(False, "progress",
        "save checkpoints of coarse stages at the size of the result", kind=bool,
        saved=True, recipe=True, table=True, needs=any_of("checkpoint_output"))
    preview: int | None = _behaviour(None, "progress",
        "show the run on a page in the browser, at this port or a free one", kind=int, flag=0,
        at_least=0, at_most=MOST_PORT, metavar="PORT", batch=False,
        brief="show the run on a page in the browser")
    preview_host: str = _behaviour("127.0.0.1", "progress",
        "address to serve the page on; 0.0.0.0: other machines reach it, too", kind=str,
        metavar="ADDRESS", batch=False, needs=any_of("preview"))
    open: bool = _behaviour(False, "progress", "open the page in the browser", kind=bool,
        batch=False, needs=any_of("preview"))
    timelapse: str | None = _output(None, "progress",
        "film of the checkpoints, or of 60 pictures (.gif .webp .mp4)")
    log_dir: str | None = _output(None, "progress",
        "write losses, pictures and settings there for TensorBoard",
        metavar="FOLDER", is_folder=True)
    progress_write: bool = _output(False, "progress",
        "write the losses of every step to OUTPUT-progress.csv", kind=bool,
        is_path=False, batch=True)
    progress_plot: bool = _output(False, "progress",
        "plot the losses as OUTPUT-progress.png", kind=bool, is_path=False,
        batch=True)
    threads: int | None = _behaviour(None, "progress",
        "CPU threads to use (default: all available ones)", kind=int, at_least=1, saved=True)
    device: str = _behaviour(devices.AUTO, "progress",
        "what to paint on: auto, cpu, gpu, or gpu:N; see --list-devices", kind=str,
        pattern=devices.DEVICE, wanted=devices.WANTED, metavar="DEVICE", saved=True)
    quiet: bool = _behaviour(False, "progress", "print nothing but errors", kind=bool,
        recipe=True, table=True)
    debug: bool = _behaviour(False, "progress",
        "show tracebacks and TensorFlow's own messages", kind=bool)
    # fmt: on

    settings: Settings = dataclasses.field(default_factory=Settings)
    # The settings that a run resolves, as they were asked for at first: painting a picture again,
    # or resuming a run, inherits them. None: as they are in `settings`.
    asked: Mapping[str, Any] | None = None
    recipes: tuple[str, ...] = ()  # files that the command line read

    def __post_init__(self) -> None:
        for field in described(type(self)):
            value = _as_text(getattr(self, field.name), field.metadata)
            object.__setattr__(self, field.name, rules.checked(field.name, value, field.metadata))
        if self.content is not None and self.settings.texture is not None:
            raise rules.cannot_be_combined("texture", "content")

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "RunOptions":
        """The options with these values by name, those of `Settings` among them. Raises
        `UsageError` for an unknown name, a wrong value, and a required one that is missing."""
        own = {field.name for field in dataclasses.fields(cls)} - {"settings"}
        settings = {name: value for name, value in values.items() if name in setting_names()}
        known = [*own, *setting_names()]
        for name in values:
            if name not in known:
                raise UsageError(f"unknown setting {shortened(name)}{nearest(name, known)}")
        for name in required(cls, values):
            if values.get(name) is None:
                raise UsageError(*names(name), " is required")
        mine = {name: value for name, value in values.items() if name in own}
        mine.setdefault("content", None)
        return cls(settings=settings_from(settings), **mine)

    def values(self) -> dict[str, Any]:
        """All options and settings by name."""
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        settings = own.pop("settings")
        return own | {name: getattr(settings, name) for name in setting_names()}

    def with_settings(self, **changes: Any) -> "RunOptions":
        return dataclasses.replace(self, settings=dataclasses.replace(self.settings, **changes))


def described(cls: type | None = None) -> list[dataclasses.Field]:
    """The fields that are options, in the order of `--help`."""
    return [field for field in dataclasses.fields(cls or RunOptions) if field.metadata]


def option_names(is_wanted: Callable[[Mapping[str, Any]], Any] = lambda _: True) -> list[str]:
    """The names of the options whose description is wanted."""
    return [field.name for field in described() if is_wanted(field.metadata)]


def required(cls: type | None = None, values: Mapping[str, Any] | None = None) -> list[str]:
    """The options that have to be set, beside others with these values: a texture has no photo."""
    names = [field.name for field in described(cls) if field.default is dataclasses.MISSING]
    if values and values.get("texture") is not None:
        names.remove("content")
    return names


def recorded() -> list[str]:
    """The options that a saved run keeps."""
    return option_names(lambda rule: rule.get("saved"))


def recorded_inputs() -> list[str]:
    """The inputs that make a picture: they are recorded with their checksums."""
    return option_names(lambda rule: rule["role"] == "input" and rule.get("saved"))


def recorded_paths() -> list[str]:
    """The options of a saved run that name files."""
    return option_names(lambda rule: rule.get("saved") and rule.get("is_path"))


def single_files_written() -> list[str]:
    """The options that each name a file to write, besides the picture itself."""
    names_one = option_names(
        lambda rule: (
            rule["role"] == "output"
            and rule.get("is_path")
            and not rule.get("is_folder")
            and not rule.get("is_pattern")
        )
    )
    return [name for name in names_one if name != "output"]


def inputs_of_users() -> list[str]:
    """The inputs that neither a recipe nor a picture can name: a pattern in a file of a stranger
    is not looked up."""
    return option_names(lambda rule: rule["role"] == "input" and not rule.get("recipe"))


def pictures() -> list[str]:
    """The inputs that are pictures or masks."""
    return [name for name in recorded_inputs() if name != "network"]


def is_list(name: str) -> bool:
    """Whether an option names several files."""
    return name in option_names(lambda rule: rule.get("many"))


def may_be_set_by(kind: str, name: str) -> bool:
    """Whether a file of that kind, "recipe" or "table", may set an option or a setting."""
    return name in setting_names() or name in option_names(lambda rule: rule.get(kind))


def combined(*layers: Layer) -> dict[str, Any]:
    """The options of several sources, see `needs.combined`. The neighbors of a picture or a recipe
    give way to what excludes them."""
    defaults = all_defaults()
    values = needs.combined(layers, all_rules(), defaults)
    kept = {name for layer in layers if layer.is_strict for name in layer.names()}
    unusable = usual.unusable(SimpleNamespace(**{**defaults, **values})) - kept
    return {name: value for name, value in values.items() if name not in unusable}


def all_rules() -> dict[str, Mapping[str, Any]]:
    """The descriptions of all options, those of `Settings` among them, by name."""
    return {field.name: field.metadata for field in described()} | setting_rules()


def all_defaults() -> dict[str, Any]:
    own = {field.name: field.default for field in described() if field.name not in required()}
    return own | setting_defaults()


def _as_text(value: Any, rule: Mapping[str, Any]) -> Any:
    """Paths as text, where an option names files."""
    if not rule.get("is_path"):
        return value
    if rule.get("many") and isinstance(value, list | tuple):
        return tuple(os.fspath(item) if isinstance(item, os.PathLike) else item for item in value)
    return os.fspath(value) if isinstance(value, os.PathLike) else value

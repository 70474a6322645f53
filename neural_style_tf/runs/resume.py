"""Resume: a saved run -> its state, and the options to continue with.

A saved run may come from a stranger. Its settings are checked one by one; where files lie, and what
is written where, it says only if this user saved it (see signature.py) or if the output is its own.

NumPy is imported late, as in neural_style.py.
"""

import dataclasses
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from neural_style_tf.errors import SettingName, UsageError, UserError, shortened
from neural_style_tf.painting.step import MATCHES
from neural_style_tf.pictures import files
from neural_style_tf.runs import options as described
from neural_style_tf.runs import provenance
from neural_style_tf.runs.options import RunOptions
from neural_style_tf.settings import BUNDLED_NETWORK, Settings

if TYPE_CHECKING:
    import numpy as np


class Resumed(NamedTuple):
    """A run to continue."""

    state: "dict[str, np.ndarray]"
    options: dict[str, Any]  # defaults of the command line that continues it
    description: provenance.Description
    outputs: tuple[str, ...] = ()  # files that the run has written, and may write again

    @classmethod
    def load(cls, path: str, explicit: Collection[str] = ()) -> "Resumed":
        """The run in a file. explicit: options that the command line sets; their files are not
        searched for.

        Raises `UserError` for a file that does not hold one, and for a run of somebody else's
        whose inputs are not here, or whose output has no name on the command line.
        """
        from neural_style_tf.runs import states

        state, about, is_ours = states.load(path)
        _check_state(state, path)
        description = _whole(provenance.checked(about["description"], path))
        if is_ours:
            options = _recorded(about["options"], path)
            outputs = _outputs(options, description)
        else:
            options, outputs = _of_a_stranger(path, about["options"], description, explicit)
        place = os.path.abspath(path)
        options |= {"save_state": place, "asked": description["asked"]}
        return cls(state, options, description, (*outputs, place))

    def inherited(self, options: RunOptions) -> RunOptions:
        """The options of the same picture, with the settings that were resolved for the machine.
        Where the same was asked for, the same is used again."""
        asked = self.description["asked"]
        same = {
            name: self.description[name]
            for name in asked
            if asked[name] == getattr(options.settings, name)
        }
        return dataclasses.replace(options.with_settings(**same), asked=asked)

    def check(self, options: RunOptions, description: provenance.Description) -> None:
        """Raises `UsageError` for anything that makes another picture, unless that is allowed."""
        changes = provenance.changes(self.description, description)
        for name in ("scales", "optimizer"):
            if description[name] != self.description[name]:
                raise UsageError(SettingName(name), " cannot change when a run is resumed")
        paddings = description["padding"], self.description["padding"]
        if paddings.count("wrap") == 1:  # its pictures have other sizes
            raise UsageError(
                SettingName("padding"), " cannot change from or to wrap when a run is resumed"
            )
        if changes and not options.allow_changes:
            raise UsageError(
                f"the run in {options.resume} had other settings: ",
                *changes,
                ": leave them as they were, or pass --allow-changes",
            )
        if changes:  # what was nearest then may not be so now: it is looked up again
            for name in _matches_in(self.state):
                del self.state[name]


def inherited_by(own: Mapping[str, Any]) -> tuple[dict[str, Any], Resumed | None]:
    """What the options `own` inherit, by name, and the run that they continue: `resume` names a
    saved run, `settings_from` a picture."""
    saved_run, picture = own.get("resume"), own.get("settings_from")
    if saved_run is not None and picture is not None:
        names = SettingName("resume"), " and ", SettingName("settings_from")
        raise UsageError(*names, " cannot be combined: use one of them")
    if saved_run is not None:
        resumed = Resumed.load(saved_run, own)
        return resumed.options | provenance.settings_in(resumed.description), resumed
    if picture is not None:
        return provenance.options_of(picture, own), None
    return {}, None


def _matches_in(state: Mapping[str, Any]) -> list[str]:
    """The names of the matches of the stage and of those before it."""
    return [name for name in state if name.rpartition("/")[2] == MATCHES]


def _whole(description: provenance.Description) -> provenance.Description:
    """The description, with the defaults of settings that it lacks: another version made it."""
    settings = Settings(**provenance.settings_in(description))
    return dataclasses.asdict(settings) | description


def _recorded(options: Any, path: str) -> dict[str, Any]:
    """The options that a run of this user's was started with. Raises `UserError` for anything
    that `provenance.record` does not write."""
    if not isinstance(options, dict) or options.keys() - set(described.recorded()):
        raise UserError(f"{path} was saved by another version: use that version to resume it")
    network = options.get("network") or ""
    # the program has moved since, as it does with an environment; its checksum is compared later
    if os.path.basename(network) == BUNDLED_NETWORK.name and not os.path.exists(network):
        return options | {"network": str(BUNDLED_NETWORK)}
    return options


def _outputs(options: dict[str, Any], description: provenance.Description) -> tuple[str, ...]:
    from neural_style_tf.runs import outputs

    run = RunOptions.of({**options, **provenance.settings_in(description)})
    return tuple(outputs.paths(run))


def _of_a_stranger(
    path: str, options: Any, description: provenance.Description, explicit: Collection[str]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The inputs of somebody else's run, which are searched for by name, and the output, if it
    is the run's own."""
    inputs = provenance.inputs_of(description, explicit, [Path(), Path(path).parent])
    output = _own_output(path, options, description)
    if output:
        return inputs | {"output": output}, (output,)
    if "output" not in explicit:
        raise UsageError(
            f"{path} was not saved by you on this machine, so it may not choose where to "
            "write: pass ",
            SettingName("output"),
        )
    return inputs, ()


def _own_output(path: str, options: Any, description: provenance.Description) -> str | None:
    """The output of somebody else's run, if it lies here or beside its state, and the picture
    says itself that this run made it."""
    from neural_style_tf.pictures import metadata

    output = options.get("output") if isinstance(options, dict) else None
    name = os.path.basename(output) if isinstance(output, str) and "\0" not in output else ""
    for folder in (Path(), Path(path).parent) if name else ():
        candidate = folder / name
        if not candidate.is_file():
            continue
        try:
            made = provenance.checked(metadata.read(candidate), str(candidate))
        except UserError:
            continue
        wanted = description | description["asked"]
        if provenance.is_same(made, wanted):
            return str(candidate)
    return None


def _check_state(state: "Mapping[str, np.ndarray]", path: str) -> None:
    """Raises `UserError` unless the state has all that `stylize` needs to continue. Of the
    optimizer's own arrays only the optimizer knows."""
    try:
        for part in _ends(state):
            _check_arrays(part)
        rows = state["rows"]
        if rows.size and (rows.ndim != 2 or rows.shape[1] != 6):
            raise ValueError(f"rows has the shape {rows.shape}")
    except (KeyError, ValueError, TypeError, IndexError, OverflowError) as error:
        reason = shortened(files.reason(error), 100)
        raise UserError(f"the run in {path} is damaged ({reason}): use another file") from error


def _ends(state: "Mapping[str, np.ndarray]") -> "Iterator[Mapping[str, np.ndarray]]":
    """The state itself, and those of the ends of its earlier stages, see `painting.continuing`."""
    from neural_style_tf.optimizers.base import within

    yield state
    numbers = {name.split("/")[1] for name in state if name.startswith("ends/")}
    for number in sorted(numbers):
        if not (number.isascii() and number.isdecimal() and len(number) < 4):
            raise ValueError(f"ends/{shortened(number)}")
        yield within(f"ends/{number}/", state)


def _check_arrays(state: "Mapping[str, np.ndarray]") -> None:
    import numpy as np

    picture, plan = state["picture"], state["plan"]
    if picture.dtype != np.float32 or picture.ndim != 4 or picture.shape[::3] != (1, 3):
        raise ValueError(f"picture has the shape {picture.shape}")
    if state["best/picture"].shape != picture.shape or not np.isfinite(picture).all():
        raise ValueError("picture is not sound")
    if plan.ndim != 2 or plan.shape[1] != 4 or not 0 < len(plan) < 100 or plan.min() < 0:
        raise ValueError(f"plan has the shape {plan.shape}")
    if not 1 <= int(state["stage"]) <= len(plan) or plan[:, :3].min() < 1:
        raise ValueError("its stages are not sound")
    for name in ("iterations", "evaluations", "taken", "seconds"):
        if state[name].shape != () or not 0 <= float(state[name]) < 1e12:
            raise ValueError(f"{name} is {shortened(state[name])}")
    if state["patience"].shape != (2,):
        raise ValueError("patience is not two numbers")
    for name in _matches_in(state):
        matches = state[name]
        if matches.dtype != np.int32 or matches.ndim != 1:
            raise ValueError(f"{name} has the type {matches.dtype} and shape {matches.shape}")

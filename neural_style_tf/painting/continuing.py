"""Continuing: the state of an earlier run and the settings of this one -> where to go on.

A run that continues ends with the same picture as one run of all the steps. An example: a run of
10 steps was planned in two stages, 6 steps at 256 pixels and 4 at 512, and has taken them all. Now
20 steps are wanted. A single run would have taken 12 and 8: it is at its step 6 where the first
stage of the earlier run ended. So the run goes back to that end, which the state still has if it
was saved with its earlier stages, and takes steps 7 to 20 from there. The 4 steps at 512 pixels
are dropped: they began with a picture that had seen 6 steps instead of 12.
"""

from collections.abc import Mapping
from typing import Any

from neural_style_tf.errors import SettingName, UsageError
from neural_style_tf.optimizers.base import under, within
from neural_style_tf.painting import stages
from neural_style_tf.painting.stages import Stage
from neural_style_tf.settings import Settings

ENDS = "ends/"  # begins the names, within a state, of how earlier stages ended


def starting_point(
    state: Mapping[str, Any], settings: Settings
) -> tuple[dict[str, Any] | None, list[Stage]]:
    """The state to go on from, and the stages to paint in.

    The state is the newest one, or of the end of the last stage that one run of
    `settings.iterations` steps has in common with the earlier run; None to start from the
    beginning, where each step depends on how many there are.

    Raises `UsageError` for fewer steps than have been taken, and for a state that lacks the end of
    the stage to go back to.
    """
    planned = stages.from_rows(state["plan"], settings.wraps)
    taken = int(state["iterations"])
    if settings.iterations < taken:
        raise _wrong_iterations(settings, f", and {taken} are done already: use {taken} or more")
    plan = stages.with_iterations(planned, settings)
    if plan != planned and stages.depends_on_total_steps(settings):
        return None, plan
    number = int(state["stage"])
    changed = _first_changed(planned, plan)
    if changed is not None and changed < number:
        return _end_of_stage(changed, state, planned, settings), plan
    if int(state["taken"]) > plan[number - 1].iterations:
        raise _wrong_iterations(
            settings,
            f", fewer at this size than are done already: use {stages.total_steps(planned)}",
        )
    return dict(state), plan


def ends_in(state: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a state that says how its earlier stages ended."""
    return {name: value for name, value in state.items() if name.startswith(ENDS)}


def end_of(stage: Stage, state: Mapping[str, Any]) -> dict[str, Any]:
    """The state at the end of a stage as a part of later states."""
    return under(_prefix(stage.number), state)


def _prefix(number: int) -> str:
    return f"{ENDS}{number}/"


def _first_changed(planned: list[Stage], plan: list[Stage]) -> int | None:
    """The number of the first stage with another number of steps; None if there is none."""
    for before, now in zip(planned, plan, strict=True):
        if before.iterations != now.iterations:
            return now.number
    return None


def _end_of_stage(
    number: int, state: Mapping[str, Any], planned: list[Stage], settings: Settings
) -> dict[str, Any]:
    """The state at the end of that stage, with the ends of the stages before it."""
    end = within(_prefix(number), state)
    if not end:
        raise _wrong_iterations(
            settings,
            ", and the run was saved without its earlier stages: use "
            f"{stages.total_steps(planned)}",
        )
    for earlier in range(1, number):
        end |= under(_prefix(earlier), within(_prefix(earlier), state))
    return end


def _wrong_iterations(settings: Settings, reason: str) -> UsageError:
    return UsageError(SettingName("iterations"), f" is {settings.iterations}{reason}")

"""Options: all that a batch is started with besides the options of its pictures, each described
once. The parser follows from these descriptions, as it does from `RunOptions`.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from neural_style_tf import rules
from neural_style_tf.batch.processes import MAX_PROCESSES
from neural_style_tf.errors import SettingName, UsageError
from neural_style_tf.needs import any_of
from neural_style_tf.runs.options import RunOptions, option_names

NAME = "{content}--{style}.png"
AUTO, LOCAL = "auto", "local"  # values of workers and cluster


def _option(default: Any, text: str, kind: type = str, **rule: Any) -> Any:
    return dataclasses.field(default=default, metadata={"text": text, "kind": kind, **rule})


def _switch(text: str, **rule: Any) -> Any:
    return _option(False, text, bool, role="behaviour", **rule)


@dataclass(frozen=True, kw_only=True)
class BatchOptions:
    """What a batch is started with, checked as it is made. Raises `UserError` for a value that
    breaks its rule, for options that contradict each other, and for TLS files that cannot be used.
    """

    # fmt: off
    contents: tuple[str, ...] | None = _option(None, "photos: files, folders or patterns",
        many=True, metavar="PATH", is_path=True)
    styles: tuple[str, ...] | None = _option(None,
        "paintings, each a style: files, folders or patterns",
        many=True, metavar="PATH", is_path=True)
    pairs: str | None = _option(None,
        "instead of both: a table (CSV) of one picture per row, with the columns content, styles "
        "(several with ; between them), and optionally output and options",
        metavar="FILE", is_path=True)
    output_dir: str = _option(dataclasses.MISSING, "folder of the results",
        metavar="FOLDER", is_path=True)
    allow_outside: bool = _switch("let a table name outputs outside of --output-dir",
        needs=any_of("pairs"))
    name: str = _option(NAME,
        "names of the results: {content} and {style} are the pictures' names, {content_file} and "
        "{style_file} the same with endings, {content_folder} and {style_folder} the names of "
        f"their folders (default {NAME})", metavar="PATTERN")
    save_states: bool = _switch(
        "keep the state of each run beside its result until that is done, so that a run that was "
        "killed is continued")
    fail_fast: bool = _switch("stop at the first failure")
    workers: str = _option(AUTO,
        "processes that paint at the same time (default auto: one per GPU, or without one "
        "per processor, as many as fit in memory)", metavar="N")
    job_timeout: float | None = _option(None,
        "stop the process of a picture that reports no step within this time, and try the picture "
        "again, twice at most; allow for the slowest step and for the start (default: no limit)",
        float, above=0, metavar="SECONDS")
    cluster: str | None = _option(None,
        "paint on a Dask cluster: tcp://HOST:8786, or local for one on this machine; without "
        "--cluster-tls, whoever reaches the scheduler can run programs on all its machines",
        metavar="ADDRESS")
    cluster_tls: tuple[str, ...] | None = _option(None,
        "certificate of the cluster's authority, certificate of this machine, and its key (PEM), "
        "for a scheduler at tls://HOST:8786: everything sent is encrypted, both sides are checked",
        count=3, many=True, metavar=("CA", "CERT", "KEY"), is_path=True)
    shared_folder: bool = _switch(
        "the cluster's machines see the same files at the same paths: read and write them there, "
        "instead of sending pictures", needs=any_of("cluster"))
    # fmt: on

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, rule = getattr(self, field.name), field.metadata
            if rule.get("many"):  # thousands of photos, if need be
                value = value and tuple(value)
            else:
                value = rules.checked(field.name, value, rule)
            object.__setattr__(self, field.name, value)
        if self.pairs and (self.contents or self.styles):
            raise UsageError(
                "--pairs names photos and paintings: use it, or --contents and --styles"
            )
        if not self.pairs and not (self.contents and self.styles):
            raise UsageError("nothing to paint: use --contents and --styles, or --pairs")
        if self.workers != AUTO and not (self.workers.isdecimal() and int(self.workers) >= 1):
            raise UsageError(f"--workers is {self.workers}: use auto, or 1 or more")
        if self.cluster is None and self.workers != AUTO and int(self.workers) > MAX_PROCESSES:
            raise UsageError(
                f"--workers is {self.workers}: use {MAX_PROCESSES} or fewer, this system cannot "
                "wait for more processes"
            )
        if self.is_remote and self.workers != AUTO:
            raise UsageError("--workers is for this machine: a cluster has its own")
        if self.cluster_tls:
            from neural_style_tf.batch import tls

            tls.check(self.cluster, self.cluster_tls)

    @property
    def is_remote(self) -> bool:
        """Whether other machines paint."""
        return self.cluster not in (None, LOCAL)

    def check_pictures(self, pictures: Sequence[RunOptions]) -> None:
        """Raises `UsageError` for outputs that the machines of a cluster could not write here."""
        if not self.is_remote or self.shared_folder:
            return
        for name in option_names(lambda rule: rule["role"] == "output"):
            if name != "output" and any(getattr(picture, name) for picture in pictures):
                option = SettingName("save_states" if name == "save_state" else name)
                raise UsageError(
                    option, " on a cluster requires --shared-folder, which all machines see"
                )

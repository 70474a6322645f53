"""Many pictures: every photo in every style, here or on a cluster.

    python batch.py --contents photos/ --styles paintings/ --output-dir gallery/

Takes most options of neural_style.py, recipes too. NumPy, Pillow and TensorFlow are imported late,
as there.
"""

import argparse
import contextlib
import dataclasses
import functools
import glob
import math
import os
import signal
import sys
import threading
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

from neural_style_tf.batch import gallery, jobs, processes, tables
from neural_style_tf.batch.jobs import Outcome
from neural_style_tf.batch.scheduling import TRIES, Event
from neural_style_tf.batch.summary import Summary
from neural_style_tf.commands import parser as single
from neural_style_tf.errors import INTERRUPTED, UsageError, UserError, message_of, option_name
from neural_style_tf.machine import cpu, devices, memory, streams
from neural_style_tf.pictures import files
from neural_style_tf.runs import checks
from neural_style_tf.runs import options as described
from neural_style_tf.runs.options import RunOptions
from neural_style_tf.runs.stopping import EXIT_STATUS

NAME = "{content}--{style}.png"
# What became of the last attempt at a picture.
DIED = "in the last one, the process that painted it died"
HUNG = "in the last one, no step was reported for {:g} seconds (--job-timeout)"
WORKER_GIGABYTES = 1.5  # of a process that paints a small picture
MEGAPIXEL_GIGABYTES = 1.4  # and of each megapixel more


class Kind(NamedTuple):
    """What TensorFlow prepares itself for: the size of a picture, and the settings that its losses
    hang on. A photo that cannot be read has neither height nor width, and will fail by itself."""

    height: int
    width: int
    losses: str

    @property
    def pixels(self) -> int:
        return self.height * self.width


class Pair(NamedTuple):
    """A photo, the paintings that it is painted after, and how."""

    content: str
    styles: tuple[str, ...]
    output: str
    options: RunOptions


def main(arguments: list[str] | None = None) -> int:
    """Runs one command line. Returns its exit status: 0 done, 1 if any picture failed, 2 wrong
    usage, 130 interrupted, 143 terminated, 129 when the terminal was closed."""
    arguments = sys.argv[1:] if arguments is None else arguments
    interrupted = INTERRUPTED

    def stop(number: int, _: object) -> None:
        nonlocal interrupted
        interrupted = EXIT_STATUS[number]
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        for number in EXIT_STATUS.keys() - {signal.SIGINT}:
            if signal.getsignal(number) != signal.SIG_IGN:  # as nohup leaves SIGHUP
                signal.signal(number, stop)
    try:
        arguments, recipes = single.expand(arguments)
        options, rest = build_parser().parse_known_args(arguments)
        pairs = pairs_of(options, rest)
        check_names(pairs)
        others = filter(None, [*recipes, options.pairs])
        check_inputs(pairs, list(others), gallery.files_in(options.output_dir))
        check_workers(options, [pair.options for pair in pairs])
        common = pairs[0].options
        make_folders({os.path.dirname(pair.output) for pair in pairs})
        with Summary(len(pairs), common.quiet) as summary:
            try:
                for number, outcome in paint(pairs, options, summary):
                    summary.add(pairs[number].output, outcome)
                    if outcome.status == "failed" and options.fail_fast:
                        break
            except KeyboardInterrupt:
                summary.status = interrupted
                for pair in pairs:  # one may be done that was not reported yet
                    there = None if pair.output in summary.outcomes else looked_for(pair)
                    if there and there.status == "kept":
                        summary.add(pair.output, there)
            except UserError as error:  # nobody paints: what is done is reported all the same
                summary.status = tell(error)
            found = summary.outcomes
            entries = [entry(pair, found[pair.output]) for pair in pairs if pair.output in found]
            if entries:
                summary.note("making the gallery")
                gallery.write(Path(options.output_dir), entries, common.max_megapixels)
        summary.finish(options.output_dir)
        return summary.status
    except UserError as error:
        if "--debug" in arguments:
            raise
        return tell(error)
    except KeyboardInterrupt:
        return interrupted


def tell(error: UserError) -> int:
    print(f"error: {message_of(error)}", file=sys.stderr)
    return error.exit_status


def make_folders(paths: Collection[str]) -> None:
    for path in paths:
        try:
            os.makedirs(path or ".", exist_ok=True)
        except OSError as error:
            raise UserError(
                f"cannot make the folder {path} ({files.reason(error)}): choose another"
            ) from error


def build_parser() -> argparse.ArgumentParser:
    prog = single.program_name("batch.py", "neural-style-batch")
    parser = single.Parser(
        prog=prog,
        description="Repaints every photo in the style of every painting. Takes the options of "
        f"{'neural_style.py' if prog == 'batch.py' else 'neural-style'}, too.",
        allow_abbrev=False,
        epilog=f"example: {prog} --contents photos/ --styles paintings/ --output-dir gallery/ "
        "--size 512",
    )
    parser.add_argument(
        "--contents", metavar="PATH", nargs="+", help="photos: files, folders or patterns"
    )
    parser.add_argument(
        "--styles", metavar="PATH", nargs="+", help="paintings, each a style: likewise"
    )
    parser.add_argument(
        "--pairs",
        metavar="FILE",
        help="instead: a table (CSV) with the columns content, styles (several with ; between "
        "them), and if you like output and options, a picture a row",
    )
    parser.add_argument("--output-dir", metavar="FOLDER", required=True, help="for the results")
    parser.add_argument(
        "--allow-outside",
        action="store_true",
        help="let a table name outputs outside of --output-dir",
    )
    parser.add_argument(
        "--name",
        metavar="PATTERN",
        default=NAME,
        help="of a result: {content} and {style} are the pictures' names, {content_file} and "
        "{style_file} those with endings, {content_folder} and {style_folder} those of their "
        f"folders (default {NAME})",
    )
    parser.add_argument(
        "--save-states",
        action="store_true",
        help="keep the state of each run beside its result until that is done: a run that was "
        "killed goes on from there",
    )
    parser.add_argument("--fail-fast", action="store_true", help="stop at the first failure")
    add_worker_options(parser)
    parser.add_argument(
        "--version", action="version", version=single.VERSION_TEXT, help="show the version"
    )
    return parser


def add_worker_options(parser: argparse.ArgumentParser) -> None:
    """Who paints: processes here, or a cluster."""
    parser.add_argument(
        "--workers",
        metavar="N",
        default="auto",
        help="processes that paint side by side (default auto: one a processor, as many as fit in "
        "memory; on a GPU one)",
    )
    parser.add_argument(
        "--job-timeout",
        metavar="SECONDS",
        type=float,
        help="a picture that reports no step for this long is taken to hang: its process is ended "
        "and the picture tried again, twice at most; allow for the slowest step, and for the time "
        "before the first one (default: wait forever)",
    )
    parser.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="paint on a Dask cluster: tcp://HOST:8786, or local for one on this machine; without "
        "--cluster-tls, whoever reaches the scheduler can run programs on all its machines",
    )
    parser.add_argument(
        "--cluster-tls",
        metavar=("CA", "CERT", "KEY"),
        nargs=3,
        help="files (PEM) of the cluster's authority and of this machine, for a scheduler at "
        "tls://HOST:8786: all that is sent is encrypted, and both sides are checked",
    )
    parser.add_argument(
        "--shared-folder",
        action="store_true",
        help="the cluster's machines see the same files at the same paths: read and write them "
        "there, instead of sending pictures to and fro",
    )


def pairs_of(options: argparse.Namespace, rest: list[str]) -> list[Pair]:
    """What is to be painted, in the order of the gallery. rest: the options of neural_style.py."""
    if options.pairs and (options.contents or options.styles):
        raise UsageError("--pairs names photos and paintings: give it, or --contents and --styles")
    check_rest(rest)
    if options.pairs:
        return list(read_pairs(options, rest))
    if not (options.contents and options.styles):
        raise UsageError("nothing to paint: give --contents and --styles, or --pairs")
    painted = parsed(rest)
    contents, styles = expanded(options.contents), expanded(options.styles)
    return [
        make_pair(content, (style,), None, painted, options)
        for content in contents
        for style in styles
    ]


def check_rest(rest: Sequence[str]) -> None:
    """Raises `UsageError` for an option of one run only."""
    own = single.given_options(list(rest))
    unavailable = described.option_names(lambda rule: not rule.get("batch", True))
    for name in ("list_layers", "clear_cache", *unavailable):
        if name in own:
            raise UsageError(f"{option_name(name)} is not available in batch.py")


def parsed(rest: Sequence[str]) -> RunOptions:
    """The options of every picture that is painted so, checked; its files are still to be named."""
    files_to_name = ["--content", "content", "--styles", "style", "--output", "output"]
    options = single.parse([*files_to_name, *rest], {})
    pattern = options.checkpoint_output
    if pattern and not ("{content}" in pattern and "{style}" in pattern):
        raise UsageError(
            f"--checkpoint-output {pattern} would be one file for several pictures: give it "
            "{content} and {style}, as in {content}-{style}-%04d.jpg"
        )
    return options


def read_pairs(options: argparse.Namespace, rest: Sequence[str]) -> Iterator[Pair]:
    """The pairs of a table. Raises `UsageError`, with its line, for a row that is not one."""
    known: dict[str, RunOptions] = {}
    for line, row in tables.read(options.pairs):
        where = f"{options.pairs}, line {line}: "
        try:
            more = row.get("options") or ""
            if more not in known:
                own = tables.own_options(more, single.check_table, single.check_recipe)
                known[more] = parsed([*rest, *own])
            content, styles = tables.pictures_of(row)
            output = row.get("output")
            pair = make_pair(content, styles, output, known[more], options)
            if output and not options.allow_outside:
                tables.check_inside(pair.output, options.output_dir)
        except UserError as error:
            raise UsageError(where, *error.args) from error
        yield pair


def expanded(paths: Sequence[str]) -> list[str]:
    """The pictures that files, folders and patterns name, each once. Raises `UsageError` for one
    that names none."""
    from neural_style_tf.pictures import formats

    found = {}
    for path in paths:
        if os.path.isdir(path):
            named = sorted(
                os.path.join(path, name)
                for name in os.listdir(path)
                if Path(name).suffix.lower() in formats.READABLE_ENDINGS
                and not name.startswith(".")
            )
            if not named:
                raise UsageError(f"no picture in {path}: give another folder")
        else:
            named = [path] if os.path.exists(path) else sorted(glob.glob(path, recursive=True))
            if not named:
                raise UsageError(f"no file {path}: check the name")
        found |= dict.fromkeys(named)
    return list(found)


def make_pair(
    content: str,
    styles: tuple[str, ...],
    output: str | None,
    painted: RunOptions,
    options: argparse.Namespace,
) -> Pair:
    """painted: the options of such a picture but for its files."""
    if not output:
        try:
            output = options.name.format(
                content=Path(content).stem,
                style="+".join(Path(style).stem for style in styles),
                content_folder=Path(os.path.abspath(content)).parent.name,
                style_folder=Path(os.path.abspath(styles[0])).parent.name,
                content_file=Path(content).name,
                style_file="+".join(Path(style).name for style in styles),
            )
        except (KeyError, ValueError, IndexError, AttributeError, TypeError) as error:
            raise UsageError(
                f"--name {options.name} has an unknown field: give {{content}}, {{style}}, "
                "{content_file}, {style_file}, {content_folder} or {style_folder}"
            ) from error
    output = os.path.join(options.output_dir, output)
    named = {"content": content, "styles": list(styles), "output": output}
    named["save_state"] = f"{output}.state.npz" if options.save_states else None
    return Pair(content, styles, output, dataclasses.replace(painted, **named))


def check_names(pairs: Sequence[Pair]) -> None:
    """Raises `UserError` for results that would be one file, or that keep no settings."""
    from neural_style_tf.pictures import writing

    seen: dict[str, Pair] = {}
    for pair in pairs:
        if Path(pair.output).stem.lower() == "gallery":
            raise UsageError(f"{pair.output} is the gallery's own name: give --name another")
        if Path(pair.output).suffix.lower() == ".bmp":
            raise UsageError(f"{pair.output} could not keep its settings: give .png, .jpg or .webp")
        same = os.path.normcase(os.path.abspath(pair.output)).lower()
        other = seen.setdefault(same, pair)
        if other is not pair:
            of = [f"{one.content} in {' + '.join(one.styles)}" for one in (other, pair)]
            raise UsageError(
                f"{of[0]} and {of[1]} would both be {pair.output}: give --name with "
                "{content_file} or {content_folder} or the like"
            )
    for ending in {Path(pair.output).suffix: pair.output for pair in pairs}.values():
        writing.check_ending(ending)


def check_inputs(pairs: Sequence[Pair], others: Sequence[str], written: Sequence[str]) -> None:
    """Raises `UsageError` for a file that would replace one that the batch reads. others: inputs
    beside those of the pairs. written: outputs likewise."""
    from neural_style_tf.runs import outputs

    inputs, written = set(others), list(written)  # many pairs have the same inputs
    for pair in pairs:
        inputs.update(checks.files_read(pair.options))
        written += outputs.paths(pair.options, pair.options.settings)
    read = set(map(os.path.realpath, inputs))
    for path in written:
        if os.path.realpath(path) in read:
            raise UsageError(
                f"the output {path} is also an input: choose another --output-dir or --name"
            )


def paint(
    pairs: Sequence[Pair], options: argparse.Namespace, summary: Summary
) -> Iterator[tuple[int, Outcome]]:
    """What becomes of each pair, as soon as it is known."""
    left = []
    for number, pair in enumerate(pairs):
        there = looked_for(pair)
        if there:
            yield number, there
        else:
            left.append(number)
    if not left:
        return
    kinds = kinds_of(pairs, left)
    # the largest first: at the end nobody waits long for the last; within a size they stay in order
    left.sort(key=lambda number: kinds[number].pixels, reverse=True)
    events = begin(
        [pairs[number].options for number in left],
        pairs[0].options,
        options,
        summary,
        [kinds[number] for number in left],
    )
    with contextlib.closing(events):
        for event in events:
            number = left[event.job]
            if event.kind == "done":
                yield number, event.value
            elif event.kind == "died":
                yield number, jobs.failed(f"gave up after {TRIES} attempts: {DIED}")
            elif event.kind == "hung":
                hung = HUNG.format(options.job_timeout)
                yield number, jobs.failed(f"gave up after {TRIES} attempts: {hung}")
            else:
                summary.show(event.worker, pairs[number].output, event.value)


def begin(
    pictures: list[RunOptions],
    common: RunOptions,
    options: argparse.Namespace,
    summary: Summary,
    kinds: Sequence[Kind],
) -> Iterator[Event]:
    """Has pictures painted, here or on a cluster. common: their options that are the same for all.
    options: of the batch. kinds: of the pictures."""
    timeout = options.job_timeout or math.inf
    if options.cluster:
        from neural_style_tf.batch import dask_cluster

        is_here = options.cluster == "local"
        return dask_cluster.run(
            pictures,
            options.cluster,
            options.shared_folder or is_here,
            shared_out(options.workers, common, kinds) if is_here else None,
            summary.note,
            kinds,
            timeout=timeout,
            tls=options.cluster_tls,
        )
    count, threads = shared_out(options.workers, common, kinds)
    summary.note(f"{len(pictures)} pictures, {count} at a time")
    folders = {os.path.dirname(picture.output) for picture in pictures}
    # what others are forked from imports in silence, and a GPU's driver may not survive a fork
    is_anew = common.debug or devices.seems_to_have_gpu()

    def clear_up(process: int) -> None:
        for folder in folders:
            files.remove_unfinished(folder, process)
            files.remove_left_behind(folder)  # its claims are free now

    return processes.run(
        pictures,
        count,
        jobs.in_worker,
        (threads, common.debug),
        is_busy=lambda outcome: outcome.status == "busy",
        kinds=kinds,
        on_end=clear_up,
        preload=None if is_anew else "neural_style_tf.batch.preload",
        timeout=timeout,
    )


def looked_for(pair: Pair) -> Outcome | None:
    """What there is of it; None if it is to be painted."""
    try:
        return jobs.there_already(pair.options)
    except UserError as error:
        return jobs.failed(message_of(error))


def check_workers(options: argparse.Namespace, painted: Sequence[RunOptions]) -> None:
    """Raises `UsageError` for workers that there cannot be, and what a cluster could not do."""
    check_timeout(options.job_timeout)
    check_tls(options.cluster, options.cluster_tls)
    wanted = options.workers
    if wanted != "auto" and not (wanted.isdecimal() and int(wanted) >= 1):
        raise UsageError(f"--workers is {wanted}: give auto, or 1 or more")
    if options.cluster in (None, "local"):
        return
    if wanted != "auto":
        raise UsageError("--workers is for this machine: a cluster has its own")
    if options.shared_folder:
        return
    for name in described.option_names(lambda rule: rule["role"] == "output"):
        if name != "output" and any(getattr(options, name) for options in painted):
            given = "save_states" if name == "save_state" else name
            raise UsageError(
                f"{option_name(given)} on a cluster needs --shared-folder, which all see"
            )


def check_timeout(seconds: float | None) -> None:
    """Raises `UsageError` for seconds that nothing takes."""
    if seconds is not None and not (math.isfinite(seconds) and seconds > 0):
        raise UsageError(f"--job-timeout is {seconds:g}: use a number of seconds above 0")


def check_tls(address: str | None, paths: Sequence[str] | None) -> None:
    """Raises `UserError` for a cluster that has no use for these files, or files of no use. paths:
    of the authority's certificate, ours, and its key."""
    if not paths:
        return
    if address is None:
        raise UsageError("--cluster-tls requires --cluster")
    if address == "local":
        raise UsageError("--cluster-tls is for other machines: leave it out with --cluster local")
    if not address.startswith("tls://"):
        raise UsageError(
            f"--cluster {address} is not encrypted: with --cluster-tls, use an address such as "
            "tls://HOST:8786"
        )
    import ssl

    for path in paths:
        files.open_to_read(path).close()
    try:
        context = ssl.create_default_context(cafile=paths[0])
    except (OSError, ValueError) as error:
        raise UserError(
            f"{paths[0]} holds no certificate of an authority ({files.reason(error)}): "
            "use a PEM file for --cluster-tls"
        ) from error
    try:
        # with a password of our own, or a locked key would have OpenSSL ask for one
        context.load_cert_chain(paths[1], paths[2], password="")
    except (OSError, ValueError) as error:
        raise UserError(
            f"{paths[1]} and {paths[2]} are not a certificate and its key, unlocked "
            f"({files.reason(error)}): use PEM files for --cluster-tls"
        ) from error


def kinds_of(pairs: Sequence[Pair], left: Sequence[int]) -> dict[int, Kind]:
    """By the numbers of the pairs: those of one kind are painted one after the other, and by one
    process, so that what was made for the first is used again."""
    from neural_style_tf.pictures import reading, sizes

    size = functools.cache(reading.size)
    found = {}
    for number in left:
        settings, height, width = pairs[number].options.settings, 0, 0
        with contextlib.suppress(UserError):
            height, width = sizes.target_size(*size(pairs[number].content), settings)
        found[number] = Kind(height, width, settings.of_losses())
    return found


def shared_out(wanted: str, common: RunOptions, kinds: Sequence[Kind]) -> tuple[int, int]:
    """How many processes, and of how many threads each. kinds: of what they paint."""
    cores = common.threads or cpu.threads()
    if wanted == "auto" and devices.seems_to_have_gpu():
        count = 1
    elif wanted == "auto":
        count = min(cores, len(kinds), room_for(max(kind.pixels for kind in kinds)))
    else:
        count = min(int(wanted), len(kinds))
    count = min(count, processes.MAX_PROCESSES)
    return count, max(1, cores // count)


def room_for(pixels: int) -> int:
    """The processes that memory holds, each with a picture of so many."""
    free = memory.free_system_memory()
    if free is None:
        return sys.maxsize
    return max(1, int(free / (WORKER_GIGABYTES * 1e9 + MEGAPIXEL_GIGABYTES * 1e3 * pixels)))


def entry(pair: Pair, outcome: Outcome) -> gallery.Entry:
    return gallery.Entry(pair.content, pair.styles, pair.output, **outcome._asdict())


def start() -> NoReturn:
    """The life of a process that is nothing but one command line."""
    streams.guard()
    sys.exit(main())

"""The soak from the command line: `make soak MINUTES=60`, or

PYTHONPATH=.:tests python -m soak --minutes 10 --seed 7 pictures networks
PYTHONPATH=.:tests python -m soak --replay soak-failures/pictures-OSError-1a2b3c4d.png
"""

import argparse
import importlib
import os
import pkgutil
import random
import signal
import sys
import tempfile
from pathlib import Path
from types import ModuleType

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import soak
from neural_style_tf.errors import INTERRUPTED
from soak.engine import Soak, summary


def parts() -> dict[str, ModuleType]:
    """All parts by name."""
    names = sorted(module.name for module in pkgutil.iter_modules(soak.__path__))
    modules = {name: importlib.import_module(f"soak.{name}") for name in names if name[0] != "_"}
    return {name: module for name, module in modules.items() if hasattr(module, "WANTED")}


def replay(path: Path) -> str | None:
    """Makes the attempt of a saved file again: what is wrong, or None."""
    return importlib.import_module(f"soak.{path.name.partition('-')[0]}").replay(path.resolve())


def run(
    chosen: dict[str, ModuleType],
    minutes: float,
    seed: int,
    failures: Path,
    attempts: int | None = None,
) -> list[Soak]:
    """Soaks the parts one after the other. Each has an equal share of the time that remains, so
    what one does not use is for those after it. attempts: of each part; by default all that it
    wants, and only then times count."""
    done = []
    seconds = 60 * minutes
    for place, (name, part) in enumerate(chosen.items()):
        share = max(0, seconds) / (len(chosen) - place)
        wanted = attempts or part.WANTED
        attempt = Soak(name, seed, wanted, share, failures, is_timed=attempts is None)
        done.append(attempt)
        try:
            attempt.make(part)
        except KeyboardInterrupt:
            attempt.skipped = "interrupted"
            break
        seconds -= attempt.took
    return done


def main() -> int:
    """Returns the exit status: 0 nothing failed, 1 something did, 2 wrong usage."""
    available = parts()
    parser = argparse.ArgumentParser(
        prog="soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="PART", help="default: all parts")
    parser.add_argument("--minutes", type=float, default=60.0, help="for all parts together")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument(
        "--attempts",
        type=int,
        help="of each part, without failures for the time taken; default: all that it wants",
    )
    parser.add_argument(
        "--failures", type=Path, default=Path("soak-failures"), help="folder for failed attempts"
    )
    parser.add_argument("--replay", type=Path, metavar="FILE", help="make one failed attempt again")
    parser.add_argument("--list", action="store_true", help="list the parts")
    options = parser.parse_args()
    unknown = set(options.names) - available.keys()
    if unknown:
        parser.error(f"no part {', '.join(sorted(unknown))}: choose from {', '.join(available)}")
    if options.list:
        for name, part in available.items():
            print(f"{name:<16}{part.WANTED:>8}  {part.__doc__.splitlines()[0]}")
        return 0
    for number in (signal.SIGINT, signal.SIGTERM):  # either ends with a table
        signal.signal(number, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="soak-cache-") as cache:
        os.environ["XDG_CACHE_HOME"] = cache  # not the user's
        return _run(options, available)


def _run(options: argparse.Namespace, available: dict[str, ModuleType]) -> int:
    if options.replay:
        message = replay(options.replay)
        print(message or "this attempt is fine now")
        return int(bool(message))
    chosen = {name: available[name] for name in options.names or available}
    failures = options.failures.resolve()
    done = run(chosen, options.minutes, options.seed, failures, options.attempts)
    print(f"seed {options.seed}\n{summary(done)}")
    if done[-1].skipped == "interrupted":
        return INTERRUPTED
    return int(any(part.kinds for part in done))


if __name__ == "__main__":
    sys.exit(main())

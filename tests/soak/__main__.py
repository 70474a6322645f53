"""The soak from the command line: `make soak MINUTES=60`, or

PYTHONPATH=.:tests python -m soak --minutes 10 --seed 7 pictures networks
PYTHONPATH=.:tests python -m soak --replay soak-failures/pictures-OSError-1a2b3c4d.png
"""

import argparse
import importlib
import pkgutil
import random
import sys
from pathlib import Path

import soak
from soak.engine import Soak


def parts() -> list[str]:
    """The names of all parts."""
    modules = (module.name for module in pkgutil.iter_modules(soak.__path__))
    return sorted(
        name for name in modules if hasattr(importlib.import_module(f"soak.{name}"), "WANTED")
    )


def run(names: list[str], minutes: float, seed: int, failures: Path) -> list[Soak]:
    """Soaks the parts one after the other, each with its share of the time that is left."""
    done = []
    seconds = 60 * minutes
    for place, name in enumerate(names):
        part = importlib.import_module(f"soak.{name}")
        share = seconds / (len(names) - place)
        with Soak(name, seed, part.WANTED, share, failures) as attempt:
            part.soak(attempt)
            seconds -= attempt.seconds()
        print(attempt.report(), flush=True)
        done.append(attempt)
    return done


def main() -> int:
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="PART", help="default: all parts")
    parser.add_argument("--minutes", type=float, default=60.0, help="for all parts together")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--failures", type=Path, default=Path("soak-failures"))
    parser.add_argument("--replay", type=Path, metavar="FILE", help="make one failed attempt again")
    options = parser.parse_args()
    if options.replay:
        part = importlib.import_module(f"soak.{options.replay.name.partition('-')[0]}")
        message = part.replay(options.replay)
        print(message or "this attempt is fine now")
        return bool(message)
    done = run(options.names or parts(), options.minutes, options.seed, options.failures)
    return any(attempt.kinds for attempt in done)


if __name__ == "__main__":
    sys.exit(main())

"""Damaged, hostile and odd inputs through the command line, and what came of them.

    python tests/tools/fuzz.py                    # 10,000 inputs: a quarter of an hour on one core
    python tests/tools/fuzz.py --count 500 --first 20000
    python tests/tools/fuzz.py --kind archive --first 17 --count 1

Each input follows from its kind and number alone. See ``tests/helpers/hostile*.py`` for the kinds
and for what counts as a fault.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import sys
import tempfile
import warnings
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"
sys.path.insert(0, str(Path(__file__).parents[1]))

from helpers.hostile import World  # noqa: E402
from helpers.hostile_kinds import KINDS  # noqa: E402

ADDRESSES = 6 * 2**30
"""Bytes that the process may map: an input that asks for more ends in a MemoryError, a fault."""

HANGS = 600
"""Seconds after which a command counts as hanging."""

TELL = 500
"""Inputs between two lines of progress."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--kind", choices=[kind.name for kind in KINDS], action="append")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    kinds = [kind for kind in KINDS if kind.name in (options.kind or [k.name for k in KINDS])]
    tried, faults = dict.fromkeys((kind.name for kind in kinds), 0), 0
    signal.signal(signal.SIGALRM, _hangs)
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        world = World(Path(folder).resolve())
        for number in range(options.first, options.first + options.count):
            kind = kinds[number % len(kinds)]
            signal.alarm(HANGS)
            try:
                wrong = world.tried(kind, number)
            except Hangs:
                wrong = [f"hangs for {HANGS} s"]
            signal.alarm(0)
            tried[kind.name] += 1
            faults += bool(wrong)
            if (done := sum(tried.values())) % TELL == 0:
                print(f"{done} of {options.count} inputs, {faults} with a fault", flush=True)
            for one in wrong:
                print(f"{kind.name} {number}: {one}".replace(f"{world.root}/", ""), flush=True)
    for name, count in tried.items():
        print(f"{name:<24}{count:>6} inputs")
    print(f"{sum(tried.values())} inputs tried, {faults} with a fault")
    return 1 if faults else 0


class Hangs(BaseException):
    """No error that a command could catch and end well with."""


def _hangs(number: int, frame: object) -> None:
    raise Hangs


if __name__ == "__main__":
    sys.exit(main())

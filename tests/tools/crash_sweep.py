"""A fault at every file operation of a small grid's life, and what came of it.

    python tests/tools/crash_sweep.py                 # everything; an hour on one core
    python tests/tools/crash_sweep.py --sample 30     # that many points, drawn by --seed
    python tests/tools/crash_sweep.py --stage run --what killed
    python tests/tools/crash_sweep.py --executor ray --sample 30 [--in-cell]

The last one runs the stage ``run`` on that executor; the fault meets the parent or, with
``--in-cell``, a cell's process.

Each point: the process is ended at the k-th operation, or loses its power there, or the operation
fails; then the same command runs again, and its results must be the undisturbed run's.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import random
import sys
import tempfile
import time
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
sys.path.insert(0, str(Path(__file__).parents[1]))

import helpers.warm  # noqa: E402, F401  before the copies
from helpers.crash import ERRORS, KILLS, Faults  # noqa: E402
from helpers.executor_life import CALLS, ExecutorLife  # noqa: E402
from helpers.grid_life import STAGES  # noqa: E402

TELL = 60
"""Seconds between two lines of progress."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    names = [stage.name for stage in STAGES]
    parser.add_argument("--stage", choices=names, action="append")
    parser.add_argument("--what", choices=[*KILLS, *ERRORS], action="append")
    parser.add_argument("--sample", type=int, help="only so many points")
    parser.add_argument("--at", type=int, help="only this operation of each stage")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--executor", choices=CALLS, default="debug")
    parser.add_argument("--in-cell", action="store_true", help="the fault meets a cell's process")
    options = parser.parse_args()
    if options.in_cell or options.executor != "debug":
        options.stage = ["run"]
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="crash-"))
        life = ExecutorLife(Path(folder).resolve(), options.executor, options.in_cell)
        stack.callback(life.end)
        chosen = [stage for stage in STAGES if stage.name in (options.stage or names)]
        life.live(tuple(stage.name for stage in chosen))
        points = []
        for stage in chosen:
            operations = life.counts[stage.name].names
            print(f"{stage.name}: {len(operations)} operations", flush=True)
            for what in options.what or (*KILLS, *ERRORS):
                # A disk that is full or read-only stays so; the other two happen once.
                lasting = what in ("no space", "read-only")
                points += [
                    (stage, what, lasting, k)
                    for k in range(1, len(operations) + 1)
                    if options.at in (None, k)
                ]
        # In random order a sweep that is stopped is a sample of all, and the time left is known.
        random.Random(options.seed).shuffle(points)
        points = points[: options.sample or len(points)]
        tried: collections.Counter[tuple[str, str]] = collections.Counter()
        faults, begun, told = 0, time.monotonic(), 0.0
        for stage, what, lasting, k in points:
            try:
                wrong = life.tried(stage, Faults(life.root, what, k, lasting))
            except KeyboardInterrupt:
                print("stopped")
                break
            tried[stage.name, what] += 1
            done, now = sum(tried.values()), time.monotonic()
            if now - told > TELL:
                told, left = now, (now - begun) / done * (len(points) - done) / 60
                state = f"{done} of {len(points)} points, {faults} with a fault"
                print(f"{state}, {left:.0f} min left", flush=True)
            if wrong:
                faults += 1
                operation = life.counts[stage.name].names[k - 1].replace(f"{life.root}/", "")
                print(f"{stage.name} {what} at {k} ({operation}):", flush=True)
                for one in wrong:
                    print(f"    {one}".replace(f"{life.root}/", ""), flush=True)
        for (stage_name, what), count in sorted(tried.items()):
            print(f"{stage_name:<10}{what:<15}{count:>6} points")
        print(f"{sum(tried.values())} points tried, {faults} with a fault")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

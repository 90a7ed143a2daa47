"""A fault at every file operation of a small grid's life, and what came of it.

    python tests/tools/crash_sweep.py                 # everything; an hour or two on one core
    python tests/tools/crash_sweep.py --sample 30     # that many points, drawn by --seed
    python tests/tools/crash_sweep.py --stage run --what killed

Each point: the process is ended at the k-th operation, or loses its power there, or the operation
fails; then the same command runs again, and its results must be the undisturbed run's.
"""

from __future__ import annotations

import argparse
import collections
import os
import random
import sys
import tempfile
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
sys.path.insert(0, str(Path(__file__).parents[1]))

import matplotlib  # noqa: E402

matplotlib.use("Agg")

import h5py  # noqa: E402, F401
import imageio.v3  # noqa: E402, F401
import matplotlib.pyplot  # noqa: E402
import pyarrow.parquet  # noqa: E402, F401
import seaborn  # noqa: E402, F401
import sklearn.linear_model  # noqa: E402, F401
import torch  # noqa: E402
from helpers.crash import ERRORS, KILLS, Faults  # noqa: E402
from helpers.grid_life import STAGES, Life  # noqa: E402

import benchbench.cell.train  # noqa: E402
import benchbench.cli.main  # noqa: E402
import benchbench.launch.debug  # noqa: E402
import benchbench.launch.run  # noqa: E402
import benchbench.report.page  # noqa: E402, F401


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    names = [stage.name for stage in STAGES]
    parser.add_argument("--stage", choices=names, action="append")
    parser.add_argument("--what", choices=[*KILLS, *ERRORS], action="append")
    parser.add_argument("--sample", type=int, help="only so many points")
    parser.add_argument("--at", type=int, help="only this operation of each stage")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="crash-") as folder:
        life = Life(Path(folder).resolve())
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
        if options.sample:
            points = random.Random(options.seed).sample(points, min(options.sample, len(points)))
        tried: collections.Counter[tuple[str, str]] = collections.Counter()
        faults = 0
        for stage, what, lasting, k in points:
            try:
                wrong = life.tried(stage, Faults(life.root, what, k, lasting))
            except KeyboardInterrupt:
                print("stopped")
                break
            tried[stage.name, what] += 1
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

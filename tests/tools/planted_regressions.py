"""Does the gate find regressions planted on purpose? By hand, with PYTHONPATH=tests; real runs.

    python tests/tools/planted_regressions.py canary FOLDER   the canary, minutes
    python tests/tools/planted_regressions.py throughput FOLDER   A/A and 15 % slower
    python tests/tools/planted_regressions.py pairs FOLDER   scores, probes, errors

Each plants the edits of ``planted.py`` into copies of the package, runs them in processes of their
own and prints what the gate says. ``pairs`` trains a small suite on 20 seeds: the seeds in two
random halves are A/A nights of other seeds; against the planted ones they are paired seed by seed.
"""

import dataclasses
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from helpers.planted import PLANTS, planted_package

from benchbench.gate import Snapshot, compare, gate, load_snapshot

SUITES = Path(__file__).parents[2] / "suites"
SLOWER = "update 15 % slower"
LEARNING = [name for name in PLANTS if name != SLOWER]

SMALL = ["train.updates=800", "evaluate.every=160", "evaluate.episodes=4",
         "diagnose.probe_frames=600", "diagnose.oracle_updates=0", "diagnose.q_every=5",
         "variants=[after]"]  # fmt: skip
"""The quickstart, cut down to some ten seconds a cell."""

SEEDS = 20


def canary(folder: Path) -> None:
    """The whole canary, sound and with each plant."""
    sound = _canary_run(None, folder)
    for name in [None, *LEARNING]:
        table, _, decision = gate(sound, _canary_run(name, folder))
        bad = table[table["sign"].isin(["differs", "missing", "definition changed"])]
        print(f"{name or 'nothing'}: {decision.word} ({decision.headline}); "
              f"in {bad['variant'].nunique()} variants; largest deviation "
              f"{bad['difference'].max():.2g}; {_first(bad)}", flush=True)  # fmt: skip


def throughput(folder: Path) -> None:
    """One agent of the quickstart, against itself and against a slower one."""
    for name in (None, SLOWER):
        environments = [_environment(None, folder / "old"), _environment(name, folder / "new")]
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "benchbench", "throughput", SUITES / "quickstart.yaml",
             *environments, "--only", "variant=after", "--device", "cpu", "--gate"],
            text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False,
        )  # fmt: skip
        print(f"{name or 'nothing'}: exit code {done.returncode} after "
              f"{time.perf_counter() - start:.0f} s\n{done.stdout}", flush=True)  # fmt: skip


def pairs(folder: Path) -> None:
    """The statistical gate on real cells: A/A of other seeds, and each plant on the same seeds."""
    small = [*SMALL, f"seeds={SEEDS}"]
    sound = _run(None, folder, "quickstart", small)
    rng, half = np.random.default_rng(0), SEEDS // 2
    for number in range(5):
        order = rng.permutation(SEEDS)
        table, _, decision = gate(*(_seeds(sound, part) for part in (order[:half], order[half:])))
        print(f"A/A {number}: {decision.word}; {table['sign'].value_counts().to_dict()}")
    for name in LEARNING[:4]:
        planted = _run(name, folder, "quickstart", [*SMALL, f"seeds={half}"])
        if len(planted.unfinished):
            print(f"{name}: {planted.unfinished['error'].iloc[0]}", flush=True)
            continue
        needed: dict[str, int] = {}
        for n in range(5, half + 1):
            table = compare(_seeds(sound, range(n)), _seeds(planted, range(n)))
            for series in table.loc[table["sign"].isin(["worse", "better"]), "series"]:
                needed.setdefault(series, n)
        columns = ["series", "baseline", "candidate", "difference", "lo", "hi", "sign"]
        print(f"{name}: first found with so many pairs {needed}\n{table[columns].to_string()}",
              flush=True)  # fmt: skip


def _seeds(night: Snapshot, seeds: object) -> Snapshot:
    """The night's cells of these seeds alone, named 0, 1, 2, … in their order; times left out.

    A cell's key holds its seed, so it goes with the name.
    """
    place = {int(seed): number for number, seed in enumerate(seeds)}
    cells = night.cells[night.cells["seed"].isin(place)]
    seed = cells["seed"].map(place)
    return dataclasses.replace(
        night, cells=cells.assign(seed=seed, key=seed.astype(str), update_ms=np.nan)
    )


def _canary_run(name: str | None, folder: Path) -> Snapshot:
    return _run(name, folder, "canary", [])


def _run(name: str | None, folder: Path, suite: str, settings: list[str]) -> Snapshot:
    """Run a suite with the plant in the package; cells may fail."""
    home = folder / (name or "sound").replace(" ", "-").replace("'", "").replace(",", "")
    shutil.rmtree(home, ignore_errors=True)
    root = planted_package(name, home / "code")
    options = [word for setting in settings for word in ("--set", setting)]
    subprocess.run(
        [sys.executable, "-P", "-m", "benchbench", "run", SUITES / f"{suite}.yaml", *options,
         "--device", "cpu", "--results", home / "results"],
        env=os.environ | {"PYTHONPATH": str(root.absolute())}, capture_output=True, check=False,
    )  # fmt: skip
    return load_snapshot(home / "results" / suite)


def _environment(name: str | None, folder: Path) -> Path:
    """A copy of the package, and a Python that imports it."""
    root = planted_package(name, folder).absolute()
    python = root / "python"
    line = f'PYTHONPATH={shlex.quote(str(root))} exec {shlex.quote(sys.executable)} "$@"'
    python.write_text(f"#!/bin/sh\n{line}\n", encoding="utf-8")
    python.chmod(0o755)
    return python


def _first(bad) -> str:
    return "" if bad.empty else str(bad.sort_values("difference").iloc[-1]["note"])


if __name__ == "__main__":
    {"canary": canary, "throughput": throughput, "pairs": pairs}[sys.argv[1]](Path(sys.argv[2]))

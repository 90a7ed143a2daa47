"""How far the canary's numbers drift with nothing but the arithmetic changed; run by hand.

    BENCHBENCH_DATA=… python tests/tools/canary_drift.py FOLDER

runs ``suites/canary.yaml`` as it is and again with other threads, kernels and vector instructions,
and prints the largest deviation of each, as ``benchbench compare`` takes it.
"""

import os
import subprocess
import sys
from pathlib import Path

from benchbench.gate import load_snapshot
from benchbench.gate.canary import deviations

SUITE = Path(__file__).parents[2] / "suites" / "canary.yaml"
SSE = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE"}
NUMPY = {
    "NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL "
    "AVX512_SPR AVX2 FMA3",
    "OPENBLAS_CORETYPE": "Nehalem",
}
WAYS: dict[str, tuple[dict[str, str], list[str]]] = {
    "as it is": ({}, []),
    "once more": ({}, []),
    "two threads": ({}, ["--jobs", "1"]),
    "AVX2 convolutions": ({"ONEDNN_MAX_CPU_ISA": "AVX2"}, []),
    "AVX2 everywhere": ({"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2",
                         "MKL_CBWR": "AVX2"}, []),
    "SSE": (SSE, []),
    "SSE, numpy too, data made anew": (SSE | NUMPY | {"BENCHBENCH_DATA": "data"}, []),
}  # fmt: skip


def main(folder: Path) -> None:
    """Run every way and print its largest deviations from the first."""
    runs = []
    for number, (way, (env, options)) in enumerate(WAYS.items()):
        results = folder / str(number)
        if "BENCHBENCH_DATA" in env:
            env = env | {"BENCHBENCH_DATA": str(folder / "data")}
        done = subprocess.run(
            [sys.executable, "-m", "benchbench", "run", str(SUITE), "--device", "cpu",
             "--results", str(results), *options],
            env=os.environ | env, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            print(f"{way}: failed: {done.stderr.splitlines()[-1]}")
        runs.append(load_snapshot(results / "canary"))
        found = deviations(runs[0].numbers, runs[-1].numbers)
        found["column"] = found["series"].str.rpartition(" ")[2]
        worst = found.groupby("column")["deviation"].max().nlargest(5)
        bytes_of = [set(run.cells["data_sha256"]) for run in (runs[0], runs[-1])]
        print(f"{way}: {worst.iloc[0]:.1e} at worst; data {len(set.union(*bytes_of))} kind")
        print("   " + ", ".join(f"{name} {value:.1e}" for name, value in worst.items()))
        print("   by variant", found.groupby("variant")["deviation"].max().map("{:.0e}".format)
              .to_dict(), flush=True)  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]))

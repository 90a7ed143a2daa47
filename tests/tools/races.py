"""Two commands on one folder at the same time, with random delays, and what came of them.

    python tests/tools/races.py --rounds 10           # of every pair of commands
    python tests/tools/races.py --race 'data and data' --rounds 100

After each round both commands run again, one after the other, and the folder must be the one that
they leave when they never meet.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
sys.path.insert(0, str(Path(__file__).parents[1]))

import helpers.warm  # noqa: E402, F401  before the copies
from helpers.grid_life import Life  # noqa: E402
from helpers.racing import RACES, Track  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="number of the first round")
    parser.add_argument("--race", choices=[race.name for race in RACES], action="append")
    options = parser.parse_args()
    races = tuple(race for race in RACES if race.name in (options.race or [r.name for r in RACES]))
    tried, faults = dict.fromkeys((race.name for race in races), 0), 0
    with tempfile.TemporaryDirectory(prefix="races-") as folder:
        life = Life(Path(folder).resolve())
        track = Track(life, races)
        try:
            for number in range(options.first, options.first + options.rounds):
                for race in races:
                    wrong = track.run(race, number)
                    tried[race.name] += 1
                    faults += bool(wrong)
                    for one in wrong:
                        print(
                            f"{race.name} {number}: {one}".replace(f"{life.root}/", ""), flush=True
                        )
        except KeyboardInterrupt:
            print("stopped")
    for name, count in tried.items():
        print(f"{name:<24}{count:>6} rounds")
    print(f"{sum(tried.values())} rounds, {faults} with a fault")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

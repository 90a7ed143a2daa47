"""How often a table of claims is wrong, on simulated pairs; run by hand, with PYTHONPATH=tests.

    python tests/tools/claim_rates.py                              three minutes on one core
    python tests/tools/claim_rates.py --tables 1000 --looks 500    an hour; what METHODS.md shows

For each null (laws in ``tests/helpers/claim_tables.py``), number of pairs an environment and place
of the truth (no effect; every effect exactly at delta): the share of tables in which any verdict
is false, in the family claims × environments (21 members), in that over the environments' mean (7)
and in either; last, of tables with six looks at 10 to 60 pairs. Then the coverage of the intervals,
and the power against the plan's 80 %. Each figure has its standard error, were the truth 5 %.
"""

import argparse
import math
import time

from helpers.claim_tables import ALPHA, CLAIMS, ENVS, NULLS, coverage, shown, simulate

from benchbench.analysis.power import smallest_effect

LOOKS = (10, 20, 30, 40, 50, 60)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tables", type=int, default=300, help="of a law, truth and pairs")
    parser.add_argument("--looks", type=int, default=40, help="tables with looks; 0: none")
    parser.add_argument("--intervals", type=int, default=20, help="tables for the coverage; 0: no")
    parser.add_argument("--power", type=int, default=300, help="tables for the power; 0: no")
    parser.add_argument("--law", action="append", choices=list(NULLS), help="these alone")
    asked = parser.parse_args()
    laws = {name: NULLS[name] for name in asked.law or NULLS}
    start = time.monotonic()
    errors = [100 * math.sqrt(ALPHA * (1 - ALPHA) / max(1, n)) for n in (asked.tables, asked.looks)]
    print("false verdicts, % of tables: by environment / mean / either; standard error at 5 %: "
          f"{errors[0]:.1f}, with looks {errors[1]:.1f}", flush=True)  # fmt: skip
    for name, null in laws.items():
        for truth in ("no effect", "at delta"):
            cells = []
            for pairs, looks in ((10, ()), (15, ()), (30, ()), (60, LOOKS)):
                if count := asked.looks if looks else asked.tables:
                    r = simulate(null, pairs, count, truth == "at delta", looks)
                    cells.append(f"{'looks' if looks else pairs}: {100 * r.environments:.1f} / "
                                 f"{100 * r.mean:.1f} / {100 * r.either:.1f}")  # fmt: skip
            print(f"{name}, {truth}: " + "; ".join(cells), flush=True)
    if asked.intervals:
        print("coverage, %: by environment (nominal 99.76), mean (nominal 99.29)", flush=True)
        for name, null in laws.items():
            found = [(n, coverage(null, n, asked.intervals)) for n in (10, 15, 30)]
            print(f"{name}: " + "; ".join(f"{n}: {100 * a:.2f}, {100 * b:.2f}"
                                          for n, (a, b) in found), flush=True)  # fmt: skip
    if asked.power:
        print("power, %, of the smallest effect that the plan shows with 80 %", flush=True)
        for members in (CLAIMS, CLAIMS * ENVS):
            powers = []
            for n in (10, 15, 30):
                effect = smallest_effect(n, ALPHA / members)
                powers.append(f"{n}: {100 * shown(n, members, effect, asked.power):.1f}")
            print(f"family of {members}: " + "; ".join(powers), flush=True)
    print(f"{time.process_time():.0f} s of one core, {time.monotonic() - start:.0f} s in all")


if __name__ == "__main__":
    main()

"""How often a table of claims is wrong, on simulated pairs; run by hand.

    python tests/tools/claim_rates.py N     of N tables a setting

For each null (laws in ``tests/helpers/claim_tables.py``), number of pairs an environment and place
of the truth (no effect; every effect exactly at delta): the share of tables in which any verdict
is false, in the family claims × environments (21 members), in that over the environments' mean (7)
and in either, the last of half as many tables with six looks at 10 to 60 pairs; then the coverage
of the intervals, and the power against the plan's 80 %.
"""

import sys

from helpers.claim_tables import ALPHA, CLAIMS, ENVS, NULLS, coverage, shown, simulate

from benchbench.analysis.power import smallest_effect

LOOKS = (10, 20, 30, 40, 50, 60)


def main(tables: int) -> None:
    print("false verdicts, % of tables: by environment / mean / either", flush=True)
    for name, null in NULLS.items():
        for truth in ("no effect", "at delta"):
            cells = []
            for pairs, looks in ((10, ()), (15, ()), (30, ()), (60, LOOKS)):
                count = tables // 2 if looks else tables
                r = simulate(null, pairs, count, truth == "at delta", looks)
                cells.append(f"{'looks' if looks else pairs}: {100 * r.environments:.1f} / "
                             f"{100 * r.mean:.1f} / {100 * r.either:.1f}")  # fmt: skip
            print(f"{name}, {truth}: " + "; ".join(cells), flush=True)
    print("coverage, %: by environment (nominal 99.76), mean (nominal 99.29)", flush=True)
    for name, null in NULLS.items():
        found = [(n, coverage(null, n, max(20, tables // 10))) for n in (10, 15, 30)]
        print(f"{name}: " + "; ".join(f"{n}: {100 * a:.2f}, {100 * b:.2f}"
                                      for n, (a, b) in found), flush=True)  # fmt: skip
    print("power, %, of the smallest effect that the plan promises to show with 80 %", flush=True)
    for members in (CLAIMS, CLAIMS * ENVS):
        found = []
        for n in (10, 15, 30):
            effect = smallest_effect(n, ALPHA / members)
            found.append(f"{n}: {100 * shown(n, members, effect, tables):.1f}")
        print(f"family of {members}: " + "; ".join(found), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))

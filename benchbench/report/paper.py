"""What a paper takes from a report: LaTeX tables, and a script that draws its figures again."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from benchbench.analysis.brief import ALL
from benchbench.analysis.pairing import Study
from benchbench.analysis.secondary_measures import final_scores
from benchbench.core.files import write_text
from benchbench.core.text import mean_and_interval, number
from benchbench.report.verdict_sections import of_contrast, values

SCRIPT = "make.py"


def write_paper(folder: Path, study: Study, claims: pd.DataFrame) -> None:
    """Write ``tables/*.tex`` (booktabs) and ``figures/make.py``, unless that has been changed."""
    tables = {"scores": _scores(study)}
    for index, pairing in enumerate(study.pairings):
        end = f"-{index + 1}" if index else ""
        mine = of_contrast(claims, pairing.contrast)
        tables[f"claims{end}"] = _verdicts(mine, False)
        tables[f"environments{end}"] = _verdicts(mine, True)
    for name, table in tables.items():
        if len(table):
            text = table.to_latex(index=False, escape=True, column_format="l" * table.shape[1])
            for sign, command in _SIGNS.items():
                text = text.replace(sign, command)
            write_text(folder / "tables" / f"{name}.tex", text)
    script = folder / "figures" / SCRIPT
    if not script.exists():
        write_text(script, MAKE)


_SIGNS = {"−": "$-$", "×": r"$\times$", "²": "$^2$", "σ\\_G": r"$\sigma_G$", "∞": r"$\infty$",
          "–": "--", "δ": r"$\delta$"}  # fmt: skip
"""What pdfLaTeX does not take as a character."""


def _verdicts(claims: pd.DataFrame, alone: bool) -> pd.DataFrame:
    """Both sides, the difference and the verdict, over all or by environment."""
    rows = []
    for _, part in claims[(claims["env"] != ALL) == alone].iterrows():
        against, of, effect = values(part)
        rows.append({
            **({"environment": part["env"]} if alone else {}),
            "measure": part["measure"].partition(",")[0], part["against"]: against,
            part["of"]: of, "difference": effect, "p (adjusted)": number(part["p_holm"]),
            "verdict": part["verdict"],
        })  # fmt: skip
    return pd.DataFrame(rows)


def _scores(study: Study) -> pd.DataFrame:
    """Final scores: a row a variant, a column an environment."""
    scores = final_scores(study)
    if scores.empty:
        return pd.DataFrame()
    said = scores.assign(
        text=[mean_and_interval(m, lo, hi, "points")
              for m, lo, hi in zip(scores["mean"], scores["lo"], scores["hi"], strict=True)]
    )  # fmt: skip
    table = said.pivot(index="variant", columns="env", values="text")
    order = [list(dict.fromkeys(scores[name])) for name in ("variant", "env")]
    table = table.reindex(index=order[0], columns=order[1]).fillna(number(float("nan")))
    return table.rename_axis(None, axis=1).reset_index()


MAKE = '''\
"""Draws the figures of this report again from its tables: python make.py [NAME]...

Change what you like here; a later report leaves this file alone.
"""

import sys
from pathlib import Path

import benchbench
from benchbench.report.drawing import figures
from benchbench.report.style import style

RESULTS = Path(__file__).resolve().parents[1]
FORMAT = "pdf"  # or svg, png

results = benchbench.load(RESULTS)
# import dataclasses; results = dataclasses.replace(results, evaluations=…): fewer variants

for name, figure in figures(results):
    if sys.argv[1:] and name not in sys.argv[1:]:
        continue
    # figure.set_size_inches(3.3, 2.2); figure.axes[0].set_title("")
    with style():
        figure.savefig(Path(__file__).with_name(f"{name}.{FORMAT}"))
    print(f"{name}.{FORMAT}")
'''
"""The script, in the words of :mod:`benchbench.report.drawing`."""

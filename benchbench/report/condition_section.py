"""The report's answer to whether the answer depends on the condition: a figure and a table."""

from __future__ import annotations

import math

import pandas as pd
from matplotlib.figure import Figure

from benchbench.analysis.conditions import dependence, effects, has_conditions
from benchbench.analysis.pairing import Study
from benchbench.core.text import NONE, difference, number
from benchbench.report.document import Block, Paragraph, Table, cell, marked
from benchbench.report.language import Words
from benchbench.report.layout import grid, short, tall
from benchbench.report.style import style
from benchbench.suite.model import Contrast

TITLE = "Does it depend on the condition?"
CAPTION = (
    "The difference of each judged measure in every environment under every condition, with the "
    "interval at the level of its family: all of them hold together at 95 %. Grey band: within "
    "delta of zero."
)


def condition_figures(study: Study, claims: pd.DataFrame) -> list[tuple[str, Figure]]:
    """A figure a contrast, with the contrast's name; none where no environment stands twice."""
    if not has_conditions(study):
        return []
    frame, found = effects(study, claims), []
    for pairing in study.pairings:
        contrast = pairing.contrast
        mine = frame[(frame["of"] == contrast.of) & (frame["against"] == contrast.against)]
        if mine["difference"].notna().any():
            found.append((contrast.name, _figure(mine)))
    return found


def _figure(frame: pd.DataFrame) -> Figure:
    """A panel a claim: conditions down, the difference across."""
    claims = list(dict.fromkeys(frame["claim"]))
    strata = frame[["env", "name", "condition"]].drop_duplicates()
    several = strata["name"].nunique() > 1
    with style():
        rows = math.ceil(len(claims) / 4)
        heights = {env: place for place, env in enumerate(strata["env"])}
        names = [
            f"{short(one['name'])}, {one['condition']}" if several else one["condition"]
            for _, one in strata.iterrows()
        ]
        height = 0.75 + tall(names, 0.14) * len(strata)
        figure, axes = grid(rows, min(4, len(claims)), height, share_y=True)
        for ax, claim in zip(axes, claims, strict=False):
            mine = frame[frame["claim"] == claim]
            delta = float(mine["delta"].iloc[0])
            ax.axvspan(-delta, delta, color="#dddddd", lw=0, zorder=0)
            ax.axvline(0, color="#444444", lw=0.6)
            for _, row in mine[mine["difference"].notna()].iterrows():
                height = heights[row["env"]]
                ends = [row["lo"], row["hi"]]
                if all(math.isfinite(end) for end in ends):
                    ax.plot(ends, [height, height], color="black", lw=1.3)
                ax.plot(row["difference"], height, "D", ms=3.5, color="black")
            unit = "ln ratio" if mine["scale"].iloc[0] == "ln ratio" else mine["unit"].iloc[0]
            ax.set_title(short(mine["measure"].iloc[0].partition(",")[0], 26))
            ax.set_xlabel(unit)
            ax.grid(axis="y", visible=False)
        for ax in axes[len(claims) :]:
            ax.set_visible(False)
        axes[0].set_yticks(range(len(names)), names)
        axes[0].set_ylim(len(names) - 0.5, -0.5)
    return figure


def condition_section(
    study: Study, claims: pd.DataFrame, contrast: Contrast, words: Words
) -> list[Block]:
    """Each claim's difference by condition, and whether it is another under another condition."""
    if not has_conditions(study):
        return []
    frame, tests = (
        table[(table["of"] == contrast.of) & (table["against"] == contrast.against)]
        for table in (effects(study, claims), dependence(study))
    )
    labels = list(dict.fromkeys(frame["env"]))
    rows = []
    for _, test in tests.iterrows():
        mine = frame[frame["claim"] == test["claim"]].set_index("env")
        over = [e for e in labels if test["over"] in ("all", mine.loc[e, "name"])]
        shown = [
            cell(difference(*mine.loc[e, ["difference", "lo", "hi", "unit", "scale"]]))
            if e in over
            else cell(NONE)
            for e in labels
        ]
        word = "not known"
        if math.isfinite(test["p_holm"]):
            word = "it depends" if test["p_holm"] <= 0.05 else "no sign of it"
        p = cell(f"{words(word)} (p {number(test['p_holm'])})", test["p_holm"])
        rows.append((cell(words.measure(test["measure"])), *shown, p))
    said = words(
        "A seed draws the same weights, batches and episodes under every condition, so that its "
        "differences are compared within the seed: the p of the largest departure from the mean "
        "over the conditions, signs flipped by seed, adjusted over this table (Holm). The mean "
        "over all counts a seed once, whatever the number of its conditions."
    )
    names = (words("measure"), *labels, words("does it depend?"))
    title = words(TITLE)
    return [Paragraph(marked(said)), Table(title, names, tuple(rows))]

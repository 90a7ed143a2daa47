"""The brief's table as data: its seven rows, in its words, and what each is measured by here.

The same measures compare any two variants; only ``after`` against ``before`` has expectations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

BEFORE, AFTER = "before", "after"
"""The two variants that the brief compares."""


@dataclass(frozen=True)
class Said:
    """The brief's own word, and what it says in English."""

    zh: str
    en: str

    @property
    def both(self) -> str:
        """The two beside each other."""
        return f"{self.zh} {self.en}"


@dataclass(frozen=True)
class Aspect:
    """One row of the brief's table, in its words."""

    row: int
    name: Said
    before: Said
    after: Said
    impact: Said


ASPECTS = (
    Aspect(1, Said("梯度流向", "Gradient flow"),
           Said("编码器→Critic梯度丢失", "critic's gradient lost"),
           Said("编码器←Critic梯度应用", "critic's gradient applied"), Said("关键", "critical")),
    Aspect(2, Said("编码器学习", "What the encoder learns"),
           Said("仅VAE重建任务", "only the VAE's task"),
           Said("价值相关特征", "features of value"), Said("重要", "important")),
    Aspect(3, Said("特征质量", "Feature quality"),
           Said("差", "poor"), Said("好", "good"), Said("高", "high")),
    Aspect(4, Said("Q值预测", "Q prediction"),
           Said("不准", "inaccurate"), Said("准确", "accurate"), Said("高", "high")),
    Aspect(5, Said("收敛速度", "Convergence speed"),
           Said("慢", "slow"), Said("快", "fast"), Said("中等", "medium")),
    Aspect(6, Said("最终性能", "Final performance"),
           Said("差", "poor"), Said("好", "good"), Said("高", "high")),
    Aspect(7, Said("稳定性", "Stability"),
           Said("低", "low"), Said("高", "high"), Said("高", "high")),
)  # fmt: skip
"""The seven rows of the brief's table, in its order."""

BESIDE = (Aspect(8, Said("稳健性", "Robustness"), Said("", ""), Said("", ""), Said("", "")),)
"""Rows that the brief does not have; in suites that ask for them, and without an expectation."""

ROWS = (*ASPECTS, *BESIDE)

Scale = Literal["difference", "ln ratio"]


@dataclass(frozen=True)
class Measure:
    """What a part of a claim is measured by: a column of ``measure_cells``, under its true name.

    ``direction`` is +1 where the brief claims more in ``after``, -1 where it claims less. ``delta``
    names a field of the suite's ``deltas``. Measures on the ln-ratio scale have geometric means.
    ``needs`` says what a measure that has a fall-back cannot do without. ``most`` names the column
    of the most that could be reached, where there is one. ``rare`` marks measures of the score, on
    which a seed in ten may fail altogether.
    """

    row: int
    column: str
    name: str
    unit: str
    direction: Literal[1, -1]
    delta: str
    scale: Scale = "difference"
    needs: str = ""
    most: str = ""
    rare: bool = False


ROOM = 0.1
"""R² by which the oracle has to exceed the untrained encoder for a gain between the two."""

PRIMARY: dict[str, tuple[Measure, ...]] = {
    "return": (Measure(2, "return_r2", "R² of the return-to-go probe, last evaluation", "R²", 1,
                       "r2"),),
    "action": (Measure(2, "action_r2", "R² of the dataset-action probe, last evaluation", "R²", -1,
                       "r2"),),
    "state": (Measure(3, "state_gain", "state-probe gain from untrained (0) to oracle (1)", "gain",
                      1, "r2", needs="an oracle at least 0.1 R² above the untrained encoder"),
              Measure(3, "state_r2", "R² of the state probe, last evaluation", "R²", 1, "r2",
                      most="oracle_state_r2")),
    "q": (Measure(4, "q_error", "RMS of Q − own policy's return, over σ_G, last roll-outs", "σ_G",
                  -1, "q_error", "ln ratio", needs="roll-outs of the own policy"),
          Measure(4, "q_behaviour_error", "RMS of Q − behaviour return, over σ_G, last evaluation",
                  "σ_G", -1, "q_error", "ln ratio")),
    "area": (Measure(5, "auc", "normalised area under the score curve", "points", 1, "auc",
                     rare=True),),
    "score": (Measure(6, "final_score", "score, mean over the last tenth of training", "points", 1,
                      "score", rare=True),),
    "stability": (Measure(7, "change_variance", "variance of late score changes, noise removed",
                          "points²", -1, "wobble", rare=True),),
    "robustness": (Measure(8, "unseen_drop", "score lost under unseen distractions, mean over the "
                           "last tenth of training", "points", -1, "score", rare=True),),
}  # fmt: skip
"""The claims that a test decides, by the names that a suite knows them by
(:data:`benchbench.suite.model.CLAIMS`), each with what stands in for its measure.

The first measure of a claim is the specification's. The next takes its place, under its own name
and for the whole table, where a pair that could be compared by it lacks the first.
"""

COLUMNS = (
    "of", "against", "env", "row", "aspect", "aspect_en", "impact", "claim", "measure", "unit",
    "scale", "claimed", "n_pairs", "against_mean", "against_lo", "against_hi", "of_mean", "of_lo",
    "of_hi", "difference", "lo", "hi", "level", "interval", "p", "p_holm", "f", "p_f",
    "general_lo", "general_hi", "delta", "verdict", "label", "spread", "smallest",
    "pairs_for_delta", "seeds",
    "note",
)  # fmt: skip
"""Columns of the claims' frame; see :func:`benchbench.analysis.claims.judge`."""

ALL = "all"
"""In the column ``env``: the mean over the suite's environments, each counting alike."""


def aspect_columns(row: int) -> dict[str, object]:
    """The columns that say which row of the brief a claim part belongs to."""
    aspect = ROWS[row - 1]
    return {
        "row": row,
        "aspect": aspect.name.zh,
        "aspect_en": aspect.name.en,
        "impact": aspect.impact.both,
    }

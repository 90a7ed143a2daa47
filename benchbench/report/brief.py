"""The brief's table as data: its seven rows, in its words, and what each is measured by here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

BEFORE, AFTER = "before", "after"
"""The two variants that are compared."""


@dataclass(frozen=True)
class Aspect:
    """One row of the brief's table, in its words."""

    row: int
    name: str
    name_en: str
    before: str
    after: str
    impact: str


ASPECTS = (
    Aspect(1, "梯度流向", "Gradient flow", "编码器→Critic梯度丢失 critic's gradient lost",
           "编码器←Critic梯度应用 critic's gradient applied", "关键 critical"),
    Aspect(2, "编码器学习", "What the encoder learns", "仅VAE重建任务 only the VAE's task",
           "价值相关特征 features of value", "重要 important"),
    Aspect(3, "特征质量", "Feature quality", "差 poor", "好 good", "高 high"),
    Aspect(4, "Q值预测", "Q prediction", "不准 inaccurate", "准确 accurate", "高 high"),
    Aspect(5, "收敛速度", "Convergence speed", "慢 slow", "快 fast", "中等 medium"),
    Aspect(6, "最终性能", "Final performance", "差 poor", "好 good", "高 high"),
    Aspect(7, "稳定性", "Stability", "低 low", "高 high", "高 high"),
)  # fmt: skip
"""The seven rows of the brief's table, in its order."""

Scale = Literal["difference", "ln ratio"]


@dataclass(frozen=True)
class Measure:
    """What a part of a claim is measured by: a column of ``measure_cells``, under its true name.

    ``direction`` is +1 where the brief claims more in ``after``, -1 where it claims less. ``delta``
    names a field of the suite's ``deltas``. Measures on the ln-ratio scale have geometric means.
    """

    row: int
    column: str
    name: str
    unit: str
    direction: Literal[1, -1]
    delta: str
    scale: Scale = "difference"


PRIMARY = (
    Measure(2, "return_r2", "R² of the return-to-go probe, last evaluation", "R²", 1, "r2"),
    Measure(2, "action_r2", "R² of the dataset-action probe, last evaluation", "R²", -1, "r2"),
    Measure(3, "state_r2", "R² of the state probe, last evaluation", "R²", 1, "r2"),
    Measure(4, "q_behaviour_error", "RMS of Q − behaviour return, over σ_G, last evaluation",
            "σ_G", -1, "q_error", "ln ratio"),
    Measure(5, "auc", "normalised area under the score curve", "points", 1, "auc"),
    Measure(6, "final_score", "score, mean of the last 5 evaluations", "points", 1, "score"),
    Measure(7, "oscillation", "interquartile range of late score changes, noise removed",
            "points", -1, "stability"),
)  # fmt: skip
"""The family: every part of a claim that a test decides."""

COLUMNS = (
    "row", "aspect", "aspect_en", "impact", "measure", "unit", "scale", "claimed", "n_pairs",
    "before_mean", "before_lo", "before_hi", "after_mean", "after_lo", "after_hi",
    "difference", "lo", "hi", "level", "p", "p_holm", "delta", "verdict", "label", "note",
)  # fmt: skip
"""Columns of the claims' frame; ``claimed`` is 'higher' or 'lower' in ``after``."""


def aspect_columns(row: int) -> dict[str, object]:
    """The columns that say which row of the brief a claim part belongs to."""
    aspect = ASPECTS[row - 1]
    return {
        "row": row,
        "aspect": aspect.name,
        "aspect_en": aspect.name_en,
        "impact": aspect.impact,
    }

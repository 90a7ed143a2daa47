"""Synthetic nights for the gate: snapshots of known effects, without a runner."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import pandas as pd

from benchbench.gate.snapshot import SERIES, Snapshot, _no_numbers
from benchbench.suite.model import Suite

ENVS = ("bullet-maze2d-open-v0", "bullet-maze2d-umaze-v0")
VARIANTS = ("before", "after", "joint-two")
LEVEL = {"final_score": 80.0, "q_error": 0.9, "td_error": 0.2, "state_r2": 0.6, "return_r2": 0.4,
         "action_r2": 0.2, "update_ms": 12.0, "peak_memory_mb": 1600.0}  # fmt: skip
SPREAD = {"final_score": 30.0, "q_error": 0.13, "td_error": 0.2, "state_r2": 0.03,
          "return_r2": 0.12, "action_r2": 0.04, "update_ms": 0.03,
          "peak_memory_mb": 0.01}  # fmt: skip
"""Between seeds: points or R², and in logarithms for the ratios. Of 10 quickstart cells each,
`after` and `before` had 25 and 36 points, TD errors 0.24 and 0.17, errors against the behaviour's
returns 0.15 and 0.11, R² 0.03 and 0.03 (state), 0.13 and 0.12 (return), 0.03 and 0.04 (action)."""


def make_night(
    rng: np.random.Generator,
    *,
    seeds: int = 10,
    envs: tuple[str, ...] = ENVS,
    variants: tuple[str, ...] = VARIANTS,
    shift: Mapping[str, float] | None = None,
    night: float = 0.04,
    source: str = "night",
    **provenance: object,
) -> Snapshot:
    """A night in which each value is its level, plus noise of its own, plus ``shift``.

    ``shift`` is on the series' scale (ln for ratios). ``night`` is the spread, in logarithms, of
    the factor that a whole night's times share. Nothing is shared between two nights' seeds, as
    between runs of other seeds or on a GPU: the widest that A/A can be.
    """
    suite = Suite.model_validate(
        {"name": "synthetic", "seeds": seeds, "variants": list(variants),
         "envs": [{"id": env} for env in envs]}
    )  # fmt: skip
    mood = night * rng.normal()
    rows = []
    for env in envs:
        for variant in variants:
            for seed in range(seeds):
                row: dict[str, object] = {
                    "key": f"{env} {variant} {seed}", "env": env, "variant": variant, "seed": seed,
                    "status": "done", "error": None, "device": "cuda", "device_name": "a GPU",
                    "threads": 4, "started_at": "2026-01-01T00:00:00+00:00", "data_key": "abc",
                    "data_sha256": "f" * 64, "versions": json.dumps({"torch": "2.9.0"}),
                    "git_commit": "0" * 40, "git_dirty": False, **provenance,
                }  # fmt: skip
                for series in SERIES:
                    by = SPREAD[series.name] * rng.normal() + (shift or {}).get(series.name, 0.0)
                    if series.name == "update_ms":
                        by += mood
                    level = LEVEL[series.name]
                    ratio = series.scale == "ln ratio"
                    row[series.name] = level * float(np.exp(by)) if ratio else level + by
                rows.append(row)
    return Snapshot(source, suite, pd.DataFrame(rows), _no_numbers())

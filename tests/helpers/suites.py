"""Suites and cells that several rooms test with."""

import copy

from benchbench.suite.grid import expand
from benchbench.suite.model import Suite

TINY = {
    "name": "tiny",
    "seeds": 1,
    "variants": ["before", "after", "vae-only"],
    "envs": [
        {
            "id": "maze2d-open-v0",
            "data": {"source": "waypoint", "transitions": 1500},
            "proprio": ["velocity"],
        }
    ],
    "pixels": {"size": 16, "stack": 2},
    "agent": {"feature_dim": 8, "hidden": [16, 16], "discount": 0.9},
    "train": {"updates": 12, "batch_size": 16, "n_step": 2},
    "evaluate": {"every": 5, "episodes": 1},
    "keep": {"films": False},
    "diagnose": {
        "signals_every": 4,
        "holdout": 0.3,
        "probe_frames": 200,
        "q_pairs": 0,
        "oracle_updates": 0,
    },
}
"""A suite whose cells take about a second each. Its 1,500 rows are ten episodes."""

TIMES = [
    "total_seconds", "train_seconds", "evaluate_seconds", "diagnose_seconds", "update_ms",
    "started_at", "peak_memory_mb", "git_commit", "git_dirty",
]  # fmt: skip
"""Columns in which equal runs differ: times, and the checkout's commit while one works on it."""


def tiny_cell(variant="after", seed=0, **changes):
    """A cell of :data:`TINY`: ``env=`` changes its environment, others the part of their name."""
    told = copy.deepcopy(TINY) | {"variants": [variant], "seeds": [seed]}
    for part, values in changes.items():
        if part == "env":
            told["envs"][0] |= values
        else:
            told[part] = told.get(part, {}) | values if isinstance(values, dict) else values
    return expand(Suite.model_validate(told))[0]

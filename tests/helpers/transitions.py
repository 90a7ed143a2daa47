"""Data sets of a few rows, for what is worked out by hand."""

import numpy as np

from benchbench.data.sampler import Sampler
from benchbench.data.store import Dataset


def dataset(rewards, terminals=(), timeouts=(), seed=0, continuous=False):
    """A small set whose frame i is filled with the number i."""
    count = len(rewards)
    rng = np.random.default_rng(seed)
    marks = {}
    for name, rows in (("terminals", terminals), ("timeouts", timeouts)):
        marks[name] = np.zeros(count, bool)
        marks[name][list(rows)] = True
    numbers = np.arange(count, dtype=np.uint8)[:, None, None, None]
    return Dataset(
        frames=np.broadcast_to(numbers, (count, 8, 8, 3)).copy(),
        states=rng.normal(size=(count, 4)).astype(np.float32),
        actions=rng.uniform(-1, 1, (count, 2)).astype(np.float32),
        rewards=np.asarray(rewards, dtype=np.float32),
        qpos=np.zeros((count, 2), np.float32),
        qvel=np.zeros((count, 2), np.float32),
        state_names=("x", "y", "vx", "vy"),
        card={"sha256": "0", "continuous": continuous},
        **marks,
    )


def sampler(data, rows=None, **settings):
    defaults = {
        "observation": "pixels", "proprio": (2, 3), "batch_size": 8, "stack": 3, "spacing": 1,
        "n_step": 1, "discount": 0.5, "seed": 0,
    }  # fmt: skip
    rows = np.arange(len(data)) if rows is None else rows
    return Sampler(data, rows, **(defaults | settings))


REWARDS = [1, 2, 3, 4, 5, 6, 7, 8, 10, 9, 8, 7]


SMALL = dataset(REWARDS, terminals=[8], timeouts=[4])

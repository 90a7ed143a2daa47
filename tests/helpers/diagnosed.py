"""Cells whose diagnostics are tested."""

import copy

import torch
from helpers.suites import TINY

from benchbench.suite.grid import expand
from benchbench.suite.model import Suite

ON = {"q_pairs": 5, "q_horizon": 30, "q_every": 2, "oracle_updates": 4}


def cell(variant="after", seed=0, **changes):
    told = copy.deepcopy(TINY) | {"variants": [variant], "seeds": [seed]}
    for part, values in changes.items():
        if part == "env":
            told["envs"][0] |= values
        else:
            told[part] = told.get(part, {}) | values if isinstance(values, dict) else values
    return expand(Suite.model_validate(told))[0]


def flat(tensors):
    return torch.cat([t.detach().flatten() for t in tensors]).double()

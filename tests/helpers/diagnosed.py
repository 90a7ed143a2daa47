"""Settings and tensors of tests of the diagnostics."""

import torch

ON = {"q_pairs": 5, "q_horizon": 30, "q_every": 2, "oracle_updates": 4}


def flat(tensors):
    return torch.cat([t.detach().flatten() for t in tensors]).double()

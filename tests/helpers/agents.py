"""Small agents, their batches, and how their weights are compared."""

import torch
from helpers.brief_loops import LR

from benchbench.agent.lapo import LAPO, AgentSpec
from benchbench.data.batch import Batch
from benchbench.routing import REGISTRY, Routing
from benchbench.suite.model import AgentSettings

CPU = torch.device("cpu")
B, SIZE = 8, 16


SETTINGS = AgentSettings(
    feature_dim=6, hidden=(16, 16, 16), encoder_lr=LR["encoder"], critic_lr=LR["critic"],
    vae_lr=LR["vae"], actor_lr=LR["actor"], doubleq_min=0.7, kl_beta=0.3, tau=0.05,
)  # fmt: skip


SPEC = AgentSpec(
    action_dim=2, channels=3, size=SIZE, proprio_dim=2, state_dim=0, min_value=-1.0, max_value=2.0
)


def stream(purpose):
    return sum(purpose.encode())


def make_agent(variant="after", spec=SPEC, settings=SETTINGS):
    routing = variant if isinstance(variant, Routing) else REGISTRY[variant]
    return LAPO(spec, settings, routing, stream, CPU)


def make_batches(count, seed=0, state_dim=0):
    draw = torch.Generator().manual_seed(seed)

    def observation():
        if state_dim:
            return torch.randn(B, state_dim, generator=draw)
        frames = torch.randint(0, 256, (B, SIZE, SIZE, 3), generator=draw, dtype=torch.uint8)
        return frames.permute(0, 3, 1, 2)

    proprio_dim = 0 if state_dim else 2
    return [
        Batch(
            obs=observation(),
            proprio_BP=torch.randn(B, proprio_dim, generator=draw),
            action_BA=torch.randn(B, 2, generator=draw),
            reward_B=torch.rand(B, generator=draw),
            discount_B=0.97 * (torch.rand(B, generator=draw) > 0.2),
            next_obs=observation(),
            next_proprio_BP=torch.randn(B, proprio_dim, generator=draw),
        )
        for _ in range(count)
    ]


def noise_stream(purpose, width=4):
    draw = torch.Generator().manual_seed(stream(purpose))
    while True:
        yield torch.randn((B, width), generator=draw)


def weights(modules):
    return {f"{n}.{k}": v.clone() for n, m in modules.items() for k, v in m.state_dict().items()}


def all_weights(agent):
    targets = {f"{name}_target": m for name, m in agent.target_modules().items()}
    return weights(agent.modules() | targets)


def assert_equal(one, other):
    assert one.keys() == other.keys()
    different = [name for name in one if not torch.equal(one[name], other[name])]
    assert different == []

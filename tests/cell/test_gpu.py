"""What only a CUDA device can show: the same code there gives the same numbers."""

import pytest
import torch
from helpers.agents import SETTINGS, SPEC, make_batches, stream
from helpers.ray_nodes import SMALL
from helpers.transitions import sampler

from benchbench.agent.lapo import LAPO
from benchbench.cell.devices import Device, choose_devices
from benchbench.data.batch import Batch
from benchbench.envs.distraction import Distraction, Layer
from benchbench.routing import REGISTRY
from benchbench.suite.pixels import DistractSettings

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]


def to(batch, device):
    return Batch(**{name: value.to(device) for name, value in vars(batch).items()})


@pytest.mark.parametrize("variant", REGISTRY)
def test_losses_agree_with_the_cpus(variant):
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    agents = [LAPO(SPEC, SETTINGS, REGISTRY[variant], stream, d) for d in (cpu, cuda)]
    batch = make_batches(1)[0]
    losses = []
    for agent, device in zip(agents, (cpu, cuda), strict=True):
        mine = to(batch, device)
        fixed = agent.fix(mine)
        features = agent.features(fixed.obs, mine.proprio_BP)
        zero = torch.zeros(len(batch.reward_B), device=device)
        known = type(fixed)(**(vars(fixed) | {"v_target_B": zero}))  # the noise differs
        losses.append(agent.critic_loss(features, mine, known)[0].item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_training_goes_on_and_memory_is_measured():
    device = choose_devices("cuda:0")[0]
    agent = LAPO(SPEC, SETTINGS, REGISTRY["before"], stream, torch.device("cuda"))
    for batch in make_batches(5):
        info = agent.update(to(batch, "cuda"))
    device.synchronize()
    assert all(torch.isfinite(value) for value in info.values())
    assert Device("cuda", 0).peak_memory_mb() > 0


@pytest.mark.parametrize("variant", REGISTRY)
def test_an_update_never_waits_for_the_gpu(variant):
    agent = LAPO(SPEC, SETTINGS, REGISTRY[variant], stream, torch.device("cuda"))
    first, second = (to(batch, "cuda") for batch in make_batches(2))
    agent.update(first)
    torch.cuda.set_sync_debug_mode("error")
    try:
        agent.update(second)
    finally:
        torch.cuda.set_sync_debug_mode("default")


EXACT = {"tint": {"strength": 0.4}, "background": {"strength": 1}, "noise": {"strength": 0.1}}
"""Distractions that are integers throughout."""


@pytest.mark.parametrize("distract", [{}, EXACT])
@pytest.mark.parametrize("free", [0, 2**40])
def test_batches_are_the_cpus_wherever_the_frames_lie(free, distract, monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 2**40))
    settings = DistractSettings.model_validate(distract)
    layers = [Layer(Distraction(settings, 8, "light", d), 3) for d in ("cpu", "cuda")]
    here, there = sampler(SMALL, layer=layers[0]), sampler(SMALL, device="cuda", layer=layers[1])
    for _ in range(3):
        mine, theirs = here.sample(), there.sample()
        for name, value in vars(mine).items():
            assert torch.equal(value, vars(theirs)[name].cpu()), name

"""Agents that are trained as one program: do they end where separate ones do?"""

import copy
from dataclasses import replace

import pytest
import torch
from helpers.agents import CPU, SETTINGS, SPEC, all_weights, make_batches

from benchbench.agent import AGENTS
from benchbench.agent.stacked import MappedGroupNorm, Stack, stacked
from benchbench.routing import REGISTRY
from benchbench.suite.agent import refusal

CASES = [
    (algorithm, variant)
    for algorithm in AGENTS
    for variant, routing in REGISTRY.items()
    if refusal(algorithm, routing) is None
]
N, UPDATES = 2, 3


@pytest.fixture(autouse=True)
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def make(algorithm, variant, k, **changes):
    """Agents of other seeds, whose data has other bounds and moments."""
    spec = replace(
        SPEC,
        shift_pad=2,
        min_value=-0.1 * k,
        max_value=1.0 + k,
        mean_image=torch.full((3, SPEC.size, SPEC.size), 0.3 + 0.1 * k),
        action_mean=torch.tensor([0.1, -0.2]) * k,
        action_std=torch.tensor([0.5, 0.3]) + 0.1 * k,
    )
    settings = SETTINGS.model_copy(update={"algorithm": algorithm, "noise_updates": 8} | changes)
    stream = lambda purpose: sum(purpose.encode()) + 100 * k  # noqa: E731
    return AGENTS[algorithm](spec, settings, REGISTRY[variant], stream, CPU)


def batches(k, count=UPDATES):
    floats = lambda value: value.double() if value.is_floating_point() else value  # noqa: E731
    return [
        replace(batch, **{name: floats(value) for name, value in vars(batch).items()})
        for batch in make_batches(count, seed=k)
    ]


def assert_close(one, other):
    mine, theirs = all_weights(one), all_weights(other)
    assert mine.keys() == theirs.keys()
    for name, weight in mine.items():
        torch.testing.assert_close(weight, theirs[name], rtol=1e-9, atol=1e-11, msg=name)


@pytest.mark.parametrize(("algorithm", "variant"), CASES)
def test_a_stack_trains_as_separate_agents(algorithm, variant):
    alone = [make(algorithm, variant, k) for k in range(N)]
    together = [make(algorithm, variant, k) for k in range(N)]
    start = copy.deepcopy([all_weights(agent) for agent in together])
    stack = Stack(together)
    drawn = [batches(k) for k in range(N)]
    for update in range(UPDATES):
        theirs = [agent.update(drawn[k][update]) for k, agent in enumerate(alone)]
        mine = stack.update([mine[update] for mine in drawn])
        for one, other in zip(mine, theirs, strict=True):
            assert one.keys() == other.keys()
            for name, loss in one.items():
                torch.testing.assert_close(loss, other[name], rtol=1e-9, atol=1e-11)
    for one, other, before in zip(together, alone, start, strict=True):
        assert_close(one, other)
        moved = [k for k, weight in all_weights(one).items() if not torch.equal(weight, before[k])]
        assert moved


@pytest.mark.parametrize(("algorithm", "variant"), [("lapo", "leak-stale"), ("drq-bc", "after")])
def test_agents_leave_and_join_between_updates_and_keep_their_states(algorithm, variant):
    """A gradient that outlives its update, and noise that shrinks with their number."""
    alone, together = ([make(algorithm, variant, k) for k in range(N)] for _ in range(2))
    drawn = [batches(k) for k in range(N)]
    stack = Stack(together)

    def updates(agents, update):
        return [agent.update(mine[update]) for agent, mine in zip(agents, drawn, strict=True)]

    stack.update([mine[0] for mine in drawn])
    stack.separate()
    kept = [copy.deepcopy(agent.state()) for agent in together]
    updates(together, 1)
    stack.join()
    stack.update([mine[2] for mine in drawn])
    for update in range(UPDATES):
        updates(alone, update)
    for one, other in zip(together, alone, strict=True):
        assert_close(one, other)

    resumed = [make(algorithm, variant, k) for k in range(N)]
    for agent, state in zip(resumed, kept, strict=True):
        agent.restore(state)
    anew = Stack(resumed)
    for update in (1, 2):
        anew.update([mine[update] for mine in drawn])
    for one, other in zip(resumed, alone, strict=True):
        assert_close(one, other)


def test_another_encoder_stacks():
    alone, together = ([make("lapo", "after", k, encoder="drqv2") for k in range(N)] for _ in "ab")
    drawn = [batches(k, 1)[0] for k in range(N)]
    Stack(together).update(drawn)
    for one, other, batch in zip(together, alone, drawn, strict=True):
        other.update(batch)
        assert_close(one, other)


def test_group_norm_is_pytorchs_and_goes_through_vmap():
    """What resnet18 has in place of BatchNorm."""
    seen = [torch.randn(4, 8, 5, 3).to(memory_format=torch.channels_last) for _ in range(N)]
    norms = [torch.nn.GroupNorm(2, 8, eps=0.1) for _ in range(N)]
    for norm in norms:
        torch.nn.init.normal_(norm.weight), torch.nn.init.normal_(norm.bias)
    mapped, (weights, _) = MappedGroupNorm(2, 8, eps=0.1), torch.func.stack_module_state(norms)
    found = torch.func.vmap(lambda state, x: torch.func.functional_call(mapped, state, (x,)))(
        weights, stacked([*seen])
    )
    for one, norm, x in zip(found, norms, seen, strict=True):
        torch.testing.assert_close(one, norm(x))


def test_bf16_stacks():
    """Sums of bfloat16 are taken in another order, so losses agree to its three digits."""
    torch.set_default_dtype(torch.float32)
    alone, together = ([make("lapo", "after", k, precision="bf16") for k in range(N)] for _ in "ab")
    drawn = [make_batches(1, seed=k)[0] for k in range(N)]
    mine = Stack(together).update(drawn)
    for one, other, batch in zip(mine, alone, drawn, strict=True):
        for name, loss in other.update(batch).items():
            torch.testing.assert_close(one[name], loss, rtol=0.05, atol=0.05)


def test_states_stack():
    spec = replace(SPEC, channels=0, size=0, proprio_dim=0, state_dim=6)
    routing, settings = REGISTRY["frozen"], SETTINGS

    def agents():
        return [AGENTS["lapo"](spec, settings, routing, lambda p, k=k: len(p) + k, CPU)
                for k in range(N)]  # fmt: skip

    alone, together, drawn = agents(), agents(), make_batches(N, state_dim=6)
    Stack(together).update(drawn)
    for one, other, batch in zip(together, alone, drawn, strict=True):
        other.update(batch)
        assert_close(one, other)

"""The ledger on real agents: its norms, what it catches, and that it disturbs nothing."""

import copy

import numpy as np
import pytest
import torch
from helpers.agents import SPEC, all_weights, assert_equal, make_agent, make_batches

from benchbench.diagnostics.held_out import HeldOut, Rows
from benchbench.diagnostics.ledger import Ledger, RoutingMismatch, check_routing
from benchbench.diagnostics.signals import encoder_signals
from benchbench.routing import LOSSES, REGISTRY, RoutedOptimizers, Routing

INLINE = {
    "actor-too": Routing("actor-too", ("critic", "actor"), "applied", "detached", "applied"),
    "leak": Routing("leak", ("critic",), "applied", "dropped", "detached"),
}
ALL = REGISTRY | INLINE
OWNER = {"critic": "critic", "vae": "actor_vae", "actor": "actor"}


def watch(agent, seed=3):
    ledger = Ledger(agent.modules(), agent.optimizers)
    for batch in make_batches(2, seed=seed):
        ledger.watch(lambda batch=batch: agent.update(batch))
    return ledger.entries()


def norm(gradients):
    return float(sum(g.double().square().sum() for g in gradients if g is not None)) ** 0.5


def gradients_by_hand(agent, batch):
    """Norm of each loss's gradient on each module, at the weights at which the loop takes it.

    Works on a copy: torch.autograd.grad of the loss at hand, then that turn's step by the agent's
    own optimizers.
    """
    original, agent = agent, copy.deepcopy(agent)
    for name, module in agent.modules().items():  # a deep copy leaves the gradients behind
        for mine, its in zip(
            module.parameters(), original.modules()[name].parameters(), strict=True
        ):
            mine.grad = None if its.grad is None else its.grad.clone()
    routing = agent.routing
    fixed = agent.fix(batch)
    norms = {}
    for loss_name in LOSSES:
        seen = agent.features(fixed.obs, batch.proprio_BP).seen_by(loss_name, routing)
        if loss_name == "critic":
            loss, _ = agent.critic_loss(seen, batch, fixed)
        elif loss_name == "vae":
            loss, _ = agent.vae_loss(seen, batch, fixed)
        else:
            loss, _ = agent.actor_loss(seen, fixed)
        for name, module in agent.modules().items():
            parameters = list(module.parameters())
            found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
            norms[loss_name, name] = norm(found)
        agent.optimizers.step(loss_name, loss)
    return norms


@pytest.mark.parametrize("variant", ALL)
def test_the_norms_are_those_of_autograd_at_the_same_weights(variant):
    routing = ALL[variant]
    agent = make_agent(routing)
    for batch in make_batches(3):
        agent.update(batch)
    truth = gradients_by_hand(agent, make_batches(2, seed=3)[0])
    entries = {(e.loss, e.module): e for e in watch(agent)}
    assert set(entries) == {(loss, m) for loss in LOSSES for m in agent.modules()}
    for (loss, module), entry in entries.items():
        computed = truth[loss, module]
        assert entry.computed == pytest.approx(computed, rel=1e-4, abs=1e-9), (loss, module)
        if module == "obs_encoder":
            flow = routing.flow(loss)
        elif OWNER[loss] == module:
            flow = "applied"
        else:  # only the actor's loss reaches into another module: the critic it asks
            flow = "dropped" if (loss, module) == ("actor", "critic") else "detached"
        assert (computed > 0) == (flow != "detached"), (loss, module)
        applied, dropped = computed * (flow == "applied"), computed * (flow == "dropped")
        assert entry.applied == pytest.approx(applied, rel=1e-4, abs=1e-9), (loss, module)
        assert entry.dropped == pytest.approx(dropped, rel=1e-4, abs=1e-9), (loss, module)
        assert entry.mismatch < 1e-5 or routing.combine == "pcgrad"
    check_routing(list(entries.values()), routing)


def swapped(agent, other):
    """``agent`` with the optimizers of another routing."""
    agent.optimizers = RoutedOptimizers(
        REGISTRY[other], {loss: agent.encoder(loss) for loss in LOSSES},
        heads={"critic": agent.critic, "vae": agent.actor_vae, "actor": agent.actor},
        learning_rates=dict.fromkeys(LOSSES, 1e-3), encoder_lr=1e-3,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("variant", "optimizers", "words"),
    [
        ("after", "before", "critic loss's gradient on the encoder is declared applied and was"),
        ("after", "frozen", "declared applied"),
        ("before", "after", "critic loss's gradient on the encoder is declared dropped and was"),
        ("before", "joint-sum", "declared dropped and was applied"),
        ("joint-sum", "before", "critic loss's gradient on the encoder is declared applied"),
        ("vae-only", "after", "vae loss's gradient on the encoder is declared applied"),
    ],
)
def test_an_agent_with_another_routings_optimizers_is_caught(variant, optimizers, words):
    agent = make_agent(variant)
    swapped(agent, optimizers)
    with pytest.raises(RoutingMismatch, match=f"variant '{variant}': .*{words}"):
        check_routing(watch(agent), agent.routing)


@pytest.mark.parametrize(
    ("variant", "optimizer"),
    [("before", "vae"), ("after", "critic"), ("joint-sum", "own"), ("joint-two", "vae"),
     ("vae-only", "vae")],
)  # fmt: skip
def test_a_forgotten_zero_grad_is_caught(variant, optimizer):
    agent = make_agent(variant)
    agent.optimizers.by_name[optimizer].__class__ = Forgetful
    with pytest.raises(RoutingMismatch):
        check_routing(watch(agent), agent.routing)


class Forgetful(torch.optim.Adam):
    def zero_grad(self, set_to_none=True):
        pass


def test_a_forgotten_detach_is_caught():
    leaky = make_agent(INLINE["leak"])
    with pytest.raises(RoutingMismatch, match=r"vae loss.s gradient .* declared detached and was"):
        check_routing(watch(leaky), REGISTRY["after"])


def test_a_gradient_from_elsewhere_is_caught():
    """Something adds to .grad behind the losses' backs, just before the encoder's step."""
    agent = make_agent("after")
    optimizer = agent.optimizers.by_name["critic"]

    class Meddling(torch.optim.Adam):
        def zero_grad(self, set_to_none=True):
            super().zero_grad(set_to_none)
            for parameter in agent.obs_encoder.parameters():
                parameter.grad = torch.full_like(parameter, 1e-4)

    optimizer.__class__ = Meddling
    with pytest.raises(RoutingMismatch, match=r"at the encoder's step \.grad differs"):
        check_routing(watch(agent), agent.routing)


def rows(count, seed):
    draw = np.random.default_rng(seed)
    batches = make_batches(count // 8, seed=seed)
    whole = {
        name: torch.cat([getattr(b, name) for b in batches])
        for name in batches[0].__dataclass_fields__
    }
    return Rows(
        batch=type(batches[0])(**whole), states=draw.normal(size=(count, 4)),
        returns=draw.normal(size=count), episodes=np.arange(count) // 8,
        times=np.arange(count) % 8, distractions=np.empty((count, 0)),
    )  # fmt: skip


HELD_OUT = HeldOut(fit=rows(64, seed=50), score=rows(48, seed=51))


def watched(agent, batch):
    Ledger(agent.modules(), agent.optimizers).watch(lambda: agent.update(batch))


def with_signals(agent, batch):
    encoder_signals(agent, batch, seed=5)
    agent.update(batch)


def with_measures(agent, batch):
    HELD_OUT.measure(agent)
    agent.update(batch)


@pytest.mark.parametrize("variant", ALL)
@pytest.mark.parametrize("diagnosed", [watched, with_signals, with_measures])
def test_diagnostics_leave_training_untouched_bit_for_bit(variant, diagnosed):
    spec = SPEC.__class__(**{**SPEC.__dict__, "shift_pad": 2})  # augmentation draws noise too
    plain, measured = make_agent(ALL[variant], spec=spec), make_agent(ALL[variant], spec=spec)
    torch.manual_seed(0)
    for batch in make_batches(6):
        plain.update(batch)
    after_plain = torch.rand(1)
    torch.manual_seed(0)
    for batch in make_batches(6):
        diagnosed(measured, batch)
    assert_equal(all_weights(plain), all_weights(measured))
    assert torch.equal(torch.rand(1), after_plain)  # nor is the global stream
    for module in measured.modules().values():
        assert module.training
    assert torch.Tensor.backward.__module__ == "torch._tensor"


def test_signals_are_the_gradients_of_both_losses_whatever_the_routing_applies():
    batch = make_batches(1)[0]
    seen = []
    for variant in ("before", "after", "vae-only", "joint-sum", "joint-two", "frozen", "leak"):
        agent = make_agent(variant)
        seen.append(encoder_signals(agent, batch, seed=5))
        assert all(p.grad is None for p in agent.obs_encoder.parameters())
    assert all(other == seen[0] for other in seen)
    agent = make_agent("frozen")
    parameters = list(agent.obs_encoder.parameters())
    with agent.noise_from(5):
        fixed = agent.fix(batch)
        flat = []
        for loss in (agent.critic_loss, agent.vae_loss):
            value, _ = loss(agent.features(fixed.obs, batch.proprio_BP), batch, fixed)
            grads = torch.autograd.grad(value, parameters)
            flat.append(torch.cat([g.flatten() for g in grads]))
    assert seen[0]["grad_critic"] == pytest.approx(flat[0].norm().item(), rel=1e-5)
    assert seen[0]["grad_vae"] == pytest.approx(flat[1].norm().item(), rel=1e-5)
    cosine = torch.nn.functional.cosine_similarity(*flat, dim=0).item()
    assert seen[0]["grad_cosine"] == pytest.approx(cosine, abs=1e-5)

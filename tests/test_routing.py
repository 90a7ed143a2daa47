"""The routing: its table, and its symbolic loop against real gradients and real steps."""

import dataclasses
import itertools

import pytest
import torch
from torch import nn

from benchbench.routing import (
    LOSSES,
    REGISTRY,
    RoutedOptimizers,
    Routing,
    RoutingError,
    trace,
)

HOLDERS = ("critic", "vae", "actor")
PLACES = [("own",)] + [c for n in range(4) for c in itertools.combinations(HOLDERS, n)]
ATTACHED = [frozenset(c) for n in range(4) for c in itertools.combinations(LOSSES, n)]

SLOPE = {"critic": 1.0, "vae": 100.0, "actor": 10000.0}

# "Variants" in the project's notes on measures: who holds the encoder; critic, VAE, actor loss.
TABLE = {
    "before": (("vae",), "dropped", "applied", "detached"),
    "after": (("critic",), "applied", "detached", "detached"),
    "vae-only": (("vae",), "detached", "applied", "detached"),
    "joint-sum": (("own",), "applied", "applied", "detached"),
    "joint-two": (("critic", "vae"), "applied", "applied", "detached"),
    "frozen": ((), "detached", "detached", "detached"),
    "separate": (("critic", "vae", "actor"), "applied", "applied", "applied"),
    "q-only": (("critic",), "applied", "detached", "detached"),
    "v-only": (("critic",), "applied", "detached", "detached"),
    "vae-unweighted": (("vae",), "detached", "applied", "detached"),
    "actor-too": (("critic", "actor"), "applied", "detached", "applied"),
    "leak": (("critic",), "applied", "dropped", "detached"),
    "leak-stale": (("critic",), "applied", "applied", "detached"),
    "pcgrad": (("own",), "applied", "applied", "detached"),
    "bpr": (("vae",), "detached", "applied", "detached"),
}


def test_the_registry_is_the_published_table():
    shown = {n: (r.encoder_in, r.critic, r.vae, r.actor) for n, r in REGISTRY.items()}
    assert shown == TABLE
    assert all(name == routing.name and routing.why for name, routing in REGISTRY.items())


def unchecked(encoder_in, attached):
    """A routing whose flows are not yet known, only which losses are attached."""
    routing = object.__new__(Routing)
    flows = {loss: "applied" if loss in attached else "detached" for loss in LOSSES}
    rest = {f.name: f.default for f in dataclasses.fields(Routing)}
    for name, value in (rest | {"name": "x", "encoder_in": encoder_in, **flows}).items():
        object.__setattr__(routing, name, value)
    return routing


def digits_by_experiment(encoder_in, attached):
    """Run the loop with tensors and plain SGD; see what each loss does to an encoder of one number.

    Each loss has a slope of its own (a power of ten), so that the digits of ``.grad`` and of the
    encoder's displacement tell whose gradients are in them.
    """
    encoder = nn.Parameter(torch.zeros((), dtype=torch.float64))
    heads = {loss: nn.Parameter(torch.zeros((), dtype=torch.float64)) for loss in LOSSES}
    sgd = {
        loss: torch.optim.SGD([heads[loss]] + [encoder] * (loss in encoder_in), lr=1.0)
        for loss in LOSSES
    }
    own = torch.optim.SGD([encoder], lr=1.0) if "own" in encoder_in else None
    for _ in range(3):
        if own:
            own.zero_grad()
        for loss in LOSSES:
            sgd[loss].zero_grad()
            feature = encoder if loss in attached else encoder.detach()
            (SLOPE[loss] * feature + heads[loss]).backward()
            sgd[loss].step()
            if own and loss == "vae":
                own.step()
    return digits(encoder)


def digits(encoder):
    moved = round(-encoder.item())
    return {"critic": moved % 100, "vae": moved // 100 % 100, "actor": moved // 10000}


def fate_by_experiment(encoder_in, attached):
    found = digits_by_experiment(encoder_in, attached)
    return {
        loss: "detached" if loss not in attached else "applied" if found[loss] else "dropped"
        for loss in LOSSES
    }


@pytest.mark.parametrize("attached", ATTACHED, ids=lambda losses: "+".join(sorted(losses)) or "-")
@pytest.mark.parametrize("encoder_in", PLACES, ids=lambda names: "+".join(names) or "nobody")
def test_the_symbolic_loop_does_what_the_real_one_does(encoder_in, attached):
    truth = fate_by_experiment(encoder_in, attached)
    assert trace(unchecked(encoder_in, attached)) == truth
    routing = Routing("x", encoder_in, **truth)  # the truth is accepted
    assert {loss: routing.flow(loss) for loss in LOSSES} == truth
    assert {loss for loss in LOSSES if routing.attached(loss)} == attached
    for loss in LOSSES:  # and any lie about it refused
        for lie in {"applied", "dropped", "detached"} - {truth[loss]}:
            changed = attached - {loss} if lie == "detached" else attached | {loss}
            if fate_by_experiment(encoder_in, changed) == truth | {loss: lie}:
                continue  # no lie but another variant that makes sense
            with pytest.raises(RoutingError):
                Routing("x", encoder_in, **(truth | {loss: lie}))


def one_number():
    module = nn.Module()
    module.number = nn.Parameter(torch.zeros((), dtype=torch.float64))
    return module


@pytest.mark.parametrize("attached", ATTACHED, ids=lambda losses: "+".join(sorted(losses)) or "-")
@pytest.mark.parametrize("encoder_in", PLACES, ids=lambda names: "+".join(names) or "nobody")
def test_the_routed_optimizers_do_what_the_table_says(monkeypatch, encoder_in, attached):
    """The same experiment through RoutedOptimizers, with SGD in Adam's place."""
    monkeypatch.setattr(
        torch.optim, "Adam", lambda groups, fused: torch.optim.SGD(groups, lr=1.0, foreach=False)
    )
    truth = fate_by_experiment(encoder_in, attached)
    routing = Routing("x", encoder_in, **truth)
    encoder, heads = one_number(), {loss: one_number() for loss in LOSSES}
    encoders = dict.fromkeys(LOSSES, encoder)
    optimizers = RoutedOptimizers(routing, encoders, heads, dict.fromkeys(LOSSES, 0.5), 1.0)
    for _ in range(3):
        for loss in LOSSES:
            feature = encoder.number if routing.attached(loss) else encoder.number.detach()
            before = encoder.number.item(), heads[loss].number.item()
            optimizers.step(loss, SLOPE[loss] * feature + heads[loss].number)
            assert heads[loss].number.item() == before[1] - 0.5  # each head by its own rate
            assert routing.moved_by(loss) or encoder.number.item() == before[0]
    assert digits(encoder.number) == digits_by_experiment(encoder_in, attached)


def test_moved_by_names_the_steps_that_may_move_the_encoder():
    moved = {n: [x for x in LOSSES if r.moved_by(x)] for n, r in REGISTRY.items()}
    assert moved == {
        "before": ["vae"], "after": ["critic"], "vae-only": ["vae"],
        "joint-sum": ["vae"], "joint-two": ["critic", "vae"], "frozen": [],
        "separate": ["critic", "vae", "actor"], "q-only": ["critic"], "v-only": ["critic"],
        "vae-unweighted": ["vae"], "actor-too": ["critic", "actor"], "leak": ["critic"],
        "leak-stale": ["critic"], "pcgrad": ["vae"], "bpr": ["vae"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("encoder_in", "flows", "reason"),
    [
        ((), ("applied", "detached", "detached"), r"encoder_in: \[\] that gradient would be drop"),
        (("vae",), ("applied", "applied", "detached"), "declares critic: applied, but"),
        (("critic",), ("dropped", "detached", "detached"), "write critic: applied, or put"),
        (("critic",), ("applied", "applied", "detached"), "declares vae: applied, but"),
        (("own",), ("applied", "applied", "applied"), "declares actor: applied, but"),
        (("own", "vae"), ("applied", "applied", "detached"), r"encoder_in: \[own\], or a list wi"),
        (("vae", "vae"), ("dropped", "applied", "detached"), "names an optimizer twice"),
    ],
)
def test_nonsense_is_refused_with_the_reason_and_the_cure(encoder_in, flows, reason):
    with pytest.raises(RoutingError, match=reason):
        Routing("mine", encoder_in, *flows)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (
            {"encoders": "separate", "encoder_in": ("critic",), "vae": "dropped"},
            "separate encoders",
        ),
        ({"combine": "pcgrad"}, r"needs encoder_in: \[own\]"),
        ({"critic_terms": "q", "encoder_in": (), "critic": "detached"}, "q term of a detached"),
        ({"vae_weights": "none"}, "detached VAE loss"),
        ({"clear": "after", "vae": "dropped"}, "that gradient would be applied"),
        ({"encoder_until": 0.0}, "above 0"),
        ({"encoder_until": 1.5}, "at most 1"),
        ({"encoder_until": 0.5, "encoder_in": (), "critic": "detached"}, "no loss trains"),
    ],
)
def test_settings_that_go_together_with_nothing_are_refused(settings, reason):
    after = {"encoder_in": ("critic",), "critic": "applied", "vae": "detached", "actor": "detached"}
    with pytest.raises(RoutingError, match=reason):
        Routing("mine", **(after | settings))

"""Gradients that are by-products, late or averaged over calls: neither warned of nor missed."""

import itertools

import pytest
import torch
from helpers.actor_critic import Agent, cat, note_kinds, turn, x

pytestmark = pytest.mark.usefixtures("same_numbers")

# ------------------------------------------------------------ by-products on side paths


def sac_ae(a, actor_input, critic_features, freeze=False):
    obs = x()
    critic_loss = a.q(a.encoder(obs), x(2)).square().mean()
    turn(a.both_opt, critic_loss)
    if freeze:
        a.critic.requires_grad_(False)
    actor_loss = -a.critic(cat(critic_features(obs), a.actor(actor_input(obs)))).mean()
    a.critic.requires_grad_(True)
    turn(a.actor_opt, actor_loss)


@pytest.mark.parametrize("freeze", [False, True])
def test_a_side_path_through_the_critic_is_a_by_product(freeze):
    def step(a):
        sac_ae(a, lambda o: a.encoder(o).detach(), a.encoder, freeze)

    audit = Agent().audit(step, "encoder actor critic", "both_opt actor_opt")
    if not freeze:
        assert note_kinds(audit) == {"by-product", "passed through"}
        assert audit.warnings == []
        assert audit.ok
    else:  # the frozen critic is in the graph by the weights that its operations keep
        assert audit.warnings == [], audit


def test_a_weight_that_has_a_loss_of_its_own_is_a_by_product():
    """CQL's and SAC's temperature: it weighs a loss, and its own loss trains it."""
    a = Agent()
    a.log_alpha = torch.zeros(1, requires_grad=True)
    a.alpha_opt = torch.optim.Adam([a.log_alpha])

    def step(a):
        critic_loss = (a.log_alpha.exp() * a.q(x(), x(2)).square()).mean()
        turn(a.critic_opt, critic_loss)
        alpha_loss = (a.log_alpha.exp() - 2).square().sum()
        turn(a.alpha_opt, alpha_loss)

    audit = a.audit(step, "critic log_alpha", "critic_opt alpha_opt")
    assert audit.ok, audit
    assert note_kinds(audit) == {"by-product"}


def test_features_that_the_trained_actor_reads_are_no_by_product():
    def step(a):
        sac_ae(a, a.encoder, lambda o: a.encoder(o).detach())

    audit = Agent().audit(step, "encoder actor critic", "both_opt actor_opt")
    assert [(w.kind, w.loss, w.module) for w in audit.warnings] == [
        ("dropped", "actor_loss", "encoder")
    ]
    assert "before any step: detach encoder from actor_loss, as critic_loss trains it" in str(
        audit.warnings[0]
    )


def test_a_by_product_on_a_module_that_nothing_trains_is_a_warning():
    def step(a):
        obs = x()
        critic_loss = a.q(a.encoder(obs).detach(), x(2)).square().mean()
        turn(a.critic_opt, critic_loss)
        a.encoder_opt.zero_grad()
        actor_loss = -a.critic(cat(a.encoder(obs), a.actor(obs))).mean()
        turn(a.actor_opt, actor_loss)

    audit = Agent().audit(step, "encoder actor critic", "critic_opt actor_opt encoder_opt")
    assert ("no step", "encoder") in [(w.kind, w.module) for w in audit.warnings]


# ------------------------------------------------------------ the window's ends


@pytest.mark.parametrize(("every", "first"), [(e, f) for e in (2, 3, 4) for f in range(e)])
def test_accumulation_over_calls_wherever_the_window_starts(every, first):
    calls = itertools.count(first)

    def step(a):
        head_loss = a.head(a.encoder(x())).square().mean() / every
        head_loss.backward()
        if next(calls) % every == every - 1:
            for optimizer in (a.head_opt, a.encoder_opt):
                optimizer.step()
                optimizer.zero_grad()

    audit = Agent().audit(step, "encoder head", "head_opt encoder_opt")
    assert audit.ok, audit
    assert all(line.left_over == 0 for line in audit.ledger)


@pytest.mark.parametrize(("every", "first"), [(e, f) for e in (2, 3) for f in range(e)])
@pytest.mark.parametrize("actor_first", [False, True])
def test_delayed_updates_with_given_names(every, first, actor_first):
    calls = itertools.count(first)

    def step(a):
        obs = x()

        def update_actor():
            if next(calls) % every == 0:
                turn(a.actor_opt, -a.q(obs).mean())

        if actor_first:
            update_actor()
        turn(a.critic_opt, a.q(obs, x(2)).square().mean())
        if not actor_first:
            update_actor()

    names = ["pi", "td"] if actor_first else ["td", "pi"]
    audit = Agent().audit(step, "actor critic", "actor_opt critic_opt", losses=names)
    assert audit.ok, audit
    audit.assert_routing({"td": ["critic"], "pi": ["actor"]})


def test_given_names_for_one_line_that_runs_several_times():
    def step(a):
        for loss, optimizer in ((a.head(x()), a.head_opt), (a.actor(x()), a.actor_opt)):
            turn(optimizer, loss.square().mean())

    audit = Agent().audit(step, "actor head", "actor_opt head_opt", losses=["h", "a"])
    audit.assert_routing({"h": ["head"], "a": ["actor"]})

"""Loops that handle gradients or weights by hand: seen for what they are."""

import copy
import itertools

import pytest
import torch
from helpers.actor_critic import Agent, adam, cat, note_kinds, turn, x
from helpers.audited import kinds
from torch import nn
from torch.utils.checkpoint import checkpoint

import benchbench

pytestmark = pytest.mark.usefixtures("same_numbers")

# ------------------------------------------------------------ recomputation


def pcgrad(a, project):
    parameters = list(a.encoder.parameters())
    kept = []
    for loss in (a.head(a.encoder(x())).square().mean(), a.actor(a.encoder(x())).mean()):
        a.encoder_opt.zero_grad()
        loss.backward()
        kept.append([p.grad.clone() for p in parameters])
    for p, g, h in zip(parameters, *kept, strict=True):
        p.grad = project(g, h)
    a.encoder_opt.step()
    for optimizer in (a.head_opt, a.actor_opt):
        optimizer.step()
        optimizer.zero_grad()


def test_gradients_that_are_cleared_and_put_back_projected_are_no_losses():
    a = Agent()
    audit = a.audit(
        lambda a: pcgrad(a, lambda g, h: 0.7 * g + 1.3 * h),
        "encoder head actor", "encoder_opt head_opt actor_opt",
    )  # fmt: skip
    assert audit.warnings == [], audit
    assert "recombined" in note_kinds(audit)
    unlike = a.audit(
        lambda a: pcgrad(a, lambda g, h: torch.where(g * h > 0, g + h, torch.zeros_like(g))),
        "encoder head actor", "encoder_opt head_opt actor_opt",
    )  # fmt: skip
    assert unlike.warnings == [], unlike  # not understood, so neither a warning nor all right
    assert {u.kind for u in unlike.unknown} == {"unknown gradient"}


def test_a_backward_pass_for_a_look_at_the_gradient_only():
    def step(a):
        obs = x()
        head_loss = a.head(a.encoder(obs)).square().mean()
        head_loss.backward(retain_graph=True)  # logs its norm
        a.both.zero_grad()
        a.both.zero_grad()
        total_loss = head_loss + a.actor(a.encoder(obs)).mean() * 0
        total_loss.backward()
        a.both.step()

    a = Agent()
    a.both = adam(a.encoder, a.head, a.actor)
    audit = a.audit(step, "encoder head", "both")
    assert [w for w in audit.warnings if w.kind == "dropped"] == [], audit


def test_a_dropped_gradient_within_a_reentrant_checkpoint():
    """Its way is known from the backward pass that the checkpoint runs."""

    def step(a):
        obs = x()
        critic_loss = a.q(a.encoder(obs), x(2)).square().mean()
        turn(a.both_opt, critic_loss)
        features = checkpoint(a.encoder, obs.requires_grad_(), use_reentrant=True)
        actor_loss = -a.critic(cat(features, a.actor(obs.detach()))).mean()
        turn(a.actor_opt, actor_loss)

    audit = Agent().audit(step, "encoder actor critic", "both_opt actor_opt")
    assert audit.warnings == [], audit


# ------------------------------------------------------------ who moved the weights


def test_a_learning_rate_of_zero():
    a = Agent()
    a.head_opt = adam(a.head, lr=0.0)
    audit = a.audit(lambda a: turn(a.head_opt, a.head(x()).square().mean()), "head", "head_opt")
    assert kinds(audit) == ["not moved"]
    assert audit.moved["head"] == ()


@pytest.mark.parametrize("functional", [False, True])
def test_hand_written_sgd(functional):
    a = Agent()

    def step():
        head_loss = a.head(x()).square().mean()
        parameters = list(a.head.parameters())
        if functional:
            grads = torch.autograd.grad(head_loss, parameters)
        else:
            head_loss.backward()
            grads = [p.grad for p in parameters]
        for p, g in zip(parameters, grads, strict=True):
            p.data -= 0.1 * g
            p.grad = None

    audit = benchbench.audit({"head": a.head}, {}, step)
    assert audit.ok, audit
    assert audit.moved["head"] == ("code outside step()",)
    assert audit.routing == {"head_loss": ["head"]}


def test_hand_written_momentum_is_unknown_and_no_warning():
    a = Agent()
    momentum = [torch.zeros_like(p) for p in a.head.parameters()]

    def step():
        head_loss = a.head(x()).square().mean()
        head_loss.backward()
        with torch.no_grad():
            for p, m in zip(a.head.parameters(), momentum, strict=True):
                p.sub_(m.mul_(0.9).add_(p.grad), alpha=0.1)
                p.grad = None

    audit = benchbench.audit({"head": a.head}, {}, step)
    assert audit.warnings == []
    assert {u.kind for u in audit.unknown} == {"unknown gradient"}


def test_autograd_grad_that_the_code_puts_into_grad():
    def step(a):
        head_loss = a.head(a.encoder(x())).square().mean()
        parameters = [*a.head.parameters(), *a.encoder.parameters()]
        for p, g in zip(parameters, torch.autograd.grad(head_loss, parameters), strict=True):
            p.grad = g
        a.head_opt.step()
        a.encoder_opt.step()

    audit = Agent().audit(step, "encoder head", "head_opt encoder_opt")
    assert audit.ok, audit
    assert audit.routing == {"head_loss": ["encoder", "head"]}


# ------------------------------------------------------------ names and rows


def test_what_two_modules_share_has_a_row_of_its_own():
    encoder, pi, q = nn.Linear(4, 4), nn.Linear(4, 2), nn.Linear(4, 1)
    actor, critic = nn.Sequential(encoder, pi), nn.Sequential(encoder, q)
    opt = adam(encoder, pi, q)

    def step():
        critic_loss = critic(x()).square().mean()
        actor_loss = actor(x()).square().mean()
        turn(opt, critic_loss + actor_loss)

    audit = benchbench.audit({"actor": actor, "critic": critic}, {"opt": opt}, step)
    assert audit.ok
    assert set(audit.modules) == {"actor", "critic", "actor ∩ critic"}
    terms = next(e.terms for e in audit.events if e.terms)
    norms = {term.name: set(term.norms) for term in terms}
    assert norms == {
        "critic_loss": {"critic", "actor ∩ critic"}, "actor_loss": {"actor", "actor ∩ critic"},
    }  # fmt: skip


def test_scaled_losses_keep_their_name_and_norm():
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)

    def step(a):
        torch.manual_seed(3)
        critic_loss = a.q(x(), x(2)).square().mean()
        a.critic_opt.zero_grad()
        scaler.scale(critic_loss).backward()
        scaler.unscale_(a.critic_opt)
        scaler.step(a.critic_opt)
        scaler.update()
        head_loss = a.head(x()).square().mean()
        a.head_opt.zero_grad()
        (head_loss / 4).backward()
        a.head_opt.step()

    a = Agent()
    twin = copy.deepcopy(a)
    audit = a.audit(step, "critic head", "critic_opt head_opt", steps=2)
    assert audit.ok
    torch.manual_seed(3)
    loss = twin.q(x(), x(2)).square().mean()
    grads = torch.autograd.grad(loss, list(twin.critic.parameters()))
    norm = float(sum(g.double().square().sum() for g in grads)) ** 0.5
    lines = {line.loss: line for line in audit.ledger}
    assert lines["critic_loss"].computed == pytest.approx(norm, rel=1e-5)
    assert lines["critic_loss"].factor == 1024
    assert lines["head_loss"].factor == 0.25


def test_a_step_that_the_scaler_leaves_out_is_a_note():
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    calls = itertools.count()

    def step(a):
        head_loss = a.head(x()).square().mean()
        if next(calls) == 1:
            head_loss = head_loss * float("inf")
        a.head_opt.zero_grad()
        scaler.scale(head_loss).backward()
        scaler.step(a.head_opt)
        scaler.update()

    audit = Agent().audit(step, "head", "head_opt", steps=4)
    assert audit.ok, audit
    assert note_kinds(audit) == {"skipped step"}
    assert "head_opt.step() skipped" in [str(event) for event in audit.events]

"""The audit of anyone's training loop: right numbers, and no disturbance."""

import copy
import importlib

import pytest
import torch
from helpers.agents import all_weights, assert_equal, make_agent, make_batches
from helpers.audited import (
    after_step,
    after_toy,
    before_step,
    before_toy,
    kinds,
    line_of,
    norm,
    texts,
)
from torch import nn

import benchbench

OPTIMIZERS = (torch.optim.Adam, torch.optim.SGD)


# ------------------------------------------------------------ the brief's two loops


def test_the_briefs_first_loop_gets_the_briefs_own_diagnosis():
    toy = before_toy()
    audit = toy.audit(lambda: before_step(toy))
    assert texts(audit.warnings) == [
        "critic_loss puts a gradient on obs_encoder, and actorvae_optimizer.zero_grad() wipes it "
        "before any step: detach obs_encoder from critic_loss, as vae_loss trains it by "
        "actorvae_optimizer; or, if critic_loss is to train it too, add obs_encoder to "
        "critic_optimizer"
    ]
    assert audit.notes == []
    assert not audit.ok
    lost = line_of(audit, "critic_loss", "obs_encoder")
    assert lost.dropped == lost.computed > 0 == lost.applied
    assert lost.dropped_by == ("actorvae_optimizer.zero_grad()",)
    assert line_of(audit, "vae_loss", "obs_encoder").applied_by == ("actorvae_optimizer",)


def test_the_briefs_second_loop_has_nothing_to_warn_of():
    toy = after_toy()
    audit = toy.audit(lambda: after_step(toy))
    assert audit.warnings == audit.notes == []
    assert audit.ok
    kept = line_of(audit, "critic_loss", "obs_encoder")
    assert kept.applied == kept.computed > 0 == kept.dropped
    assert line_of(audit, "vae_loss", "obs_encoder") is None


def test_following_the_cure_ends_the_warning():
    """The brief's fix is the cure's first half; without its detach the second loss is lost."""
    toy = after_toy()
    (warning,) = toy.audit(lambda: before_step(toy)).warnings
    assert str(warning) == (
        "vae_loss puts a gradient on obs_encoder, and critic_optimizer.zero_grad() wipes it before "
        "any step: detach obs_encoder from vae_loss, as critic_loss trains it by "
        "critic_optimizer; or, if vae_loss is to train it too, add obs_encoder to "
        "actorvae_optimizer"
    )
    toy = after_toy()
    assert toy.audit(lambda: after_step(toy)).ok


def test_events_are_those_of_the_loop_in_its_order():
    toy = before_toy()
    audit = toy.audit(lambda: before_step(toy), steps=2)
    loop = [
        "critic_optimizer.zero_grad()", "critic_loss.backward()", "critic_optimizer.step()",
        "actorvae_optimizer.zero_grad()", "vae_loss.backward()", "actorvae_optimizer.step()",
    ]  # fmt: skip
    assert [str(event) for event in audit.events] == loop * 2
    assert [event.step for event in audit.events] == [1] * 6 + [2] * 6


def test_the_text_shows_where_the_gradient_is_lost():
    toy = before_toy()
    text = str(toy.audit(lambda: before_step(toy)))
    rows = {line.split("  ")[0]: line.split() for line in text.splitlines()}
    assert rows["critic_optimizer.step()"][1:] == ["not", "held", "applied", "✓", "·"]
    assert rows["actorvae_optimizer.zero_grad()"][1:] == ["wiped", "✗", "·", "cleared"]
    assert "warning 1: critic_loss puts a gradient on obs_encoder" in text
    assert max(map(len, text.splitlines())) <= 100
    toy = after_toy()
    assert "no warnings" in str(toy.audit(lambda: after_step(toy)))


# ------------------------------------------------------------ numbers, and no disturbance


def test_norms_are_those_of_autograd_at_the_same_weights():
    toy = before_toy()
    twin = copy.deepcopy(toy)
    encoder, critic = (list(m.parameters()) for m in (twin.obs_encoder, twin.critic))
    critic_grads = torch.autograd.grad(twin.q_error(), encoder + critic)
    audit = toy.audit(lambda: before_step(toy), steps=2)
    on_encoder, on_critic = critic_grads[: len(encoder)], critic_grads[len(encoder) :]
    computed = line_of(audit, "critic_loss", "obs_encoder").computed
    assert computed == pytest.approx(norm(on_encoder), rel=1e-6)
    assert line_of(audit, "critic_loss", "critic").applied == pytest.approx(norm(on_critic), 1e-6)
    vae_grads = torch.autograd.grad(twin.recon(), encoder)  # the critic's step moved no encoder
    applied = line_of(audit, "vae_loss", "obs_encoder").applied
    assert applied == pytest.approx(norm(vae_grads), rel=1e-6)


def test_norms_of_several_steps_are_root_mean_squares_over_the_steps_with_the_loss():
    toy = after_toy(torch.optim.SGD)
    for group in toy.critic_optimizer.param_groups:
        group["lr"] = 0.0  # the same gradient each time
    twin = copy.deepcopy(toy)
    grads = torch.autograd.grad(twin.q_error(), list(twin.critic.parameters()))
    calls = []

    def step():
        calls.append(1)
        if len(calls) % 2:  # as delayed policy updates do
            critic_loss = toy.q_error()
            toy.critic_optimizer.zero_grad()
            critic_loss.backward()
            toy.critic_optimizer.step()
        vae_loss = toy.recon(toy.obs_encoder(toy.obs).detach())
        toy.actorvae_optimizer.zero_grad()
        vae_loss.backward()
        toy.actorvae_optimizer.step()

    audit = toy.audit(step, steps=5)
    assert kinds(audit) == ["not moved"]  # the rate is 0, and the audit says so
    assert line_of(audit, "critic_loss", "critic").applied == pytest.approx(norm(grads), rel=1e-5)


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize(("make", "loop"), [(before_toy, before_step), (after_toy, after_step)])
def test_audited_steps_end_in_the_weights_of_unwatched_ones_bit_for_bit(make, loop, kind):
    plain, watched = make(kind), make(kind)
    for _ in range(6):
        loop(plain)
    watched.audit(lambda: loop(watched), steps=4)
    loop(watched)
    loop(watched)
    assert all(torch.equal(*pair) for pair in zip(plain.weights(), watched.weights(), strict=True))


def test_benchbenchs_agent_is_audited_without_a_trace():
    plain, watched = make_agent("before"), make_agent("before")
    batches = make_batches(4)
    for batch in batches:
        plain.update(batch)
    waiting = iter(batches)
    audit = benchbench.audit(
        watched.modules() | {f"{n}_target": m for n, m in watched.target_modules().items()},
        watched.optimizers.by_name,
        lambda: watched.update(next(waiting)),
        steps=4,
        losses=["critic_loss", "vae_loss", "actor_loss"],
    )
    assert_equal(all_weights(plain), all_weights(watched))
    assert [w.kind for w in audit.warnings] == ["dropped"]
    assert [n.kind for n in audit.notes] == ["passed through"]


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_restore_puts_everything_back(kind):
    toy = before_toy(kind)
    toy.modules["norm"] = nn.BatchNorm1d(6)
    toy.optimizers["norm_optimizer"] = kind(toy.modules["norm"].parameters(), lr=0.1)
    before_step(toy)
    twin = copy.deepcopy(toy)
    grads = [None if p.grad is None else p.grad.clone() for p in toy.parameters()]
    torch.manual_seed(7)

    def step():
        toy.obs = toy.modules["norm"](torch.randn(12, 6)).detach()
        before_step(toy)

    toy.audit(step, restore=True)
    after = torch.rand(3)
    torch.manual_seed(7)
    assert torch.equal(after, torch.rand(3))
    assert torch.equal(toy.modules["norm"].running_mean, twin.modules["norm"].running_mean)
    toy.obs = twin.obs
    for parameter, grad in zip(toy.parameters(), grads, strict=True):
        assert parameter.grad is None if grad is None else torch.equal(parameter.grad, grad)
    for each in (toy, twin):
        before_step(each)
        before_step(each)
    assert all(torch.equal(*pair) for pair in zip(toy.weights(), twin.weights(), strict=True))


def test_all_patches_are_undone_even_when_step_raises():
    toy = before_toy()
    scheduler = torch.optim.lr_scheduler.StepLR(toy.critic_optimizer, 1)
    own = dict(vars(toy.critic_optimizer))  # the scheduler has put a step of its own there
    backward, zero_grad = torch.autograd.backward, nn.Module.zero_grad

    def step():
        before_step(toy)
        scheduler.step()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        toy.audit(step)
    assert torch.autograd.backward is backward
    assert nn.Module.zero_grad is zero_grad
    assert vars(toy.critic_optimizer)["step"] is own["step"]
    assert "zero_grad" not in vars(toy.critic_optimizer)
    assert not importlib.import_module("torch.optim.optimizer")._global_optimizer_pre_hooks
    before_step(toy)

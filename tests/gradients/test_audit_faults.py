"""Each fault of a training loop is found, with its cure; what is right is not warned of."""

import copy

import pytest
import torch
from helpers.audited import (
    Toy,
    after_step,
    after_toy,
    before_step,
    kinds,
    line_of,
    only,
    texts,
)
from torch import nn
from torch.nn import functional as F


def test_zero_grad_between_backward_and_step():
    toy = after_toy()

    def step():
        critic_loss = toy.q_error()
        critic_loss.backward()
        toy.critic_optimizer.zero_grad()
        toy.critic_optimizer.step()

    toy.optimizers = {"critic_optimizer": toy.critic_optimizer}
    toy.modules = {"both": nn.ModuleList([toy.critic, toy.obs_encoder])}
    assert only(toy.audit(step), "dropped") == (
        "critic_loss puts a gradient on both, and critic_optimizer.zero_grad() wipes it before "
        "critic_optimizer.step(): call zero_grad() before the backward pass, not after it"
    )


def test_parameters_in_two_optimizers():
    toy = Toy()
    toy.optimize([toy.critic, toy.obs_encoder], [toy.actor_vae, toy.obs_encoder])
    # Each steps along its own loss's gradient, as SAC-AE does by design; but the VAE's zero_grad
    # comes after the critic's step, so nothing is lost and nothing is applied twice.
    audit = toy.audit(lambda: before_step(toy))
    assert audit.ok
    (note,) = audit.notes
    assert note.kind == "two optimizers"
    assert str(note).startswith("obs_encoder is in critic_optimizer and actorvae_optimizer")


def test_a_part_of_a_module_is_called_by_its_parameters():
    toy = Toy()
    toy.optimize([toy.critic, toy.obs_encoder], [toy.actor_vae, toy.critic[2]])
    audit = toy.audit(lambda: after_step(toy))
    assert audit.ok
    (note,) = [n for n in audit.notes if n.kind == "two optimizers"]
    assert str(note).startswith("critic (2.weight, 2.bias) is in critic_optimizer and")


def test_a_gradient_on_parameters_of_no_optimizer():
    toy = Toy()
    toy.optimize([toy.critic], [toy.actor_vae])
    assert only(toy.audit(lambda: after_step(toy)), "unheld gradient") == (
        "critic_loss puts a gradient on obs_encoder, which is in no optimizer, so that nothing "
        "ever steps along it: add obs_encoder to critic_optimizer, or detach it from critic_loss"
    )


def test_parameters_of_no_optimizer_that_no_loss_reaches():
    toy = after_toy()
    toy.modules["spare"] = nn.Linear(2, 2)
    assert "spare requires grad, is in no optimizer and no loss reaches it" in only(
        toy.audit(lambda: after_step(toy)), "unheld"
    )
    toy.modules["spare"].requires_grad_(False)
    assert toy.audit(lambda: after_step(toy)).ok


def moving_target(toy, frozen):
    toy.modules["slow_critic"] = slow = copy.deepcopy(toy.critic).requires_grad_(not frozen)

    def move():
        with torch.no_grad():
            for old, new in zip(slow.parameters(), toy.critic.parameters(), strict=True):
                old.lerp_(new, 0.1)

    return slow, move


@pytest.mark.parametrize("frozen", [False, True])
def test_a_target_network_that_only_requires_grad_is_a_note(frozen):
    toy = after_toy()
    _, move = moving_target(toy, frozen)
    audit = toy.audit(lambda: (after_step(toy), move()))
    assert audit.ok
    assert [n.kind for n in audit.notes] == [] if frozen else ["target requires grad"]


@pytest.mark.parametrize("frozen", [False, True])
def test_a_target_network_that_receives_a_gradient(frozen):
    toy = after_toy()
    slow, move = moving_target(toy, frozen)

    def step():
        features = toy.obs_encoder(toy.obs)
        critic_loss = F.mse_loss(toy.critic(features), slow(toy.obs[:, :5]))
        toy.critic_optimizer.zero_grad()
        critic_loss.backward()
        toy.critic_optimizer.step()
        move()

    toy.optimizers.pop("actorvae_optimizer")
    toy.modules.pop("actor_vae")
    audit = toy.audit(step)
    if frozen:
        assert audit.ok
    else:
        assert only(audit, "target gradient") == (
            "critic_loss puts a gradient on slow_critic, a target that no optimizer holds: compute "
            "what critic_loss takes from it under torch.no_grad()"
        )


def leaking_step(toy, clear):
    """The second loop without its detach, and with or without the critic's zero_grad."""
    critic_loss = toy.q_error()
    if clear:
        toy.critic_optimizer.zero_grad()
    critic_loss.backward()
    toy.critic_optimizer.step()
    if not clear:
        toy.critic.zero_grad()
        for p in toy.obs_encoder.parameters():
            p.grad = None
    vae_loss = toy.recon()
    toy.actorvae_optimizer.zero_grad()
    vae_loss.backward()
    toy.actorvae_optimizer.step()


def test_a_stale_gradient_that_joins_the_next_step():
    toy = after_toy()
    assert only(toy.audit(lambda: leaking_step(toy, clear=False)), "stale") == (
        "the gradient of vae_loss on obs_encoder is still there at critic_optimizer's next step, "
        "which applies it to obs_encoder together with that of critic_loss: call "
        "critic_optimizer.zero_grad() after vae_loss's turn, or detach obs_encoder from vae_loss"
    )
    toy = after_toy()
    assert only(toy.audit(lambda: leaking_step(toy, clear=True)), "dropped")


def test_a_forgotten_zero_grad():
    toy = after_toy()

    def step():
        critic_loss = toy.q_error()
        critic_loss.backward()
        toy.critic_optimizer.step()

    toy.modules.pop("actor_vae")
    toy.optimizers.pop("actorvae_optimizer")
    audit = toy.audit(step)
    assert kinds(audit) == ["stale", "stale"]
    assert {w.module for w in audit.warnings} == {"obs_encoder", "critic"}
    assert "call critic_optimizer.zero_grad() before" in str(audit.warnings[0])
    assert "applied, with stale" in str(audit)


def test_micro_batches_that_are_meant_to_add_up_are_no_stale_gradients():
    toy = after_toy()
    toy.modules.pop("actor_vae")
    toy.optimizers.pop("actorvae_optimizer")
    calls = []

    def step():
        calls.append(1)
        critic_loss = toy.q_error() / 2
        critic_loss.backward()
        if len(calls) % 2 == 0:
            toy.critic_optimizer.step()
            toy.critic_optimizer.zero_grad()

    audit = toy.audit(step, steps=5)
    assert audit.ok, audit
    assert line_of(audit, "critic_loss", "critic").left_over == 0


def test_an_optimizer_that_never_steps():
    toy = after_toy()

    def step():
        critic_loss = toy.q_error()
        critic_loss.backward()
        vae_loss = toy.recon(toy.obs_encoder(toy.obs).detach())
        toy.actorvae_optimizer.zero_grad()
        vae_loss.backward()
        toy.actorvae_optimizer.step()

    audit = toy.audit(step)
    assert kinds(audit) == ["no step", "no step"]
    assert "critic_optimizer, which holds it, never steps in 30 watched steps" in str(
        audit.warnings[0]
    )
    line = line_of(audit, "critic_loss", "critic")
    assert line.left_over == line.computed


def test_a_zero_grad_that_leaves_gradients_behind():
    class Forgetful(torch.optim.Adam):
        def zero_grad(self, set_to_none=True):
            pass

    toy = after_toy()
    toy.optimizers["critic_optimizer"] = toy.critic_optimizer = Forgetful(
        [*toy.critic.parameters(), *toy.obs_encoder.parameters()]
    )
    audit = toy.audit(lambda: after_step(toy))
    assert set(kinds(audit)) == {"outlived", "stale"}
    assert any("leaves the gradient of critic_loss on critic where it is" in t
               for t in texts(audit.warnings))  # fmt: skip


def test_an_optimizer_that_steps_before_the_backward_pass():
    toy = after_toy()

    def step():
        critic_loss = toy.q_error()
        toy.critic_optimizer.zero_grad()
        toy.critic_optimizer.step()
        critic_loss.backward()

    toy.modules.pop("actor_vae")
    toy.optimizers.pop("actorvae_optimizer")
    audit = toy.audit(step)
    assert set(kinds(audit)) == {"dropped"}  # says it all: zero_grad() comes before the step


def test_an_optimizer_that_steps_ahead_of_its_own_loss():
    toy = after_toy()

    def step():
        toy.critic_optimizer.step()
        toy.critic_optimizer.zero_grad()
        critic_loss = toy.q_error()
        critic_loss.backward()

    toy.modules.pop("actor_vae")
    toy.optimizers.pop("actorvae_optimizer")
    assert only(toy.audit(step), "idle step") == (
        "critic_optimizer.step() found no gradient on obs_encoder, critic in 1 of 3 calls: call it "
        "after the backward pass that reaches them"
    )


def test_an_optimizer_whose_parameters_no_loss_reaches():
    toy = after_toy()

    def step():
        critic_loss = toy.q_error()
        toy.critic_optimizer.zero_grad()
        critic_loss.backward()
        toy.critic_optimizer.step()
        toy.actorvae_optimizer.zero_grad()
        toy.actorvae_optimizer.step()

    text = only(toy.audit(step), "unreached")
    assert text.startswith("actorvae_optimizer.step() found no gradient in 3 of 3 calls")
    assert "holds actor_vae, and no loss reaches it" in text


def test_an_optimizer_that_steps_once_too_early():
    toy = after_toy()
    calls = []

    def step():
        calls.append(1)
        if len(calls) == 1:
            toy.actorvae_optimizer.step()
        after_step(toy)

    text = only(toy.audit(step), "idle step")
    assert "in 1 of 4 calls: call it after the backward pass that reaches them" in text


def test_an_optimizer_of_a_copy_that_is_no_longer_the_module():
    toy = after_toy()
    toy.optimizers["actorvae_optimizer"] = toy.actorvae_optimizer = torch.optim.Adam(
        copy.deepcopy(toy.actor_vae).parameters()
    )
    audit = toy.audit(lambda: after_step(toy))
    assert kinds(audit) == ["unheld gradient", "unnamed parameters"]
    assert "actorvae_optimizer holds 4 parameters of no named module, and no loss" in str(
        audit.warnings[1]
    )


def test_a_single_tensor_may_have_a_name():
    toy = after_toy()
    log_alpha = torch.zeros(1, requires_grad=True)
    toy.optimizers["alpha_optimizer"] = torch.optim.Adam([log_alpha])

    def step():
        after_step(toy)
        alpha_loss = (log_alpha.exp() - 2).square().sum()
        toy.optimizers["alpha_optimizer"].zero_grad()
        alpha_loss.backward()
        toy.optimizers["alpha_optimizer"].step()

    assert only(toy.audit(step), "unnamed parameters") == (
        "alpha_optimizer holds 1 parameter of no named module: name their module in modules="
    )
    toy.modules["log_alpha"] = log_alpha
    audit = toy.audit(step)
    assert audit.ok
    assert line_of(audit, "alpha_loss", "log_alpha").applied > 0


def test_an_optimizer_without_a_name():
    toy = after_toy()
    toy.optimizers.pop("actorvae_optimizer")
    assert only(toy.audit(lambda: after_step(toy)), "unnamed optimizer") == (
        "an unnamed Adam steps actor_vae: give it a name in optimizers="
    )


def test_nothing_to_see():
    toy = after_toy()
    assert only(toy.audit(lambda: None), "no backward").startswith("no backward pass was seen")


def actor_critic(freeze):
    """The critic is in the way of the actor's loss, as in every deterministic actor-critic."""
    toy = Toy()
    actor = nn.Linear(6, 5)
    toy.modules = {"actor": actor, "critic": toy.critic}
    actor_optimizer = torch.optim.Adam(actor.parameters())
    critic_optimizer = torch.optim.Adam(toy.critic.parameters())
    toy.optimizers = {"critic_optimizer": critic_optimizer, "actor_optimizer": actor_optimizer}

    def step():
        critic_loss = F.mse_loss(toy.critic(toy.obs[:, :5]), toy.target_q)
        critic_optimizer.zero_grad()
        critic_loss.backward()
        critic_optimizer.step()
        toy.critic.requires_grad_(not freeze)
        actor_loss = -toy.critic(actor(toy.obs)).mean()
        toy.critic.requires_grad_(True)
        actor_optimizer.zero_grad()
        actor_loss.backward()
        actor_optimizer.step()

    return toy.audit(step)


def test_a_critic_that_the_actors_loss_passes_through_is_no_mistake():
    audit = actor_critic(freeze=False)
    assert audit.ok
    assert texts(audit.notes) == [
        "actor_loss passes through critic and leaves a gradient there that "
        "critic_optimizer.zero_grad() wipes; harmless, as critic_loss trains it, and spared by "
        "critic.requires_grad_(False) while actor_loss is computed"
    ]
    assert "✗" not in str(audit)
    assert actor_critic(freeze=True).notes == []

"""What an audit calls a loss, and the fate of gradients that are clipped, shared or cleared."""

import pytest
import torch
from helpers.audited import Toy, after_step, after_toy, before_step, before_toy, line_of, norm, only
from torch import nn
from torch.utils.checkpoint import checkpoint

import benchbench

# ------------------------------------------------------------ ways of writing a loop


def one_loss(toy, backward, **options):
    """Audit a loop of one optimizer over the critic and the encoder."""
    toy.modules.pop("actor_vae")
    toy.optimizers.pop("actorvae_optimizer")

    def step():
        toy.critic_optimizer.zero_grad()
        backward()
        toy.critic_optimizer.step()

    return toy.audit(step, **options)


def losses_of(audit):
    return list(dict.fromkeys(e.by for e in audit.events if e.kind == "backward"))


def test_several_losses_summed_and_the_names_of_expressions():
    toy = after_toy()
    toy.optimize([toy.critic, toy.obs_encoder, toy.actor_vae], [])

    def step():
        critic_loss, vae_loss = toy.q_error(), toy.recon()
        toy.critic_optimizer.zero_grad()
        (critic_loss + vae_loss).backward()
        toy.critic_optimizer.step()

    toy.optimizers.pop("actorvae_optimizer")
    audit = toy.audit(step)
    assert audit.ok
    assert losses_of(audit) == ["critic_loss + vae_loss"]


def test_torch_autograd_backward_of_several_tensors():
    toy = after_toy()

    def backward():
        q_loss, v_loss = toy.q_error(), toy.q_error()
        torch.autograd.backward([q_loss, v_loss])

    audit = one_loss(toy, backward)
    assert audit.ok
    assert losses_of(audit) == ["q_loss + v_loss"]


def test_backward_on_chosen_inputs():
    toy = after_toy()

    def backward():
        critic_loss = toy.q_error()
        critic_loss.backward(inputs=list(toy.critic.parameters()))

    audit = one_loss(toy, backward)
    assert "critic_optimizer holds obs_encoder, and no loss reaches it" in only(audit, "unreached")
    assert line_of(audit, "critic_loss", "obs_encoder") is None


def shared_helper(optimizer, objective):
    optimizer.zero_grad()
    objective.backward()
    optimizer.step()


def test_a_helpers_loss_is_called_what_its_caller_calls_it():
    toy = after_toy()

    def step():
        critic_loss = toy.q_error()
        shared_helper(toy.critic_optimizer, critic_loss)
        vae_loss = toy.recon(toy.obs_encoder(toy.obs).detach())
        shared_helper(toy.actorvae_optimizer, vae_loss)

    assert losses_of(toy.audit(step)) == ["critic_loss", "vae_loss"]


def test_a_telling_name_is_preferred_to_loss():
    toy = after_toy()

    def update_critic(critic_loss):
        shared_helper(toy.critic_optimizer, critic_loss)

    def step():
        loss = toy.q_error()
        update_critic(loss)

    assert losses_of(toy.audit(step)) == ["critic_loss"]


def test_losses_that_are_all_called_loss_are_told_apart():
    toy = after_toy()

    def update_critic():
        loss = toy.q_error()
        toy.critic_optimizer.zero_grad()
        loss.backward()
        toy.critic_optimizer.step()

    def update_vae():
        loss = toy.recon(toy.obs_encoder(toy.obs).detach())
        toy.actorvae_optimizer.zero_grad()
        loss.backward()
        toy.actorvae_optimizer.step()

    audit = toy.audit(lambda: (update_critic(), update_vae()))
    assert losses_of(audit) == ["loss of update_critic", "loss of update_vae"]
    assert line_of(audit, "loss of update_vae", "critic") is None


def test_losses_without_any_name_are_numbered():
    toy = after_toy()
    source = (
        "def step():\n"
        "    toy.critic_optimizer.zero_grad()\n"
        "    toy.q_error().backward()\n"
        "    toy.critic_optimizer.step()\n"
    )
    room = {"toy": toy}
    exec(source, room)  # without a file, so that no source can be read
    assert losses_of(toy.audit(room["step"])) == ["loss 1"]


def test_given_names_override_and_are_counted():
    toy = before_toy()
    audit = toy.audit(lambda: before_step(toy), losses=["td", "elbo"])
    assert losses_of(audit) == ["td", "elbo"]
    for wrong in (["td"], ["td", "elbo", "actor"]):
        with pytest.raises(ValueError, match="backward passes"):
            toy.audit(lambda: before_step(toy), losses=wrong)


@pytest.mark.parametrize("set_to_none", [True, False])
def test_both_kinds_of_zero_grad(set_to_none):
    toy = before_toy()
    for optimizer in toy.optimizers.values():
        optimizer.zero_grad = lambda wipe=optimizer.zero_grad: wipe(set_to_none=set_to_none)
    assert only(toy.audit(lambda: before_step(toy)), "dropped")
    toy = after_toy()
    for optimizer in toy.optimizers.values():
        optimizer.zero_grad = lambda wipe=optimizer.zero_grad: wipe(set_to_none=set_to_none)
    assert toy.audit(lambda: after_step(toy)).ok


def test_a_modules_own_zero_grad():
    toy = after_toy()

    def step():
        critic_loss = toy.q_error()
        toy.critic.zero_grad()
        toy.obs_encoder.zero_grad()
        critic_loss.backward()
        toy.critic_optimizer.step()

    toy.modules.pop("actor_vae")
    toy.optimizers.pop("actorvae_optimizer")
    audit = toy.audit(step)
    assert audit.ok
    assert "critic.zero_grad()" in [str(event) for event in audit.events]


def test_a_gradient_that_is_cleared_by_hand():
    toy = after_toy()

    def backward():
        critic_loss = toy.q_error()
        critic_loss.backward()
        for p in toy.obs_encoder.parameters():
            p.grad = None

    text = only(one_loss(toy, backward), "dropped")
    assert text.startswith(
        "critic_loss puts a gradient on obs_encoder, and code outside zero_grad() wipes it before"
    )


def test_a_clipped_gradient_is_still_applied():
    toy = after_toy()
    plain = {}

    def step():
        critic_loss = toy.q_error()
        toy.critic_optimizer.zero_grad()
        critic_loss.backward()
        plain.setdefault("norm", norm([p.grad for p in toy.critic.parameters()]))
        nn.utils.clip_grad_norm_(toy.critic.parameters(), 0.01)
        toy.critic_optimizer.step()

    audit = toy.audit(step, steps=2, max_steps=2)
    assert audit.warnings == audit.notes == []
    assert line_of(audit, "critic_loss", "critic").applied == pytest.approx(plain["norm"], rel=1e-6)
    factor = next(e.scale["critic"] for e in audit.events if e.kind == "step")
    assert factor == pytest.approx(0.01 / plain["norm"], rel=1e-3)
    assert f"applied ✓ ×{factor:.2g}" in str(audit)


def test_a_gradient_that_was_written_to_is_a_note():
    toy = after_toy()

    def backward():
        critic_loss = toy.q_error()
        critic_loss.backward()
        for p in toy.critic.parameters():
            p.grad.add_(1.0)

    audit = one_loss(toy, backward)
    assert audit.ok
    assert {n.kind for n in audit.notes} == {"altered"}
    assert "the gradient on critic is not the sum or a multiple" in str(audit.notes[0])


def test_mixed_precision_without_a_scaler():
    toy = before_toy()

    def step():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            before_step(toy)

    assert only(toy.audit(step), "dropped")


def test_a_parameter_of_two_modules_is_booked_to_the_smaller():
    toy = after_toy()
    toy.modules = {
        "critic": nn.Sequential(toy.obs_encoder, toy.critic), "obs_encoder": toy.obs_encoder,
        "actor_vae": toy.actor_vae,
    }  # fmt: skip
    audit = toy.audit(lambda: after_step(toy), steps=2)
    other = after_toy()
    apart = other.audit(lambda: after_step(other), steps=2)
    key = ("critic_loss", "critic")
    assert line_of(audit, *key) == line_of(apart, *key)
    assert line_of(audit, "critic_loss", "obs_encoder").applied > 0


def test_one_optimizer_may_serve_two_losses():
    toy = Toy()
    toy.optimize([toy.critic, toy.actor_vae, toy.obs_encoder], [])

    def step():
        critic_loss = toy.q_error()
        toy.critic_optimizer.zero_grad()
        critic_loss.backward()
        vae_loss = toy.recon()
        vae_loss.backward()
        toy.critic_optimizer.step()

    toy.optimizers.pop("actorvae_optimizer")
    assert toy.audit(step).ok


def test_sparse_gradients():
    table = nn.Embedding(6, 2, sparse=True)
    optimizer = torch.optim.SparseAdam(table.parameters())

    def step():
        table_loss = table(torch.tensor([1, 3, 3])).square().sum()
        optimizer.zero_grad()
        table_loss.backward()
        optimizer.step()

    audit = benchbench.audit({"table": table}, {"optimizer": optimizer}, step)
    assert audit.ok
    assert line_of(audit, "table_loss", "table").applied > 0


@pytest.mark.parametrize("cleared_first", [True, False])
def test_gradients_from_before_the_audit_are_nobodys_fault(cleared_first):
    toy = after_toy()
    toy.critic(toy.obs_encoder(2 * toy.obs)).sum().backward()

    def step():
        if cleared_first:
            return after_step(toy)
        critic_loss = toy.q_error()
        critic_loss.backward()
        toy.critic_optimizer.step()
        toy.critic_optimizer.zero_grad()

    if not cleared_first:
        toy.modules.pop("actor_vae")
        toy.optimizers.pop("actorvae_optimizer")
    audit = toy.audit(step)
    assert audit.warnings == audit.notes == []


def test_reentrant_checkpoints_belong_to_the_loss_that_runs_them():
    toy, twin = after_toy(), after_toy()

    def backward():
        obs = toy.obs.clone().requires_grad_()
        critic_loss = toy.q_error(checkpoint(toy.obs_encoder, obs, use_reentrant=True))
        critic_loss.backward()

    audit = one_loss(toy, backward, steps=2)
    assert losses_of(audit) == ["critic_loss"]
    grads = torch.autograd.grad(twin.q_error(), list(twin.obs_encoder.parameters()))
    applied = line_of(audit, "critic_loss", "obs_encoder").applied
    assert applied == pytest.approx(norm(grads), rel=1e-6)


def test_two_optimizers_that_step_along_one_gradient_are_one_warning():
    toy = Toy()
    toy.optimize([toy.critic, toy.obs_encoder], [toy.obs_encoder])
    toy.modules.pop("actor_vae")

    def step():
        critic_loss = toy.q_error()
        toy.critic_optimizer.zero_grad()
        critic_loss.backward()
        toy.critic_optimizer.step()
        toy.actorvae_optimizer.step()

    audit = toy.audit(step)
    assert "both step along one gradient of critic_loss on obs_encoder" in only(
        audit, "stepped twice"
    )


def test_arguments_that_make_no_sense_are_refused_with_the_reason():
    toy = after_toy()
    critic = list(toy.critic.parameters())
    with pytest.raises(ValueError, match="use 2 or more"):
        toy.audit(print, steps=1)
    with pytest.raises(ValueError, match="pass optimizers"):
        benchbench.audit(toy.modules, {"critic_optimizer": critic}, print)
    with pytest.raises(ValueError, match="pass step="):
        benchbench.audit(toy)
    with pytest.raises(ValueError, match="no torch module was found in this list"):
        benchbench.audit([1, 2], print)

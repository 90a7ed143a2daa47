"""The audit of anyone's training loop: right numbers, the right warnings, and no disturbance."""

import copy
import doctest
import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from helpers.agents import all_weights, assert_equal, make_agent, make_batches
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import benchbench
from benchbench.cli.audit_figure import flows_figure
from benchbench.cli.main import main
from benchbench.gradients import audit as audit_room
from benchbench.gradients.watch import Unwatchable
from benchbench.launch.suite_audit import Bar, Flow
from benchbench.routing import REGISTRY

QUICKSTART = Path(__file__).parents[2] / "suites" / "quickstart.yaml"
OPTIMIZERS = (torch.optim.Adam, torch.optim.SGD)


class Toy:
    """The brief's three modules, with whatever optimizers a test gives them."""

    def __init__(self, seed=0):
        torch.manual_seed(seed)
        self.obs_encoder = nn.Sequential(nn.Linear(6, 5), nn.Tanh())
        self.critic = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 1))
        self.actor_vae = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2))
        self.obs, self.action = torch.randn(12, 6), torch.randn(12, 2)
        self.target_q = torch.randn(12, 1)
        self.modules = {
            "obs_encoder": self.obs_encoder, "critic": self.critic, "actor_vae": self.actor_vae,
        }  # fmt: skip

    def optimize(self, critic, vae, kind=torch.optim.Adam):
        """Optimizers over lists of modules, by the brief's names."""
        self.critic_optimizer, self.actorvae_optimizer = (
            kind([p for m in modules for p in m.parameters()], lr=0.01) if modules else None
            for modules in (critic, vae)
        )
        self.optimizers = {
            "critic_optimizer": self.critic_optimizer,
            "actorvae_optimizer": self.actorvae_optimizer,
        }
        return self

    def q_error(self, features=None):
        features = self.obs_encoder(self.obs) if features is None else features
        return F.mse_loss(self.critic(features), self.target_q)

    def recon(self, features=None):
        features = self.obs_encoder(self.obs) if features is None else features
        return F.mse_loss(self.actor_vae(features), self.action)

    def parameters(self):
        return [p for m in self.modules.values() for p in m.parameters()]

    def weights(self):
        return [p.detach().clone() for p in self.parameters()]

    def audit(self, step, **options):
        return benchbench.audit(self.modules, self.optimizers, step, **options)


def before_toy(kind=torch.optim.Adam):
    toy = Toy()
    return toy.optimize([toy.critic], [toy.actor_vae, toy.obs_encoder], kind)


def after_toy(kind=torch.optim.Adam):
    toy = Toy()
    return toy.optimize([toy.critic, toy.obs_encoder], [toy.actor_vae], kind)


def before_step(toy):
    """The brief's first loop."""
    critic_loss = toy.q_error()
    toy.critic_optimizer.zero_grad()
    critic_loss.backward()
    toy.critic_optimizer.step()
    vae_loss = toy.recon()
    toy.actorvae_optimizer.zero_grad()
    vae_loss.backward()
    toy.actorvae_optimizer.step()


def after_step(toy):
    """The brief's second loop."""
    critic_loss = toy.q_error()
    toy.critic_optimizer.zero_grad()
    critic_loss.backward()
    toy.critic_optimizer.step()
    vae_loss = toy.recon(toy.obs_encoder(toy.obs).detach())
    toy.actorvae_optimizer.zero_grad()
    vae_loss.backward()
    toy.actorvae_optimizer.step()


def texts(findings):
    return [str(finding) for finding in findings]


def line_of(audit, loss, module):
    found = [line for line in audit.ledger if (line.loss, line.module) == (loss, module)]
    return found[0] if found else None


def norm(gradients):
    return float(sum(g.double().square().sum() for g in gradients)) ** 0.5


# ------------------------------------------------------------ the brief's two loops


def test_the_briefs_first_loop_gets_the_briefs_own_diagnosis():
    toy = before_toy()
    audit = toy.audit(lambda: before_step(toy))
    assert texts(audit.warnings) == [
        "critic_loss puts a gradient on obs_encoder, and actorvae_optimizer.zero_grad() wipes it "
        "before any step: add obs_encoder to critic_optimizer, or detach it from critic_loss"
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
        "any step: add obs_encoder to actorvae_optimizer, or detach it from vae_loss"
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
    assert audit.ok
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


# ------------------------------------------------------------ each warning, and its absence


def kinds(audit):
    return [warning.kind for warning in audit.warnings]


def only(audit, kind):
    assert kinds(audit) == [kind], texts(audit.warnings)
    return str(audit.warnings[0])


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
    text = only(toy.audit(lambda: before_step(toy)), "two optimizers")
    assert text.startswith("obs_encoder is in critic_optimizer and actorvae_optimizer")


def test_a_part_of_a_module_is_called_by_its_parameters():
    toy = Toy()
    toy.optimize([toy.critic, toy.obs_encoder], [toy.actor_vae, toy.critic[2]])
    text = only(toy.audit(lambda: after_step(toy)), "two optimizers")
    assert text.startswith("critic (2.weight, 2.bias) is in critic_optimizer and")


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
        "vae_loss leaves a gradient on obs_encoder after critic_optimizer.step(), and it is added "
        "to critic_optimizer's next step: call critic_optimizer.zero_grad() at the start of its "
        "turn, or detach obs_encoder from vae_loss"
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
    assert "critic_optimizer, which holds it, took no step after it" in str(audit.warnings[0])
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
        "critic_optimizer.step() found no gradient on critic, obs_encoder in 1 of 3 calls: call it "
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

    text = only(toy.audit(step), "idle step")
    assert text.startswith("actorvae_optimizer.step() found no gradient on actor_vae in 3 of 3")
    assert "no loss reaches them" in text


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
        "critic_optimizer.zero_grad() wipes; harmless, and spared by critic.requires_grad_(False) "
        "while actor_loss is computed"
    ]
    assert "✗" not in str(audit)
    assert actor_critic(freeze=True).notes == []


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
    assert audit.ok
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

    audit = toy.audit(step, steps=2)
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
    assert only(audit, "two optimizers")
    assert audit.notes == []


def test_what_cannot_be_watched_is_refused_with_the_reason():
    toy = after_toy()
    critic = list(toy.critic.parameters())
    with pytest.raises(Unwatchable, match=r"critic_optimizer is LBFGS.*first-order"):
        benchbench.audit(toy.modules, {"critic_optimizer": torch.optim.LBFGS(critic)}, print)

    def step():
        toy.critic_optimizer.step(lambda: toy.q_error())

    with pytest.raises(Unwatchable, match="critic_optimizer steps with a closure"):
        toy.audit(step)
    with pytest.raises(ValueError, match="use 2 or more"):
        toy.audit(print, steps=1)
    with pytest.raises(ValueError, match="pass torch optimizers"):
        benchbench.audit(toy.modules, {"critic_optimizer": critic}, print)


# ------------------------------------------------------------ the public face


def test_the_readmes_example_does_what_it_says():
    result = doctest.testmod(audit_room, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert (result.failed, result.attempted > 5) == (0, True)


def test_importing_benchbench_imports_no_torch():
    code = "import sys, benchbench; assert 'torch' not in sys.modules; assert benchbench.audit"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_picture_draws_each_fate_of_its_own():
    loop = ("zero_grad", "critic_optimizer"), ("backward", "critic_loss"), ("step", "critic_loss")
    bars = Bar("critic_loss", 0.5, 1, (2,), 3), Bar("vae_loss", 0.25, -2, (), 0)
    (ax,) = flows_figure([Flow("mine", ("critic_optimizer",), loop, bars)]).axes
    applied, dropped = ax.patches
    assert (applied.get_x(), applied.get_width(), applied.get_hatch()) == (1, 1, None)
    assert (dropped.get_x(), dropped.get_width()) == (-0.5, 0.5)
    assert dropped.get_hatch()
    signs = [(line.get_marker(), line.get_xdata()[0]) for line in ax.lines]
    assert ("v", 2) in signs
    assert ("X", 0) in signs
    assert "0.5" in [text.get_text() for text in ax.texts]


SMALL = (
    "--set", "pixels.size=16", "--set", "train.batch_size=8", "--set", "agent.hidden=[16]",
    "--set", "envs.0.data.transitions=1500",
)  # fmt: skip


def test_the_command_shows_the_flows_of_the_variants_and_draws_them(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCHBENCH_DATA", str(tmp_path))
    figure = tmp_path / "flows.svg"
    command = ["audit", str(QUICKSTART), *SMALL, "--figure", str(figure)]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    before, after = result.output.split("══ after ══")
    assert "warning 1: critic_loss puts a gradient on obs_encoder, and actorvae_optimizer" in before
    assert "no warnings" in after
    assert result.output.count("measured: as declared") == 2
    svg = figure.read_bytes()
    assert svg.startswith(b"<?xml")
    chosen = [f"--variant={name}" for name in REGISTRY]
    result = CliRunner().invoke(main, ["audit", str(QUICKSTART), *SMALL, *chosen])
    assert result.exit_code == 0, result.output
    assert [f"══ {name} ══" in result.output for name in REGISTRY] == [True] * len(REGISTRY)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--variant", "befor"], "did you mean 'before'?"),
        (["--figure", "flows.gif"], "ends in .png, .svg, .pdf"),
        (["--figure", "nowhere/flows.png"], "make it first"),
        (
            [
                f"--set={key}"
                for key in ("observation=state", "variants=[frozen]", "envs.0.proprio=[]")
            ],
            "no encoder to audit",
        ),
    ],
)
def test_mistakes_in_the_command_are_told_without_a_traceback(options, words):
    result = CliRunner().invoke(main, ["audit", str(QUICKSTART), *options])
    assert result.exit_code == 2, result.output
    assert words in result.output

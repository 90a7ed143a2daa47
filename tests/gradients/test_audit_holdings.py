"""What is wrong with optimizers and parameters, in several forms: right verdict, right cure."""

import copy
import itertools

import pytest
import torch
from helpers.actor_critic import Agent, adam, turn, x
from helpers.audited import kinds
from torch import nn

import benchbench

pytestmark = pytest.mark.usefixtures("same_numbers")

# ------------------------------------------------------------ held, and reached by nothing


def test_a_detached_module_in_a_shared_optimizer():
    def step(a):
        turn(a.both_opt, a.q(a.encoder(x()).detach(), x(2)).square().mean())

    audit = Agent().audit(step, "encoder critic", "both_opt")
    assert [(w.kind, w.module) for w in audit.warnings] == [("unreached", "encoder")]
    assert str(audit.warnings[0]).startswith("both_opt holds encoder, and no loss reaches it")
    assert [line.moved for line in audit.ledger if line.module == "encoder"] == [()]


def test_a_layer_that_is_never_used():
    head = nn.ModuleDict({"used": nn.Linear(4, 1), "spare": nn.Linear(4, 1)})
    opt = adam(head)
    audit = benchbench.audit(
        {"head": head}, {"opt": opt}, lambda: turn(opt, head["used"](x()).square().mean())
    )
    assert kinds(audit) == ["unreached"]
    assert "opt holds head (spare.weight, spare.bias)" in str(audit.warnings[0])


def test_a_layer_behind_dead_activations():
    encoder, head = nn.Sequential(nn.Linear(4, 4), nn.ReLU()), nn.Linear(4, 1)
    nn.init.constant_(encoder[0].bias, -1e3)
    opt = adam(encoder, head)
    audit = benchbench.audit(
        {"encoder": encoder, "head": head}, {"opt": opt},
        lambda: turn(opt, (head(encoder(x())) - 1).square().mean()),
    )  # fmt: skip
    assert ("unreached", "encoder") in [(w.kind, w.module) for w in audit.warnings]
    assert "zero throughout" in str(audit.warnings[0])


def target_step(critic, target, opt, clear_to_none=True):
    def step():
        with torch.no_grad():
            goal = target(x())
        critic_loss = (critic(x()) - goal).square().mean()
        opt.zero_grad(set_to_none=clear_to_none)
        critic_loss.backward()
        opt.step()
        with torch.no_grad():
            for old, new in zip(target.parameters(), critic.parameters(), strict=True):
                old.lerp_(new, 0.1)

    return step


def test_a_target_network_inside_adamw():
    critic = nn.Linear(4, 1)
    target = copy.deepcopy(critic)
    opt = torch.optim.AdamW([*critic.parameters(), *target.parameters()], lr=1e-2)
    modules = {"critic": critic, "critic_target": target}
    audit = benchbench.audit(modules, {"opt": opt}, target_step(critic, target, opt))
    assert [(w.kind, w.module) for w in audit.warnings] == [("unreached", "critic_target")]
    assert "leave it out of opt" in str(audit.warnings[0])
    assert audit.moved["critic_target"] == ("code outside step()",)
    for p in target.parameters():
        p.grad = torch.zeros_like(p)  # as zero_grad(set_to_none=False) leaves them: decay acts
    audit = benchbench.audit(modules, {"opt": opt}, target_step(critic, target, opt, False))
    assert set(audit.moved["critic_target"]) == {"opt", "code outside step()"}
    frozen = torch.optim.AdamW(critic.parameters(), lr=1e-2)
    audit = benchbench.audit(modules, {"opt": frozen}, target_step(critic, target, frozen))
    assert audit.ok


def test_parameters_put_in_later():
    body, extra = nn.Linear(4, 1), nn.Linear(4, 1)
    opt, calls = adam(body), itertools.count()

    def step():
        if next(calls) == 1:
            opt.add_param_group({"params": list(extra.parameters())})
        turn(opt, body(x()).square().mean())

    audit = benchbench.audit({"body": body, "extra": extra}, {"opt": opt}, step)
    assert ("unreached", "extra") in [(w.kind, w.module) for w in audit.warnings]

    net = nn.Sequential(nn.Linear(4, 4))
    late = adam(net)
    net.append(nn.Linear(4, 1))  # after the optimizer was made
    audit = benchbench.audit(
        {"net": net}, {"late": late}, lambda: turn(late, net(x()).square().mean())
    )
    assert kinds(audit) == ["unheld gradient"]
    assert "net (1.weight, 1.bias), which is in no optimizer" in str(audit.warnings[0])


# ------------------------------------------------------------ two optimizers, one gradient


def test_one_gradient_that_two_optimizers_step_along():
    """CURL's contrastive step: encoder_optimizer and cpc_optimizer both hold the encoder."""
    a = Agent()
    a.cpc_opt = adam(a.encoder, a.head)

    def step(a):
        cpc_loss = a.head(a.encoder(x())).square().mean()
        a.encoder_opt.zero_grad()
        a.cpc_opt.zero_grad()
        cpc_loss.backward()
        a.encoder_opt.step()
        a.cpc_opt.step()

    audit = a.audit(step, "encoder head", "encoder_opt cpc_opt")
    assert kinds(audit) == ["stepped twice"]
    assert str(audit.warnings[0]).startswith(
        "encoder_opt and cpc_opt both step along one gradient of cpc_loss on encoder"
    )


# ------------------------------------------------------------ what is not finite, or not there


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_gradients_that_are_not_finite(bad):
    def step(a):
        turn(a.head_opt, a.head(x()).square().mean() * bad)

    audit = Agent().audit(step, "head", "head_opt")
    assert "not finite" in kinds(audit)
    assert not audit.ok
    assert audit.to_dict()["ledger"][0]["computed"] is None
    audit.to_json()


def test_windows_in_which_nothing_was_booked_are_never_all_right():
    a = Agent()
    nothing = a.audit(lambda a: None, "head", "head_opt")
    assert "no backward" in kinds(nothing)
    other = nn.Linear(4, 1)
    elsewhere = a.audit(lambda a: other(x()).mean().backward(), "head", "head_opt")
    assert "nothing booked" in kinds(elsewhere)

    def only_step(a):
        a.head_opt.step()

    for audit in (nothing, elsewhere, a.audit(only_step, "head", "head_opt")):
        assert not audit.ok
        assert "no warnings" not in str(audit)
        assert "no warnings" not in audit.to_markdown()


def test_a_gradient_that_no_optimizer_uses_is_not_all_right():
    a = Agent()
    audit = benchbench.audit({"head": a.head}, {}, lambda: a.head(x()).square().mean().backward())
    assert not audit.ok


def test_an_optimizer_that_was_not_seen_to_step_is_unknown_and_the_window_is_lengthened():
    calls = itertools.count(1)

    def step(a):
        critic_loss = a.q(x(), x(2)).square().mean()
        turn(a.critic_opt, critic_loss)
        if next(calls) % 7 == 0:
            head_loss = a.head(x()).square().mean()
            turn(a.head_opt, head_loss)

    audit = Agent().audit(step, "critic head", "critic_opt head_opt")
    assert audit.ok
    assert audit.steps == 14
    calls = itertools.count(1)
    short = Agent().audit(step, "critic head", "critic_opt head_opt", max_steps=3)
    assert not short.ok
    assert [u.kind for u in short.unknown] == ["not seen"]
    assert "no warnings" not in str(short)

"""What an earlier part of the process leaves behind does not blur an audit: gradients and NaN."""

import pytest
import torch
from torch import nn

import benchbench


@pytest.fixture
def parts():
    torch.manual_seed(0)
    encoder, head = nn.Linear(4, 4), nn.Linear(4, 1)
    return {"encoder": encoder, "head": head}, torch.optim.Adam(
        [*encoder.parameters(), *head.parameters()]
    )


def x():
    return torch.randn(8, 4)


def step_of(opt, loss_of):
    def step():
        opt.zero_grad()
        loss = loss_of()
        loss.backward()
        opt.step()

    return step


@pytest.mark.parametrize("left_over", [True, False])
def test_a_gradient_from_before_the_watch_reaches_nothing(parts, left_over):
    """It must not hide that no watched loss reaches the encoder: a false ok."""
    modules, opt = parts
    if left_over:
        modules["head"](modules["encoder"](x())).mean().backward()
    detached = step_of(opt, lambda: modules["head"](modules["encoder"](x()).detach()).mean())
    audit = benchbench.audit(modules, {"opt": opt}, detached)
    assert not audit.ok
    assert [(w.kind, w.module) for w in audit.warnings] == [("unreached", "encoder")], audit


def test_a_module_in_no_optimizer_with_a_gradient_from_before_the_watch(parts):
    modules, opt = parts
    spare = nn.Linear(4, 1)
    spare(x()).mean().backward()
    train = step_of(opt, lambda: modules["head"](modules["encoder"](x())).mean())
    audit = benchbench.audit({**modules, "spare": spare}, {"opt": opt}, train)
    assert [(w.kind, w.module) for w in audit.warnings] == [("unheld", "spare")], audit


@pytest.mark.parametrize("poisoned", ["head", "encoder"])
def test_weights_that_never_were_finite_are_named_and_nothing_else_is_warned_of(parts, poisoned):
    modules, opt = parts
    with torch.no_grad():
        modules[poisoned].weight.fill_(float("nan"))
    train = step_of(opt, lambda: modules["head"](modules["encoder"](x())).square().mean())
    audit = benchbench.audit(modules, {"opt": opt}, train)
    assert audit.warnings
    assert {w.kind for w in audit.warnings} == {"not finite"}, audit
    assert all(f"the weights of {poisoned} (weight), which" in w.text for w in audit.warnings)


def test_a_loss_that_stops_being_finite_is_not_laid_to_the_weights(parts):
    modules, opt = parts
    nan = float("nan")
    train = step_of(opt, lambda: modules["head"](modules["encoder"](x())).mean() * nan)
    audit = benchbench.audit(modules, {"opt": opt}, train)
    assert {w.kind for w in audit.warnings} == {"not finite"}, audit
    assert all("find where loss stops being finite" in w.text for w in audit.warnings)


def test_finite_gradients_that_move_nothing_are_still_warned_of(parts):
    modules, opt = parts
    opt.param_groups[0]["lr"] = 0.0
    train = step_of(opt, lambda: modules["head"](modules["encoder"](x())).mean())
    audit = benchbench.audit(modules, {"opt": opt}, train)
    assert [w.kind for w in audit.warnings] == ["not moved"], audit

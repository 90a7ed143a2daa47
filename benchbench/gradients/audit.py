"""An audit of anyone's training loop: which gradient reaches which module, and what becomes of it.

:func:`audit` is public as ``benchbench.audit``. It runs a few real training steps under a
:class:`~benchbench.gradients.watch.GradientWatch` and judges what it saw.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from benchbench.gradients.findings import NOTES, Finding, findings
from benchbench.gradients.loss_names import LossNames, Name, labels
from benchbench.gradients.record import NOT_LOSSES, UNNAMED, Event, Share
from benchbench.gradients.text import audit_text
from benchbench.gradients.watch import GradientWatch, Unwatchable, held_by, named_parameters

Modules = Mapping[str, nn.Module | torch.Tensor]
Optimizers = Mapping[str, torch.optim.Optimizer]


@dataclass(frozen=True)
class Line:
    """What became of one loss's gradient on one module.

    L2 norms as the backward pass computed them, per step: the root mean square over the booked
    steps in which the loss ran. Their squares add up: computed² = applied² + dropped² + left_over².
    """

    loss: str
    module: str
    computed: float
    applied: float
    """In ``.grad`` when an optimizer that holds the parameters stepped, clipped or not."""
    dropped: float
    """Cleared before any step."""
    left_over: float
    """Neither, by the end of the step after."""
    applied_by: tuple[str, ...]
    dropped_by: tuple[str, ...]
    """What cleared it, such as ``vae_optimizer.zero_grad()``."""


@dataclass(frozen=True)
class Life:
    """One loss's gradient on one module from birth to end, as positions among the events."""

    loss: str
    born: int
    norm: float
    applied: tuple[int, ...]
    ended: int | None


@dataclass(frozen=True, repr=False)
class Audit:
    """What :func:`audit` saw. ``print`` it; ``audit.warnings`` is empty where all is well."""

    steps: int
    """How many training steps were watched; the last only to see earlier gradients end."""
    modules: tuple[str, ...]
    events: list[Event]
    """Every backward pass, ``zero_grad`` and ``step``, in the order of time."""
    shares: list[Share]
    """Every gradient of every backward pass on every parameter, with its end."""
    ledger: list[Line]
    """A line for every loss and module with a gradient between them."""
    warnings: list[Finding]
    notes: list[Finding]
    """Worth knowing, and no mistakes."""

    @property
    def ok(self) -> bool:
        """Whether there is nothing to warn of."""
        return not self.warnings

    @property
    def shown_step(self) -> int:
        """The step that stands for the loop: the last of the booked ones with the most events."""
        booked = range(1, self.steps)
        return max(booked, key=lambda step: (sum(e.step == step for e in self.events), step))

    def lives(self, module: str) -> list[Life]:
        """The gradients on a module, in the order of their birth."""
        squares: dict[tuple[int, str, tuple[int, ...], int | None], float] = {}
        for share in self.shares:
            if share.module == module and share.loss not in NOT_LOSSES:
                key = (share.born, share.loss, tuple(share.applied), share.ended)
                squares[key] = squares.get(key, 0.0) + share.square
        return [
            Life(loss, born, total**0.5, applied, ended)
            for (born, loss, applied, ended), total in squares.items()
        ]

    def __str__(self) -> str:
        return audit_text(self)

    __repr__ = __str__


def audit(
    modules: Modules,
    optimizers: Optimizers,
    step: Callable[[], Any],
    *,
    steps: int = 3,
    losses: Sequence[str] | None = None,
    restore: bool = False,
) -> Audit:
    """Watch what becomes of every gradient in a few steps of training.

    >>> import torch, benchbench
    >>> obs_encoder, critic, actor_vae = (torch.nn.Linear(*s) for s in ((8, 4), (4, 1), (4, 2)))
    >>> critic_optimizer = torch.optim.Adam(critic.parameters())
    >>> vae_optimizer = torch.optim.Adam([*actor_vae.parameters(), *obs_encoder.parameters()])
    >>> def step():
    ...     critic_loss = (critic(obs_encoder(torch.ones(16, 8))) - 1).square().mean()
    ...     critic_optimizer.zero_grad(); critic_loss.backward(); critic_optimizer.step()
    ...     vae_loss = actor_vae(obs_encoder(torch.ones(16, 8))).square().mean()
    ...     vae_optimizer.zero_grad(); vae_loss.backward(); vae_optimizer.step()
    >>> modules = {"obs_encoder": obs_encoder, "critic": critic, "actor_vae": actor_vae}
    >>> optimizers = {"critic_optimizer": critic_optimizer, "vae_optimizer": vae_optimizer}
    >>> print(*benchbench.audit(modules, optimizers, step).warnings)
    critic_loss puts a gradient on obs_encoder, and vae_optimizer.zero_grad() wipes it before any
    step: add obs_encoder to critic_optimizer, or detach it from critic_loss

    ``modules`` are those of the agent by name, target networks included; a single tensor (such as
    SAC's ``log_alpha``) may stand for a module. A parameter of several modules is booked to the
    smallest. ``optimizers`` are all optimizers by name. ``step`` runs one real training step: it is
    called ``steps`` times (at least 2; more where a loss runs only every so often), with the same
    result, bit for bit, as without an audit. So the weights move; with ``restore`` the named
    modules, the optimizers, ``.grad`` and torch's random state are put back afterwards, and what
    ``step`` keeps besides (its batches, modules without a name here) is not.

    A loss is called what the variable is called on which ``backward()`` is called; ``losses``, the
    names in the order of one step's backward passes, overrides that.

    Raises :class:`ValueError` for arguments that make no sense, and ``Unwatchable`` for optimizers
    that step with a closure (LBFGS). What ``step`` raises passes through; patches are undone.
    """
    if steps < 2:
        raise ValueError(f"steps={steps}: a gradient's end shows in the step after; use 2 or more")
    for name, optimizer in optimizers.items():
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise ValueError(
                f"optimizers[{name!r}] is a {type(optimizer).__name__}; pass torch optimizers"
            )
        if isinstance(optimizer, torch.optim.LBFGS):
            raise Unwatchable(
                f"{name} is LBFGS, which runs backward passes of its own within step(); audit the "
                "loop with a first-order optimizer in its place, such as SGD"
            )
    given = _GivenNames(losses) if losses is not None else None

    def one_step() -> None:
        step()
        if given:
            given.end_step()

    # The frames of audit_steps and below are not the user's.
    name_loss = given or LossNames(audit_steps.__code__)
    with _restored(modules, optimizers) if restore else _kept():
        return audit_steps(modules, optimizers, one_step, steps, name_loss)


def audit_steps(
    modules: Modules,
    optimizers: Optimizers,
    step: Callable[[], Any],
    steps: int,
    name_loss: Callable[[Sequence[torch.Tensor]], Hashable],
) -> Audit:
    """The audit itself, with losses named by whatever ``name_loss`` calls them."""
    watch = GradientWatch(modules, optimizers, name_loss, paths=True)
    unheld = {p: p.detach().clone() for p in watch.home if not watch.holders(p)}
    for _ in range(steps):
        with watch.step():
            step()
    for share in watch.shares:
        share.grad = None  # the books keep norms, not tensors
    _relabel(watch)
    moved = {p for p, before in unheld.items() if not torch.equal(p.detach(), before)}
    found = findings(watch, moved)
    named = [*modules, UNNAMED]
    seen = {share.module for share in watch.shares if share.loss not in NOT_LOSSES}
    return Audit(
        steps=steps,
        modules=tuple(name for name in named if name in seen),
        events=watch.events,
        shares=watch.shares,
        ledger=_lines(watch, named),
        warnings=[finding for finding in found if finding.kind not in NOTES],
        notes=[finding for finding in found if finding.kind in NOTES],
    )


class _GivenNames:
    """Names losses by the user's list."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names, self._position = list(names), 0

    def __call__(self, tensors: Sequence[torch.Tensor]) -> str:
        if self._position == len(self._names):
            raise ValueError(f"losses names {self._names}, and a step runs more backward passes")
        self._position += 1
        return self._names[self._position - 1]

    def end_step(self) -> None:
        if self._position < len(self._names):
            raise ValueError(
                f"losses names {self._names}, and a step runs only {self._position} backward passes"
            )
        self._position = 0


def _relabel(watch: GradientWatch) -> None:
    """Put texts in the place of names whose distinction needed all of them to be known."""
    texts = labels([e.by for e in watch.events if isinstance(e.by, Name)])
    for event in watch.events:
        event.by = texts.get(event.by, event.by)
    for share in watch.shares:
        share.loss = texts.get(share.loss, share.loss)


def _lines(watch: GradientWatch, modules: Sequence[str]) -> list[Line]:
    ran: dict[str, set[int]] = {}
    for event in watch.events:
        if event.kind == "backward" and event.step < watch.steps:
            ran.setdefault(event.by, set()).add(event.step)
    groups: dict[tuple[str, str], list[Share]] = {
        (loss, module): [] for loss in ran for module in modules
    }
    for share in watch.shares:
        if share.loss in ran and share.step < watch.steps:
            groups[share.loss, share.module].append(share)

    def norm(shares: Sequence[Share], loss: str) -> float:
        return float((sum(s.square for s in shares) / len(ran[loss])) ** 0.5)

    lines = []
    for (loss, module), shares in groups.items():
        if not shares:
            continue
        left = [s for s in shares if not s.applied and s.ended is None]
        steppers = [watch.events[i].by for s in shares for i in s.applied]
        wipers = [str(watch.events[s.ended]) for s in shares if s.dropped and s.ended is not None]
        lines.append(
            Line(
                loss,
                module,
                computed=norm(shares, loss),
                applied=norm([s for s in shares if s.applied], loss),
                dropped=norm([s for s in shares if s.dropped], loss),
                left_over=norm(left, loss),
                applied_by=tuple(dict.fromkeys(steppers)),
                dropped_by=tuple(dict.fromkeys(wipers)),
            )
        )
    return lines


@contextmanager
def _kept() -> Iterator[None]:
    yield


@contextmanager
def _restored(modules: Modules, optimizers: Optimizers) -> Iterator[None]:
    """Put back weights, buffers, ``.grad``, optimizer states and torch's random state."""
    tensors = {t: None for module in modules.values() for t in named_parameters(module).values()}
    tensors |= {t: None for optimizer in optimizers.values() for t in held_by(optimizer)}
    trained = [m for m in modules.values() if isinstance(m, nn.Module)]
    everything = [*tensors, *(buffer for module in trained for buffer in module.buffers())]
    values = [(t, t.detach().clone()) for t in everything]
    grads = [(p, None if p.grad is None else p.grad.detach().clone()) for p in tensors]
    states = [(o, copy.deepcopy(o.state_dict())) for o in optimizers.values()]
    devices = sorted({t.device.index or 0 for t in everything if t.is_cuda})
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        with torch.no_grad():
            for tensor, value in values:
                tensor.copy_(value)
        for parameter, grad in grads:
            parameter.grad = grad
        for optimizer, state in states:
            optimizer.load_state_dict(state)

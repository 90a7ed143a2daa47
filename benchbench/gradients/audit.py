"""An audit of anyone's training loop: which gradient reaches which module, and its fate there.

:func:`audit` and :func:`watch` are public as ``benchbench.audit`` and ``benchbench.watch``. They
run a few real training steps under a :class:`~benchbench.gradients.watch.GradientWatch` and judge
what it saw.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from benchbench.gradients.find import (
    find,
    held_by,
    is_optimizer,
    named_parameters,
    optimizers_of,
    seen_from,
)
from benchbench.gradients.loss_names import GivenNames, LossNames, Name, labels
from benchbench.gradients.patches import patched
from benchbench.gradients.result import Audit, Line, audit_of
from benchbench.gradients.watch import GradientWatch, Modules

__all__ = ["Audit", "Line", "Watch", "audit", "audit_steps", "watch"]

Optimizers = Mapping[str, Any]


def audit(
    agent: Any,
    optimizers: Optimizers | Callable[[], Any] | None = None,
    step: Callable[[], Any] | None = None,
    *,
    steps: int = 3,
    max_steps: int | None = None,
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
    step: detach obs_encoder from critic_loss, as vae_loss trains it by vae_optimizer; or, if
    critic_loss is to train it too, add obs_encoder to critic_optimizer

    ``audit(agent, step)`` finds modules and optimizers itself: among the agent's attributes, what
    ``step`` can see, and the optimizers alive that hold the agent's parameters. Or name them:
    ``audit(modules, optimizers, step)`` takes mappings by name, target networks included; a single
    tensor (such as SAC's ``log_alpha``) may stand for a module. A parameter of several modules is
    booked to the smallest, and what modules share of which none is part of the other has a row of
    its own, ``actor ∩ critic``.

    ``step`` runs one real training step. It is called ``steps`` times (at least 2), and then until
    every optimizer has stepped twice, at most ``max_steps`` times (by default ten times
    ``steps``); what was not seen by then is said. Training has the same result, bit for bit, as
    without an audit. So the weights move; with ``restore`` the named modules, the optimizers,
    ``.grad`` and torch's random state are put back afterwards, and what ``step`` keeps besides (its
    batches, modules without a name here) is not.

    A loss is called what the variable is called on which ``backward()`` is called; ``losses``, the
    names in the order of a full step's backward passes, overrides that.

    Raises :class:`ValueError` for arguments that make no sense. What ``step`` raises passes
    through; patches are undone.
    """
    if step is None and callable(optimizers) and not isinstance(optimizers, Mapping):
        optimizers, step = None, optimizers
    if step is None:
        raise ValueError("pass step=, a function that runs one training step")
    if steps < 2:
        raise ValueError(f"steps={steps}: a gradient's end shows in the step after; use 2 or more")
    assert optimizers is None or isinstance(optimizers, Mapping)
    modules, found = _modules_and_optimizers(agent, optimizers, step)
    most = max(steps, max_steps if max_steps is not None else 10 * steps)
    name_loss = GivenNames(losses, audit_steps.__code__) if losses is not None else None
    with _restored(modules, found) if restore else nullcontext():
        # The frames of audit_steps and below are not the user's.
        return audit_steps(
            modules, found, step, steps, name_loss or LossNames(audit_steps.__code__), most,
            finds=optimizers is None,
        )  # fmt: skip


def audit_steps(
    modules: Modules,
    optimizers: Optimizers,
    step: Callable[[], Any],
    steps: int,
    name_loss: Callable[[Sequence[Any]], Hashable],
    most: int | None = None,
    finds: bool = False,
) -> Audit:
    """The audit itself, with losses named by whatever ``name_loss`` calls them."""
    seen = GradientWatch(modules, optimizers, name_loss, audit=True)
    seen.finds = finds
    while seen.steps < steps or (seen.steps < (most or steps) and not _enough(seen)):
        with seen.step():
            step()
        if isinstance(name_loss, GivenNames):
            name_loss.end_step()
    _relabel(seen, name_loss)
    return audit_of(seen)


def watch(agent: Any, optimizers: Optimizers | None = None) -> Watch:
    """Watch a loop that is written inline; see :class:`Watch`.

    ``agent`` and ``optimizers`` are as in :func:`audit`.
    """
    watching = Watch(*_modules_and_optimizers(agent, optimizers, None))
    watching.finds(optimizers is None)
    return watching


class Watch:
    """Watches the training in a ``with`` block; call :meth:`next_step` at the end of each step.

    >>> import torch, benchbench
    >>> critic = torch.nn.Linear(8, 1)
    >>> optimizer = torch.optim.Adam(critic.parameters())
    >>> with benchbench.watch({"critic": critic}, {"optimizer": optimizer}) as w:
    ...     for _ in range(3):
    ...         critic_loss = critic(torch.ones(4, 8)).square().mean()
    ...         optimizer.zero_grad(); critic_loss.backward(); optimizer.step()
    ...         w.next_step()
    >>> w.audit.ok
    True
    """

    def __init__(
        self, modules: Modules, optimizers: Optimizers,
        source: Callable[[], tuple[Modules, Optimizers]] | None = None,
    ) -> None:  # fmt: skip
        self._watch = GradientWatch(modules, optimizers, LossNames(None), True, source)
        self._undo = ExitStack()
        self._audit: Audit | None = None

    def __enter__(self) -> Watch:
        self._undo.enter_context(patched(self._watch))
        self._watch.start_step()
        return self

    def next_step(self) -> None:
        """A training step has ended, and another may begin."""
        self._watch.end_step()
        self._watch.start_step()

    def finds(self, whether: bool) -> None:
        """Whether optimizers that are met without a name are no mistake."""
        self._watch.finds = whether

    @property
    def enough(self) -> bool:
        """Whether every optimizer has stepped twice."""
        return _enough(self._watch)

    def __exit__(self, *error: Any) -> None:
        self._watch.end_step()
        self._undo.close()
        if (
            self._watch.steps > 1
            and self._watch.events[-1:]
            and (self._watch.events[-1].step < self._watch.steps)
        ):
            self._watch.steps -= 1  # next_step() was called at the end of the last one
        _relabel(self._watch, None)
        self._audit = audit_of(self._watch)

    @property
    def audit(self) -> Audit:
        """What was seen; :class:`ValueError` within the block."""
        if self._audit is None:
            raise ValueError("the audit is there when the with block has ended")
        return self._audit


def _modules_and_optimizers(
    agent: Any, optimizers: Optimizers | None, step: Callable[..., Any] | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    plain = isinstance(agent, Mapping) and all(
        isinstance(part, (nn.Module, torch.Tensor)) for part in agent.values()
    )
    modules, found = (dict(agent), {}) if plain else find(agent)
    if optimizers is not None:
        for name, optimizer in optimizers.items():
            if not is_optimizer(optimizer):
                raise ValueError(
                    f"optimizers[{name!r}] is a {type(optimizer).__name__}; pass optimizers, which "
                    "have step(), zero_grad() and param_groups"
                )
        return modules, dict(optimizers)
    if not modules:
        raise ValueError(
            f"no torch module was found in this {type(agent).__name__}; pass modules and optimizers"
        )
    for name, thing in seen_from(step) if step is not None else ():
        if is_optimizer(thing) or name == "":
            _, more = find({name: thing} if name else thing)
            for key, optimizer in more.items():
                if not any(optimizer is known for known in found.values()):
                    found.setdefault(key, optimizer)
    parameters = {p for m in modules.values() for p in named_parameters(m).values()}
    covered = {p for o in found.values() for p in held_by(o)}
    inner = {id(i) for o in found.values() for i in vars(o).values() if is_optimizer(i)}
    for optimizer in optimizers_of(parameters):
        held = set(held_by(optimizer))
        known = any(optimizer is o for o in found.values()) or id(optimizer) in inner
        if not known and not held <= covered:
            kind = type(optimizer).__name__
            name = kind if kind not in found else f"{kind} {len(found) + 1}"
            found[name] = optimizer
    return modules, found


def _enough(seen: GradientWatch) -> bool:
    """Whether every optimizer has stepped twice, and something was seen to train."""
    drivers = [n for n in seen.optimizers if seen.drives.get(n)]
    inner = {i for n in drivers for i in seen.drives[n]}
    waiting = [n for n in seen.optimizers if n not in inner and n not in drivers]
    counts = [seen.step_calls.get(n, 0) for n in waiting] + [
        max(seen.step_calls.get(i, 0) for i in seen.drives[n]) for n in drivers
    ]
    return bool(seen.shares) and all(count >= 2 for count in counts)


def _relabel(seen: GradientWatch, name_loss: Any) -> None:
    """Put texts in the place of names whose distinction needed all of them to be known."""
    if isinstance(name_loss, GivenNames):
        given = name_loss.resolve()
        for event in seen.events:
            if event.kind in ("backward", "grad"):
                event.by = given[event.by]
    else:
        keys = {
            i: (e.by, e.paths.modules if e.paths else frozenset())
            for i, e in enumerate(seen.events)
            if isinstance(e.by, Name)
        }
        # A telling name stands for one loss, unless one step uses it for losses of other modules.
        in_step: dict[tuple[Name, int], set[frozenset[str]]] = {}
        for i, (name, reached) in keys.items():
            in_step.setdefault((name, seen.events[i].step), set()).add(reached)
        several = {name for (name, _), reaches in in_step.items() if len(reaches) > 1}
        keys = {
            i: (name, reached if name.places or name in several else frozenset())
            for i, (name, reached) in keys.items()
        }
        texts = labels(list(keys.values()))
        for i, key in keys.items():
            seen.events[i].by = texts[key]
    for share in seen.shares:
        if not isinstance(share.loss, str):
            share.loss = seen.events[share.born].by


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

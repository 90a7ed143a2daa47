"""Finding an agent's modules and optimizers, and which parameters are whose."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

DEPTH = 4
"""How many objects deep attributes are followed."""
_ENCODERS = ("encoder", "extractor", "backbone", "trunk", "embed", "torso", "feature")


def is_optimizer(thing: Any) -> bool:
    """Whether something steps parameters: a torch optimizer, or what looks and acts like one."""
    if isinstance(thing, torch.optim.Optimizer):
        return True
    if isinstance(thing, (nn.Module, torch.Tensor, type)):
        return False
    has = all(callable(getattr(type(thing), name, None)) for name in ("step", "zero_grad"))
    return has and isinstance(getattr(thing, "param_groups", None), list)


def find(*agents: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Modules (and single trained tensors) and optimizers of agents, by the names of attributes.

    An agent may be an object, a module, or a mapping or list of such. A module that is all there is
    counts by its parts, and a part that is called an encoder counts apart.
    """
    search = _Search()
    for agent in agents:
        search.follow("", agent, DEPTH)
    modules = search.modules
    modules = _parts_of_the_only(modules)
    for name, module in list(modules.items()):
        if isinstance(module, nn.Module):
            for path, part in module.named_modules():
                last = path.rsplit(".", 1)[-1]
                if (
                    path
                    and any(word in last.lower() for word in _ENCODERS)
                    and any(True for _ in part.parameters())
                ):
                    modules.setdefault(f"{name}.{path}", part)
    return _short(_distinct(modules)), _short(search.optimizers)


def optimizers_of(parameters: set[torch.Tensor]) -> list[torch.optim.Optimizer]:
    """All torch optimizers alive that hold one of these parameters."""
    found = []
    for thing in gc.get_objects():
        # type() looks through no proxy; isinstance() would wake some of them up.
        if issubclass(type(thing), torch.optim.Optimizer) and "param_groups" in vars(thing):
            groups = vars(thing)["param_groups"]
            if any(p in parameters for g in groups for p in g["params"]):
                found.append(thing)
    return found


def seen_from(step: Callable[..., Any]) -> Iterator[tuple[str, Any]]:
    """What a function can see by name: its closure, the globals that it uses, its ``self``."""
    owner = getattr(step, "__self__", None)
    if owner is not None:
        yield "", owner
    function = getattr(step, "__func__", step)
    code = getattr(function, "__code__", None)
    if code is None:
        return
    for name, held in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, held.cell_contents
        except ValueError:  # not yet assigned
            continue
    for name in code.co_names:
        if name in function.__globals__:
            yield name, function.__globals__[name]


class _Search:
    def __init__(self) -> None:
        self.modules: dict[str, Any] = {}
        self.optimizers: dict[str, Any] = {}
        self._visited: set[int] = set()

    def follow(self, name: str, thing: Any, depth: int) -> None:
        """Take something in, and what it holds."""
        if id(thing) in self._visited or depth < 0 or isinstance(thing, _PLAIN):
            return
        self._visited.add(id(thing))
        if isinstance(thing, torch.Tensor):
            if thing.requires_grad and thing.is_leaf:
                self.modules[name or "tensor"] = thing
        elif is_optimizer(thing):
            if not any(thing is known for known in self.optimizers.values()):
                self.optimizers[name or "optimizer"] = thing
        elif isinstance(thing, nn.Module):
            if any(True for _ in thing.parameters()):
                self.modules[name or "agent"] = thing
            self._optimizers_in(name, thing)
        elif isinstance(thing, Mapping):
            for key, inner in list(thing.items()):
                if isinstance(key, str):
                    self.follow(_joined(name, key), inner, depth - 1)
        elif isinstance(thing, (list, tuple)):
            if len(thing) <= 64:
                for i, inner in enumerate(thing):
                    self.follow(f"{name}[{i}]", inner, depth - 1)
        elif not type(thing).__module__.startswith(_FOREIGN):
            for key, inner in _attributes(thing):
                self.follow(_joined(name, key), inner, depth - 1)

    def _optimizers_in(self, name: str, module: nn.Module) -> None:
        """Optimizers that a module or its parts keep as attributes, and those in plain objects."""
        for path, part in module.named_modules():
            for key, inner in list(vars(part).items()):
                several = isinstance(inner, (list, tuple)) and key[0] != "_"
                for thing in inner if several else [inner]:
                    if is_optimizer(thing):
                        self.follow(_joined(_joined(name, path), key), thing, 0)


_PLAIN = (str, bytes, int, float, complex, bool, type(None), type)
_FOREIGN = (
    "numpy",
    "gymnasium",
    "gym.",
    "pandas",
    "logging",
    "threading",
    "builtins",
    "torch.utils",
)


def _attributes(thing: Any) -> Iterator[tuple[str, Any]]:
    own = dict(getattr(thing, "__dict__", {}))
    for slot_owner in type(thing).__mro__:
        slots = slot_owner.__dict__.get("__slots__", ())
        for slot in [slots] if isinstance(slots, str) else slots:
            if slot not in own and hasattr(thing, slot):
                own[slot] = getattr(thing, slot)
    yield from own.items()


def _joined(name: str, key: str) -> str:
    return f"{name}.{key}" if name and key else name or key


def _parts_of_the_only(modules: dict[str, Any]) -> dict[str, Any]:
    """The children of a module that contains all others, in its place."""
    found = dict(modules)
    while found:
        sizes = {n: _ids(m) for n, m in found.items()}
        every = frozenset().union(*sizes.values())
        whole = [n for n, ids in sizes.items() if ids == every and isinstance(found[n], nn.Module)]
        if len(whole) != 1:
            return found
        name = whole[0]
        module = found[name]
        parts: dict[str, Any] = {
            n: c for n, c in module.named_children() if any(True for _ in c.parameters())
        }
        parts |= {n: p for n, p in module.named_parameters(recurse=False)}
        if isinstance(module, (nn.Sequential, nn.ModuleList)) or not parts:
            return found
        del found[name]
        found |= {n: p for n, p in parts.items() if n not in found}
        if len(parts) != 1:
            return found
    return found


def _distinct(modules: dict[str, Any]) -> dict[str, Any]:
    """One name for each set of parameters, the shortest."""
    best: dict[frozenset[int], str] = {}
    for name, module in modules.items():
        key = _ids(module)
        if key and (key not in best or len(name) < len(best[key])):
            best[key] = name
    return {name: m for name, m in modules.items() if name in set(best.values())}


def _short(named: dict[str, Any]) -> dict[str, Any]:
    """The same things by as little of their paths as tells them apart."""
    found: dict[str, Any] = {}
    for name, thing in named.items():
        parts = name.split(".")
        for count in range(1, len(parts) + 1):
            ending = ".".join(parts[-count:])
            rivals = [n for n in named if n == ending or n.endswith(f".{ending}")]
            if len(rivals) == 1 or count == len(parts):
                found[ending if ending not in found else name] = thing
                break
    return found


def _ids(module: Any) -> frozenset[int]:
    return frozenset(
        [id(module)] if isinstance(module, torch.Tensor) else map(id, module.parameters())
    )


def named_parameters(module: nn.Module | torch.Tensor) -> dict[str, torch.Tensor]:
    """A module's parameters by their paths; a tensor is its own, without a path."""
    return {"": module} if isinstance(module, torch.Tensor) else dict(module.named_parameters())


def held_by(optimizer: Any) -> Iterator[torch.Tensor]:
    """All parameters of an optimizer."""
    for group in optimizer.param_groups:
        yield from group["params"]


def homes(
    named: Mapping[str, Mapping[str, torch.Tensor]],
) -> dict[torch.Tensor, tuple[str, str]]:
    """To which module each parameter is booked, and its path there.

    To the smallest that has it, where one is part of the other; what modules share of which none
    is part of the other gets a name of its own, ``a ∩ b``.
    """
    sets = {name: frozenset(map(id, of.values())) for name, of in named.items()}
    found: dict[torch.Tensor, tuple[str, str]] = {}
    every = {id(p): p for of in named.values() for p in of.values()}
    for key, parameter in every.items():
        owners = [name for name in named if key in sets[name]]
        owners = [
            name for name in owners
            if not any(sets[other] < sets[name] for other in owners)
        ]  # fmt: skip
        distinct = {sets[name]: name for name in reversed(owners)}
        names = [name for name in owners if name in distinct.values()]
        first = names[0]
        path = next(path for path, p in named[first].items() if p is parameter)
        found[parameter] = " ∩ ".join(names), path
    return found

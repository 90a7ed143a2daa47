"""Strata: a suite's environments under its conditions, each with verdicts of its own.

A stratum's label is what tables call its environment: the environment's ``name``, or its id, and
``@condition`` where the suite has conditions. What is simulated is the id; random streams come from
it, so that a seed starts from the same weights and batches under every condition.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from benchbench.core.settings import suggest
from benchbench.suite.environments import SOURCES, data_for, family_of

if TYPE_CHECKING:
    from benchbench.suite.model import Condition, EnvSettings, Suite


@dataclass(frozen=True)
class Stratum:
    """An environment under a condition; ``env`` has the condition's settings in it."""

    env: EnvSettings
    at: str
    """Where the suite's file states it: the key that an error names."""
    condition: str = ""

    @property
    def name(self) -> str:
        """The environment's name, without the condition."""
        return self.env.name or self.env.id

    @property
    def label(self) -> str:
        """What tables call it."""
        return f"{self.name}@{self.condition}" if self.condition else self.name


def strata_of(suite: Suite) -> tuple[Stratum, ...]:
    """Environments × conditions, in the suite's order.

    Raises ``ValueError``, which names the key, where a condition does not fit an environment.
    """
    if not suite.conditions:
        return tuple(Stratum(env, f"envs.{index}") for index, env in enumerate(suite.envs))
    return tuple(
        Stratum(_under(env, name, condition), f"conditions.{name}", name)
        for env in suite.envs
        for name, condition in suite.conditions.items()
    )


def refuse_equal_strata(suite: Suite) -> None:
    """Raise ``ValueError`` where a condition changes nothing, or two strata are the same."""
    own = [_settings(suite, env) for env in suite.envs]
    for name, condition in suite.conditions.items():
        mine = [_settings(suite, one.env) for one in suite.strata if one.condition == name]
        if condition.model_fields_set and mine == own:
            raise ValueError(
                f"conditions.{name}: changes nothing, as the suite has these settings without it; "
                f"take it out, or write {name}: {{}} for the suite's own settings"
            )
    seen: list[tuple[Any, str]] = []
    for one in suite.strata:
        settings = _settings(suite, one.env)
        for other, label in seen:
            if settings == other:
                raise ValueError(
                    f"{one.at}: {one.label} has the same settings as {label}; change one of the "
                    "two, or take it out"
                )
        seen.append((settings, one.label))


def unfolded(values: dict[str, Any]) -> dict[str, Any]:
    """Dotted keys as nested ones: ``{a.b: 1}`` as ``{a: {b: 1}}``.

    Raises ``ValueError`` where a key is stated twice.
    """
    found: dict[str, Any] = {}
    for key, value in values.items():
        *parents, last = str(key).split(".")
        node = found
        for part in parents:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise ValueError(f"{key}: '{part}' is stated beside it as a whole; keep one")
        if isinstance(value, dict) and isinstance(node.get(last), dict):
            twice = sorted(set(value) & set(node[last]))
            value = node[last] | value
        else:
            twice = [last] if last in node else []
        if twice:
            raise ValueError(f"{key}: '{twice[0]}' is stated twice; keep one")
        node[last] = value
    return found


def _under(env: EnvSettings, name: str, condition: Condition) -> EnvSettings:
    """The environment with the condition's settings in the place of its own."""
    stated = {key: getattr(env, key) for key in env.model_fields_set}
    for key in condition.model_fields_set:
        mine, theirs = getattr(env, key), getattr(condition, key)
        if key == "data" and theirs is not None:
            base = {} if mine is None else mine.model_dump(exclude_unset=True)
            same = theirs.get("source", base.get("source")) == base.get("source")
            stated[key] = (base if same else {}) | theirs
        elif key in ("pixels", "agent", "train", "evaluate") and mine is not None:
            stated[key] = mine.overridden_by(theirs)
        else:
            stated[key] = theirs
    try:
        return type(env).model_validate(stated)
    except ValidationError as error:
        raise ValueError(f"conditions.{name}{_told(error, env)}") from None


def _told(error: ValidationError, env: EnvSettings) -> str:
    """The first mistake, with the key in front: '.data.nois: is not …'."""
    first = error.errors()[0]
    key = "".join(f".{part}" for part in first["loc"] if part not in SOURCES)
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        source = SOURCES[str(first["loc"][1])]
        message = f"is not a key here{suggest(str(first['loc'][-1]), source.model_fields)}"
    elif first["type"] == "value_error" and not key:  # it begins with the key
        return f".{message}"
    return f"{key}: {message} (in {env.name or env.id})"


def _settings(suite: Suite, env: EnvSettings) -> tuple[Any, ...]:
    """All that makes a stratum's cells what they are, beside seed and variant."""
    return (
        env.id,
        env.observation or suite.observation,
        suite.pixels.overridden_by(env.pixels),
        env.proprio,
        env.action_repeat or family_of(env.id).action_repeat,
        data_for(env.id, env.data),
        suite.agent.overridden_by(env.agent),
        suite.train.overridden_by(env.train),
        suite.evaluate.overridden_by(env.evaluate),
    )

"""Which environments there are, and where their data may come from.

A :class:`Family` is a kind of environment: its ids, its camera and the sources of data that fit.
A source is what a suite writes under ``data``; ``benchbench.data.makers`` knows how each is made.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, Strict

from benchbench.settings import Index, Number, Settings, suggest

Transitions = Annotated[int, Strict(), Field(ge=100)]


class WaypointData(Settings):
    """D4RL's bullet maze data, made again on this machine with D4RL's own controller."""

    source: Literal["waypoint"] = "waypoint"
    transitions: Transitions = 20_000
    noise: Annotated[Number, Field(ge=0)] = Field(
        0.5, description="standard deviation of the Gaussian noise added to each action"
    )
    seed: Index = 0


class D4RLData(Settings):
    """D4RL's own file for this id, with the frames drawn here from its simulator states."""

    source: Literal["d4rl"] = "d4rl"


class VD4RLData(Settings):
    """V-D4RL's own files, frames and all (Lu et al. 2022)."""

    source: Literal["vd4rl"] = "vd4rl"


class MinariData(Settings):
    """A Minari data set, with the frames drawn here from the simulator states in its infos."""

    source: Literal["minari"] = "minari"


class FileData(Settings):
    """One HDF5 or NPZ file of yours, under D4RL's key names, with a ``frames`` key."""

    source: Literal["file"] = "file"
    path: Annotated[str, Field(min_length=1)] = Field(
        description="the file; a relative path is taken from where benchbench is started"
    )


DataSource = Annotated[
    WaypointData | D4RLData | VD4RLData | MinariData | FileData,
    Field(discriminator="source"),
]

_SOURCES: dict[str, type[Settings]] = {
    model.model_fields["source"].default: model
    for model in (WaypointData, D4RLData, VD4RLData, MinariData, FileData)
}


@dataclass(frozen=True)
class Family:
    """A kind of environment."""

    name: Literal["maze", "mujoco", "dmc", "minari", "none"]
    camera: str
    """How its frames are drawn; part of a data set's identity."""
    source: str
    """The source of data that fits, beside a file of one's own."""
    proprio: tuple[str, ...] | None = None
    """What a suite may write under ``proprio``; None where only the data tell."""
    action_repeat: int = 1
    """What a suite gets that states none."""
    repeats: bool = False
    """Whether data can be made for any other action repeat."""

    @property
    def scored(self) -> bool:
        """Whether there is an environment to evaluate in."""
        return self.name != "none"


_FAMILIES: tuple[tuple[str, Family], ...] = (
    (
        r"bullet-maze2d-(open|umaze|medium|large)-v0",
        Family("maze", "top-down", "waypoint", ("position", "velocity"), repeats=True),
    ),
    (
        r"(hopper|halfcheetah|walker2d)-(random|medium|medium-replay|medium-expert|expert)-v2",
        Family("mujoco", "track", "d4rl"),
    ),
    (
        r"ant-(random|medium|medium-replay|medium-expert|expert)-v2",
        Family("mujoco", "above", "d4rl"),
    ),
    (r"vd4rl:(main|distracting)/[a-z_]+/[a-z_]+", Family("dmc", "0", "vd4rl", (), action_repeat=2)),
    (r"minari:mujoco/ant/[\w./-]+", Family("minari", "above", "minari")),
    (r"minari:[\w./-]+", Family("minari", "track", "minari")),
)

_NONE = Family("none", "own", "file")

KNOWN_ENVS: tuple[str, ...] = (
    *(f"bullet-maze2d-{maze}-v0" for maze in ("open", "umaze", "medium", "large")),
    *(
        f"{body}-{level}-v2"
        for body in ("hopper", "halfcheetah", "walker2d", "ant")
        for level in ("random", "medium", "medium-replay", "medium-expert", "expert")
    ),
    *(
        f"vd4rl:{kind}/{task}/{level}"
        for kind in ("main", "distracting")
        for task in ("walker_walk", "cheetah_run", "humanoid_walk")
        for level in ("random", "medium_replay", "medium", "medium_expert", "expert")
    ),
)
"""The ids that can be listed; Minari's cannot."""


def family_of(env_id: str) -> Family:
    """The family of an environment id; of an unknown one the family without an environment."""
    return next((f for pattern, f in _FAMILIES if re.fullmatch(pattern, env_id)), _NONE)


def data_for(env_id: str, data: DataSource | None) -> DataSource:
    """The data of an environment in a suite: what is stated, or the family's own source.

    Raises ``ValueError`` where the id is unknown and brings no data of its own, or where the source
    does not fit the id.
    """
    family = family_of(env_id)
    if isinstance(data, FileData):
        return data
    if not family.scored:
        raise ValueError(
            "id: is not an environment benchbench knows"
            f"{suggest(env_id, KNOWN_ENVS, listed=8)} (or bring a data set of your own under any "
            "name, with data: {source: file, path: …})"
        )
    if data is None:
        made: DataSource = _SOURCES[family.source]()  # type: ignore[assignment]
        return made
    if data.source != family.source:
        raise ValueError(
            f"data.source: '{data.source}' does not fit {env_id}; write {family.source}, or file "
            "for a data set of your own"
        )
    return data

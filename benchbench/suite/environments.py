"""Which environments there are, and where their data may come from.

A :class:`Family` is a kind of environment: its ids, its camera and the sources of data that fit.
A source is what a suite writes under ``data``; ``benchbench.data.sources`` knows how each is made.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, Strict, field_validator, model_validator

from benchbench.core.settings import LARGEST, LONGEST_NAME, Index, Number, Settings, suggest

Transitions = Annotated[int, Strict(), Field(ge=100, le=LARGEST)]

DataSeed = Annotated[
    Index | Literal["pair"],
    Field(
        description="of the set; pair: each seed of the suite has a set of its own, made from that "
        "seed, so that intervals are over data sets as well"
    ),
]
PART = r"^(expert|shipped|random|noisy-\d+(\.\d+)?)$"
EPISODE_STEPS = 1000
"""D4RL's limit for its bodies, in simulator steps; its MuJoCo ids only say so with mujoco_py."""

_SHIPPED = {"hopper": "expert", "ant": "expert", "halfcheetah": "shipped", "walker2d": "shipped"}
"""What the policy that PyBullet ships for a body is worth the name of, in D4RL's environments.

Measured over 20 episodes: see :mod:`benchbench.data.sources.reactive`.
"""


class WaypointData(Settings):
    """D4RL's maze data, made again on this machine by D4RL's own recipe."""

    source: Literal["waypoint"] = "waypoint"
    transitions: Transitions = 20_000
    noise: Annotated[Number, Field(ge=0)] = Field(
        0.5, description="standard deviation of the Gaussian noise added to each action"
    )
    seed: DataSeed = 0


class ReactiveData(Settings):
    """Episodes of the policies that PyBullet ships for its bodies, and of weaker ones."""

    source: Literal["reactive"] = "reactive"
    transitions: Annotated[int, Strict(), Field(ge=1000, le=LARGEST)] = 20_000
    mix: dict[Annotated[str, Field(pattern=PART)], Annotated[Number, Field(gt=0, le=1)]] | None = (
        Field(
            None,
            min_length=1,
            description="shares of the transitions, which add up to 1: of hopper and ant expert, "
            "noisy-X (with Gaussian noise of standard deviation X on each action) and random; of "
            "halfcheetah and walker2d shipped and random. By default expert alone, or shipped",
        )
    )
    seed: DataSeed = 0

    @field_validator("mix")
    @classmethod
    def _in_one_order(cls, mix: dict[str, float] | None) -> dict[str, float] | None:
        """A mix is the same, and its set has the same bytes, in whatever order it stands."""
        return mix and dict(sorted(mix.items()))

    def __hash__(self) -> int:
        """Of what equality compares; a dict has no hash of its own."""
        return hash((self.transitions, self.seed, self.mix and frozenset(self.mix.items())))

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if self.mix is None:
            return self
        if abs(sum(self.mix.values()) - 1) > 1e-6:
            raise ValueError(f"mix: the shares add up to {sum(self.mix.values()):g}, not to 1")
        if self.transitions < EPISODE_STEPS * len(self.mix):
            raise ValueError(
                f"transitions: {len(self.mix)} parts need {EPISODE_STEPS * len(self.mix)} at "
                "least, so that each has a whole episode"
            )
        return self


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
    """HDF5 or NPZ files of yours, under D4RL's key names, with a ``frames`` key."""

    source: Literal["file"] = "file"
    path: Annotated[str, Field(min_length=1)] = Field(
        description="the file, a folder of files that are an episode each, or a pattern of such "
        "files (run_*.npz); a relative path is taken from where benchbench is started"
    )
    fit: Literal["crop", "pad", "stretch"] | None = Field(
        None,
        description="how pictures of another shape or size are made the suite's",
    )

    @field_validator("path")
    @classmethod
    def _a_path(cls, path: str) -> str:
        if not path.isprintable():
            raise ValueError(f"{path!r} has characters that no path should have; type it again")
        try:
            Path(path).expanduser()
        except RuntimeError:
            raise ValueError(f"'{path}' names the home of a user who is not here") from None
        return path


DataSource = Annotated[
    WaypointData | ReactiveData | D4RLData | VD4RLData | MinariData | FileData,
    Field(discriminator="source"),
]

SOURCES: dict[str, type[Settings]] = {
    model.model_fields["source"].default: model
    for model in (WaypointData, ReactiveData, D4RLData, VD4RLData, MinariData, FileData)
}
"""Settings of each source, by its name."""


@dataclass(frozen=True)
class Family:
    """A kind of environment."""

    name: Literal["maze2d", "maze", "bullet", "mujoco", "dmc", "minari", "none"]
    camera: str
    """How its frames are drawn; part of a data set's identity."""
    source: str
    """The source of data that a suite gets that states none."""
    proprio: tuple[str, ...] | None = None
    """What a suite may write under ``proprio``; None where only the data tell."""
    action_repeat: int = 1
    """What a suite gets that states none."""
    repeats: bool = False
    """Whether ``source`` makes data for any other action repeat."""
    other_source: str | None = None
    """Another source that fits, beside a file of one's own."""

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources that fit, beside a file of one's own."""
        return (self.source,) if self.other_source is None else (self.source, self.other_source)

    @property
    def scored(self) -> bool:
        """Whether there is an environment to evaluate in."""
        return self.name != "none"


_FAMILIES: tuple[tuple[str, Family], ...] = (
    (
        r"maze2d-(open(-dense)?-v0|(umaze|medium|large)(-dense)?-v1)",
        Family(
            "maze2d",
            "painted",
            "waypoint",
            ("position", "velocity"),
            repeats=True,
            other_source="d4rl",
        ),
    ),
    (
        r"bullet-maze2d-(open|umaze|medium|large)-v0",
        Family("maze", "top-down", "waypoint", ("position", "velocity"), repeats=True),
    ),
    (
        r"bullet-(hopper|halfcheetah|walker2d|ant)-v0",
        Family("bullet", "beside", "reactive", repeats=True),
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
    *(
        f"maze2d-{maze}{kind}-{version}"
        for kind in ("", "-dense")
        for maze, version in (("open", "v0"), ("umaze", "v1"), ("medium", "v1"), ("large", "v1"))
    ),
    *(f"bullet-maze2d-{maze}-v0" for maze in ("open", "umaze", "medium", "large")),
    *(f"bullet-{body}-v0" for body in ("hopper", "halfcheetah", "walker2d", "ant")),
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


def refuse_odd_id(env_id: str) -> None:
    """Raise ``ValueError`` where an id cannot be shown in a table or figure, or name a folder."""
    if not env_id.strip():
        raise ValueError("id: is empty; give the environment a name")
    if not env_id.isprintable() or env_id != env_id.strip():
        raise ValueError(
            f"id: {env_id!r} has a line break, a character that is not seen, or a space at an "
            "end; take it out"
        )
    if "\\" in env_id:
        raise ValueError(f"id: '{env_id}' has a backslash, which folders' names cannot hold "
                         "everywhere; take it out")  # fmt: skip
    if len(env_id.encode()) > 2 * LONGEST_NAME:
        raise ValueError(f"id: has {len(env_id)} characters; give it a shorter name")
    if env_id.casefold() == "all":
        raise ValueError("id: 'all' stands for all environments in a report; give another name")
    parts = env_id.partition(":")[2].split("/") if ":" in env_id else env_id.split("/")
    if any(set(part) <= {"."} for part in parts):
        raise ValueError(f"id: '{env_id}' is taken for a path to another folder; give another name")


def data_for(env_id: str, data: DataSource | None) -> DataSource:
    """The data of an environment in a suite: what is stated, or the family's own source.

    Raises ``ValueError`` where the id is unknown and brings no data of its own, or where the source
    does not fit the id, or the id itself is none.
    """
    refuse_odd_id(env_id)
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
        data = SOURCES[family.source]()  # type: ignore[assignment]
    assert data is not None
    if data.source not in family.sources:
        raise ValueError(
            f"data.source: '{data.source}' does not fit {env_id}; write "
            f"{' or '.join(family.sources)}, or file for a data set of your own"
        )
    return _mixed(env_id, data) if isinstance(data, ReactiveData) else data


def seed_of(data: WaypointData | ReactiveData) -> int:
    """The seed that a set is made from. Raises ``ValueError`` where it is still the pair's."""
    if data.seed == "pair":
        raise ValueError("the set is one of each pair; ask for a pair's own")
    return data.seed


def follows_pair(data: DataSource) -> bool:
    """Whether each of a suite's seeds has a data set of its own."""
    return isinstance(data, (WaypointData, ReactiveData)) and data.seed == "pair"


def _mixed(env_id: str, data: ReactiveData) -> ReactiveData:
    """The source with its mix stated. Raises ``ValueError`` on a part that the body has not."""
    body = env_id.split("-")[1]
    best = _SHIPPED[body]
    if data.mix is None:
        return data.model_copy(update={"mix": {best: 1.0}})
    for part in data.mix:
        if best == "shipped" and part not in ("shipped", "random"):
            raise ValueError(
                f"data.mix: {env_id} has no '{part}', because the policy that PyBullet ships for "
                f"{body} is no expert today; write shipped for that policy as it is, or random"
            )
        if best == "expert" and part == "shipped":
            raise ValueError(f"data.mix: the shipped policy of {env_id} is called expert")
    return data

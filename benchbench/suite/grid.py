"""A suite, expanded into cells.

A :class:`Cell` is one training run: an environment, a seed and a variant with every setting
resolved. It is content-addressed: its key is a hash of all of that and of the identity of its data,
so a suite that is run again runs what is missing, and an edited one runs the cells it changed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal, Protocol

from benchbench.core.errors import UserError
from benchbench.routing import Routing
from benchbench.suite.dataset_identity import DataIdentity
from benchbench.suite.model import (
    AgentSettings,
    DiagnoseSettings,
    EvaluateSettings,
    PixelSettings,
    Suite,
    TrainSettings,
)
from benchbench.suite.pixels import DistractSettings, pictures_sha256
from benchbench.suite.user_code import code_hash, is_import_path

NOTHING: Mapping[str, str] = MappingProxyType({})

FORMAT = 1
"""Version of what a cell means; raised when the same settings would train another agent."""


@dataclass(frozen=True)
class Cell:
    """One training run, fully resolved. Everything it does follows from what stands here."""

    env: str
    seed: int
    routing: Routing
    observation: Literal["pixels", "state"]
    pixels: PixelSettings
    proprio: tuple[str, ...]
    action_repeat: int
    data: DataIdentity
    agent: AgentSettings
    train: TrainSettings
    evaluate: EvaluateSettings
    diagnose: DiagnoseSettings
    own_code: tuple[tuple[str, str], ...] = ()
    """Names and hashes of the files of an agent or encoder of the user's own."""
    pictures: tuple[tuple[str, str], ...] = ()
    """Folders of the user's own pictures that distract, and their hashes."""
    keep_policy: bool = False
    """Whether its weights are kept; no part of its key."""
    name: str = ""
    """What the suite calls the environment, where it is not the id; no part of the key."""
    condition: str = ""
    """The suite's condition, whose settings stand above; no part of the key."""

    @property
    def stratum(self) -> str:
        """What tables call the environment: its name, and the condition."""
        name = self.name or self.env
        return f"{name}@{self.condition}" if self.condition else name

    @property
    def folder(self) -> str:
        """:attr:`stratum` as part of a file's name."""
        return re.sub(r"[^A-Za-z0-9._-]+", "_", self.stratum)

    @property
    def variant(self) -> str:
        """The name of the cell's routing."""
        return self.routing.name

    @property
    def unseen(self) -> DistractSettings | None:
        """The distractions of the second evaluation; None where there is none."""
        return self.evaluate.unseen(self.pixels)

    @property
    def label(self) -> str:
        """How people name the cell."""
        return f"{self.stratum} seed {self.seed} {self.variant}"

    def under(self, routing: Routing) -> Cell:
        """The same cell under another variant."""
        return replace(self, routing=routing)

    def settings(self) -> dict[str, Any]:
        """All that the cell is, as plain JSON values."""
        routing = asdict(self.routing) | {"encoder_in": list(self.routing.encoder_in)}
        del routing["why"]
        if routing["encoder_until"] == 1:
            del routing["encoder_until"]
        return {
            "format": FORMAT,
            "env": self.env,
            "seed": self.seed,
            "routing": routing,
            "observation": self.observation,
            "pixels": self.pixels.identity() | {"camera": self.data.camera},
            "proprio": list(self.proprio),
            "action_repeat": self.action_repeat,
            "data": self.data.settings(),
            "agent": self.agent.identity() | dict(self.own_code),
            "train": self.train.model_dump(mode="json"),
            "evaluate": self.evaluate.identity(self.pixels),
            "diagnose": self.diagnose.identity(),
            **({"pictures": dict(self.pictures)} if self.pictures else {}),
        }

    @cached_property
    def key(self) -> str:
        """16 hexadecimal digits that change whenever anything in :meth:`settings` does."""
        text = json.dumps(self.settings(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def stream(self, purpose: str) -> int:
        """The seed of a random stream, from (env, seed, purpose) and never from the variant.

        All variants of a pair thus draw the same initial weights, batches, noise, augmentations
        and evaluation episodes. Returns an integer in [0, 2³¹).
        """
        text = f"{self.env}\n{self.seed}\n{purpose}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


class Finished(Protocol):
    """What knows which cells are finished: a results folder."""

    def is_done(self, key: str) -> bool:
        """Whether the cell with this key is finished."""
        ...


@dataclass(frozen=True)
class Grid:
    """A suite's cells, and those of them that are wanted now."""

    suite: Suite
    cells: tuple[Cell, ...]
    """All that a report covers."""
    wanted: tuple[Cell, ...]
    """Those to run."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Why environments of the suite have no cells here."""

    @classmethod
    def of(cls, suite: Suite, only: Mapping[str, Collection[str]] = NOTHING) -> Grid:
        """The suite's grid; ``only`` names what is wanted, as :func:`select` does.

        Raises :class:`UserError` as :func:`expand` and :func:`select` do.
        """
        cells = tuple(expand(suite))
        return cls(suite, cells, tuple(select(cells, only)))

    @property
    def keys(self) -> frozenset[str]:
        """The keys of all cells."""
        return frozenset(cell.key for cell in self.cells)

    def missing(self, store: Finished) -> list[Cell]:
        """The wanted cells that are not finished."""
        return [cell for cell in self.wanted if not store.is_done(cell.key)]

    def without(self, left_out: Mapping[str, str], store: Finished) -> Grid:
        """The grid without the unfinished cells of these environments; says why."""

        def kept(cells: Sequence[Cell]) -> tuple[Cell, ...]:
            return tuple(c for c in cells if c.env not in left_out or store.is_done(c.key))

        return replace(
            self, cells=kept(self.cells), wanted=kept(self.wanted), left_out=dict(left_out)
        )


def expand(suite: Suite) -> list[Cell]:
    """The suite's cells: strata × seeds × variants, the variants of a pair side by side.

    Raises :class:`UserError` where the code of an agent or encoder of the user's own is not here.
    """
    cells = []
    for stratum in suite.strata:
        env = stratum.env
        pixels = suite.pixels.overridden_by(env.pixels)
        named = DataIdentity.of(env.id, env.data, pixels.size, env.action_repeat)
        agent = suite.agent.overridden_by(env.agent)
        own_code = hash_own_code(agent)
        evaluate = suite.evaluate.overridden_by(env.evaluate)
        pictures = hash_pictures(pixels, evaluate)
        for seed in suite.seed_list:
            data = named.of_pair(seed)
            for routing in suite.routings:
                cells.append(
                    Cell(
                        env=env.id,
                        seed=seed,
                        routing=routing,
                        observation=env.observation or suite.observation,
                        pixels=pixels,
                        proprio=env.proprio,
                        action_repeat=data.action_repeat,
                        data=data,
                        agent=agent,
                        train=suite.train.overridden_by(env.train),
                        evaluate=evaluate,
                        diagnose=suite.diagnose,
                        own_code=own_code,
                        name=env.name or "",
                        condition=stratum.condition,
                        pictures=pictures,
                        keep_policy=suite.keep.policies,
                    )
                )
    return cells


def hash_pictures(pixels: PixelSettings, evaluate: EvaluateSettings) -> tuple[tuple[str, str], ...]:
    """A cell's ``pictures``, from the folders as they are now."""
    both = (pixels.distract, evaluate.unseen(pixels))
    folders = dict.fromkeys(one.folder for one in both if one is not None)
    return tuple((folder, pictures_sha256(folder)) for folder in folders if folder)


def hash_own_code(agent: AgentSettings) -> tuple[tuple[str, str], ...]:
    """A cell's ``own_code``, from the files as they are now.

    Raises :class:`UserError` where one is not here.
    """
    named = {"algorithm": agent.algorithm, "encoder": agent.encoder}
    return tuple(
        (f"{key}_code", code_hash(f"agent.{key}", name))
        for key, name in named.items()
        if is_import_path(name)
    )


def select(cells: Sequence[Cell], only: Mapping[str, Collection[str]]) -> list[Cell]:
    """The cells that match ``only``: the values wanted of env, condition, variant and seed.

    An environment's value is its label, its name or its id. Raises :class:`UserError` where a
    wanted value is none of the grid's, and so would pass unseen.
    """
    for name, wanted in only.items():
        if name not in NAMED:
            raise UserError(f"--only {name}=…: choose {', '.join(NAMED)}")
        there = dict.fromkeys(value for cell in cells for value in NAMED[name](cell) if value)
        for value in sorted(set(wanted) - set(there)):
            has = f"it has {', '.join(there)}" if there else "the suite states none"
            raise UserError(f"--only {name}={value}: the grid has no such {name}; {has}")
    return [
        cell
        for cell in cells
        if all({*NAMED[name](cell)} & {*wanted} for name, wanted in only.items())
    ]


NAMED: dict[str, Callable[[Cell], tuple[str, ...]]] = {
    "env": lambda cell: (cell.stratum, cell.name, cell.env),
    "condition": lambda cell: (cell.condition,),
    "variant": lambda cell: (cell.variant,),
    "seed": lambda cell: (str(cell.seed),),
}
"""What ``--only`` may ask for, and the values by which a cell has it."""

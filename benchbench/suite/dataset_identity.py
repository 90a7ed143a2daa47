"""What a data set is: enough to make or find the same one again."""

from __future__ import annotations

import glob
import hashlib
import json
import re
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from benchbench.core.files import remembered_sha256
from benchbench.core.settings import LONGEST_NAME
from benchbench.suite.environments import (
    DataSource,
    FileData,
    data_for,
    family_of,
    follows_pair,
)

VERSIONS = {"waypoint": 1, "reactive": 1, "d4rl": 1, "vd4rl": 1, "minari": 1, "file": 1}
"""Version of each source's recipe; raised when the same settings would make other bytes."""


OWN_ENDINGS = (".npz", ".hdf5", ".h5")
"""Endings of the files that are taken from a folder of one's own."""


def own_files(source: FileData) -> list[Path]:
    """The files that a source of one's own names, episode_2 before episode_10; none if missing."""
    path = Path(source.path).expanduser()
    if path.is_file():
        return [path]
    found = path.iterdir() if path.is_dir() else map(Path, glob.glob(str(path)))
    files = [p for p in found if p.suffix.lower() in OWN_ENDINGS and p.is_file()]
    return sorted(files, key=lambda p: [(s.isdigit(), int(s) if s.isdigit() else 0, s)
                                        for s in re.split(r"(\d+)", str(p))])  # fmt: skip


def _content(files: list[Path]) -> str:
    """The SHA-256 of one file, or of the names and hashes of several; 'absent' of none."""
    hashes = [remembered_sha256(path) for path in files]
    if len(files) < 2:
        return hashes[0] if hashes else "absent"
    lines = (f"{path.name} {digest}" for path, digest in zip(files, hashes, strict=True))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@dataclass(frozen=True)
class DataIdentity:
    """Source, recipe and its version, seed, and how the frames were drawn.

    A published file is named here, not hashed: it need not be here yet, and its hash is in the
    set's card. A file of one's own can change under its name, so its hash belongs to it.
    """

    env: str
    source: DataSource
    size: int
    action_repeat: int
    content: str | None = None
    """Of a file of one's own: its SHA-256, or 'absent'."""

    @classmethod
    def of(
        cls, env: str, source: DataSource | None, size: int, action_repeat: int | None = None
    ) -> DataIdentity:
        """The identity of ``env``'s data, in frames of ``size`` pixels.

        None stands for what fits the environment. Raises ``ValueError`` where the two do not fit.
        """
        source = data_for(env, source)
        content = None
        if isinstance(source, FileData):
            content = _content(own_files(source))
        repeat = action_repeat or family_of(env).action_repeat
        return cls(env, source, size, repeat, content)

    def of_pair(self, seed: int) -> DataIdentity:
        """The set of a pair's seed: this one, unless its own seed is the pair's."""
        if not follows_pair(self.source):
            return self
        return replace(self, source=self.source.model_copy(update={"seed": seed}))

    @property
    def camera(self) -> str:
        """How the frames are drawn; each kind of environment has one camera."""
        return family_of(self.env).camera

    def settings(self) -> dict[str, Any]:
        """The identity as plain JSON values."""
        source = self.source.model_dump(mode="json")
        if source.get("fit", "") is None:
            del source["fit"]  # sets that were made before there was one keep their keys
        values = {
            "env": self.env,
            "source": source,
            "size": self.size,
            "camera": self.camera,
            "action_repeat": self.action_repeat,
            "version": VERSIONS[self.source.source],
        }
        return values if self.content is None else values | {"content": self.content}

    @cached_property
    def key(self) -> str:
        """12 hexadecimal digits of a hash of :meth:`settings`; names the set's folder."""
        text = json.dumps(self.settings(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def label(self) -> str:
        """How people name the set: its environment, and its seed where that is not 0."""
        seed = getattr(self.source, "seed", 0)
        return f"{self.env} seed {seed}" if seed else self.env

    @property
    def folder(self) -> str:
        """The environment's id as a folder's name, inside the data folder and not hidden there."""
        name = re.sub(r"[^A-Za-z0-9._-]+", "_", self.env)[:LONGEST_NAME]
        return f"_{name}" if name.startswith(".") else name

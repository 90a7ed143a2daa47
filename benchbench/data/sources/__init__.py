"""How each source's data sets are made: the one place that knows all sources.

A maker is a module of this room with the functions of :class:`Maker`.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from benchbench.data.format import Progress
from benchbench.suite.dataset_identity import DataIdentity
from benchbench.suite.environments import family_of


class Maker(Protocol):
    """What a source's module offers."""

    RESUMES: bool
    """Whether :func:`make` resumes from what a killed process left in its folder."""

    def lacking(self, identity: DataIdentity) -> str | None:
        """What must be obtained before the set can be made, and how; None if nothing."""

    def origin(self, identity: DataIdentity) -> str:
        """Where the set comes from, in a few words."""

    def fetch(self, identity: DataIdentity, progress: Progress) -> None:
        """Download what is missing, where that is possible.

        Raises :class:`~benchbench.core.errors.UserError` where it cannot.
        """

    def count(self, identity: DataIdentity) -> int:
        """Rows of the set; its files, where it needs any, are here."""

    def make(self, identity: DataIdentity, folder: Path, progress: Progress) -> None:
        """Write the set's files into ``folder``, by :class:`~benchbench.data.format.Draft`.

        Raises :class:`~benchbench.core.errors.UserError` naming the file and key that is damaged.
        """


MAKERS: dict[str, str] = {
    "waypoint": "waypoint",
    "reactive": "reactive",
    "d4rl": "d4rl_files",
    "vd4rl": "vd4rl",
    "minari": "minari",
    "file": "own_file",
}
"""The module of this room that makes each source's sets."""

MAZE2D_MAKERS: dict[str, str] = {"waypoint": "maze2d", "d4rl": "maze2d_files"}
"""The same for MuJoCo's mazes, where their module is another one."""


def maker_of(identity: DataIdentity) -> Maker:
    """The maker of a set."""
    makers = MAKERS | MAZE2D_MAKERS if family_of(identity.env).name == "maze2d" else MAKERS
    return cast(Maker, import_module(f"{__name__}.{makers[identity.source.source]}"))

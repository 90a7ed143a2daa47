"""How each source's data sets are made: the one place that knows all sources.

A maker is a module of this room with the functions of :class:`Maker`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from benchbench.data.format import Progress
from benchbench.suite.dataset_identity import DataIdentity
from benchbench.suite.environments import family_of


class Maker(Protocol):
    """What a source's module offers."""

    RESUMES: bool
    """Whether :func:`make` goes on from what a killed one left in its folder."""

    def lacking(self, identity: DataIdentity) -> str | None:
        """What has to be got before the set can be made, and how; None if nothing."""

    def origin(self, identity: DataIdentity) -> str:
        """Where the set comes from, in a few words."""

    def fetch(self, identity: DataIdentity, progress: Progress) -> None:
        """Get what is lacking, where that can be got from here.

        Raises :class:`~benchbench.core.errors.UserError` where it cannot.
        """

    def count(self, identity: DataIdentity) -> int:
        """Rows of the set; its files, where it needs any, are here."""

    def make(self, identity: DataIdentity, folder: Path, progress: Progress) -> None:
        """Write the set's files into ``folder``, by :class:`~benchbench.data.format.Draft`.

        Raises :class:`~benchbench.core.errors.UserError` naming the file and key that is damaged.
        """


def maker_of(identity: DataIdentity) -> Maker:
    """The maker of a set."""
    source, family = identity.source.source, family_of(identity.env).name
    if source == "waypoint" and family == "maze2d":
        from benchbench.data.sources import maze2d

        return maze2d
    if source == "d4rl" and family == "maze2d":
        from benchbench.data.sources import maze2d_files

        return maze2d_files
    if source == "waypoint":
        from benchbench.data.sources import waypoint

        return waypoint
    if source == "reactive":
        from benchbench.data.sources import reactive

        return reactive
    if source == "file":
        from benchbench.data.sources import own_file

        return own_file
    if source == "d4rl":
        from benchbench.data.sources import d4rl_files

        return d4rl_files
    if source == "vd4rl":
        from benchbench.data.sources import vd4rl

        return vd4rl
    from benchbench.data.sources import minari

    return minari

"""What the recipes have in common: their sets need nothing but what is installed."""

from __future__ import annotations

from benchbench.data.format import Progress
from benchbench.suite.dataset_identity import DataIdentity
from benchbench.suite.environments import ReactiveData, WaypointData

RESUMES = False


def lacking(identity: DataIdentity) -> str | None:
    """Nothing: all it takes is installed."""
    return None


def fetch(identity: DataIdentity, progress: Progress) -> None:
    """There is nothing to fetch."""


def count(identity: DataIdentity) -> int:
    """Rows of the set."""
    assert isinstance(identity.source, ReactiveData | WaypointData)
    return identity.source.transitions

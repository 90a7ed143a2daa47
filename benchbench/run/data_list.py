"""What data there are, as a text; and getting what is lacking."""

from __future__ import annotations

from collections.abc import Sequence

from benchbench.data.catalogue import SetHere, sets_here
from benchbench.data.identity import DataIdentity
from benchbench.data.makers import maker_of
from benchbench.data.places import cache_folder
from benchbench.data.store import is_here, set_folder
from benchbench.run.progress import DataProgress
from benchbench.sources import KNOWN_ENVS

_SIZE = 84
"""Of the frames, where it is only asked whether a set could be made."""


def list_text(identities: Sequence[DataIdentity] | None) -> str:
    """A line for each set; without ``identities`` one for each known environment, or set of it."""
    here = {one.folder: one for one in sets_here()}
    rows: list[tuple[str, str, str, str]] = []
    if identities is not None:
        for identity in identities:
            rows.append(_row(identity, here.get(set_folder(identity))))
    else:
        for env in KNOWN_ENVS:
            made = [one for one in here.values() if one.env == env]
            identity = DataIdentity.of(env, None, _SIZE)
            rows += [_row(identity, one) for one in made] or [_row(identity, None)]
        known = set(KNOWN_ENVS)
        rows += [
            (one.env, "here", _size(one), one.key) for one in here.values() if one.env not in known
        ]
    header = ("environment", "state", "size", "where from")
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(3)]
    lines = [
        "  ".join((*(text.ljust(w) for text, w in zip(row[:3], widths, strict=True)), row[3]))
        for row in (header, *rows)
    ]
    return "\n".join([*lines, "", f"data folder  {cache_folder()}"])


def fetch(identity: DataIdentity) -> None:
    """Get what the set is lacking, with a bar. Raises :class:`~benchbench.errors.UserError`."""
    maker = maker_of(identity)
    if maker.lacking(identity) is not None:
        maker.fetch(identity, DataProgress(f"fetch {identity.env}", unit="B"))


def _row(identity: DataIdentity, made: SetHere | None) -> tuple[str, str, str, str]:
    maker = maker_of(identity)
    origin = maker.origin(identity)
    if made is not None:
        frames = made.card.get("identity", {}).get("size", "?")
        return identity.env, "here", _size(made), f"{origin}; {frames} pixels, key {made.key}"
    if is_here(identity) or maker.lacking(identity) is None:
        return identity.env, "can be made", "", origin
    return identity.env, "missing", "", origin


def _size(one: SetHere) -> str:
    return f"{one.bytes / 1e6:,.1f} MB"

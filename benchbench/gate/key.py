"""Is there anything to compare? A baseline's key, checked before any number is looked at.

Two runs are comparable where the suite's cells, the GPU's or processor's model, torch's version
and the data sets are the same. A canary is meant to run anywhere: its key is the kind of device
instead of the model, and neither torch's version nor the bytes of the data are in it, since the
tolerance judges what they change.
"""

from __future__ import annotations

import hashlib

import pandas as pd

from benchbench.core.files import object_of
from benchbench.gate.snapshot import Snapshot


def compare_keys(baseline: Snapshot, candidate: Snapshot) -> pd.DataFrame:
    """The parts of both keys: ``part, baseline, candidate, equal``.

    A part that a run does not know, since none of its cells finished, is null. Unknown in the
    candidate counts as equal: its cells will be called missing. Unknown in the baseline does not.
    """
    canary = bool(candidate.suite.tolerance)
    theirs, ours = _key(baseline, canary), _key(candidate, canary)
    rows = [
        (part, theirs.get(part), ours.get(part), _equal(theirs.get(part), ours.get(part)))
        for part in dict.fromkeys([*theirs, *ours])
    ]
    return pd.DataFrame(rows, columns=["part", "baseline", "candidate", "equal"])


def suite_hash(snapshot: Snapshot) -> str:
    """12 hexadecimal digits of a hash over the keys of all planned cells, in no order.

    A cell's key covers everything that defines it, its data's identity included; words,
    margins and deltas are not in it.
    """
    text = "\n".join(sorted(snapshot.cells["key"]))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def same_machine(baseline: Snapshot, candidate: Snapshot) -> bool:
    """Whether all finished cells of both ran on one model of device with as many threads."""
    ran = pd.concat([_done(baseline), _done(candidate)])
    return len(ran[["device_name", "threads"]].drop_duplicates()) == 1


def _key(snapshot: Snapshot, canary: bool) -> dict[str, str | None]:
    done = _done(snapshot)
    key: dict[str, str | None] = {"suite": suite_hash(snapshot)}
    if canary:
        return key | {"device": _values(done["device"])}
    key |= {"device": _values(done["device_name"]), "torch": _values(torch_of(done["versions"]))}
    data = done["data_key"] + " sha256 " + done["data_sha256"].str[:12]
    return key | {f"data of {env}": _values(data[done["env"] == env]) for env in _envs(snapshot)}


def torch_of(versions: pd.Series) -> pd.Series:
    """PyTorch's version in each of a cell's ``versions``; 'unknown' where they name none."""
    return versions.map(
        lambda text: (
            str(object_of(text).get("torch", "unknown")) if isinstance(text, str) else "unknown"
        )
    )


def _done(snapshot: Snapshot) -> pd.DataFrame:
    return snapshot.cells[snapshot.cells["status"] == "done"]


def _envs(snapshot: Snapshot) -> list[str]:
    return list(dict.fromkeys(snapshot.cells["env"]))


def _values(column: pd.Series) -> str | None:
    return " + ".join(sorted({str(value) for value in column})) or None


def _equal(baseline: str | None, candidate: str | None) -> bool:
    return baseline is not None and candidate in (baseline, None)

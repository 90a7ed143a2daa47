"""Frames of a set, drawn from positions, resuming where a killed process stopped."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from benchbench.core.files import from_json
from benchbench.data.format import Progress

_RECORD = "drawn.json"
"""How many frames are drawn, and of which positions; gone once all are."""


def draw_rows(body: str, qpos: np.ndarray, folder: Path, progress: Progress) -> None:
    """Draw a frame of ``body`` at each of ``qpos`` (N, nq) into the folder's ``frames.npy``.

    Frames that a killed maker is known to have drawn of the same positions stay as they are. Raises
    as :func:`benchbench.envs.mujoco_draw.draw_frames` does.
    """
    from benchbench.envs.mujoco_draw import draw_frames

    record = folder / _RECORD
    of = hashlib.sha256(np.ascontiguousarray(qpos, np.float32).tobytes()).hexdigest()

    def note(done: int, total: int) -> None:
        record.write_text(json.dumps({"rows": done, "of": of}), encoding="utf-8")
        progress(done, total)

    drawn = _drawn(record, of)
    if drawn < len(qpos):
        draw_frames(body, qpos, folder / "frames.npy", note, first=drawn)
    record.unlink(missing_ok=True)


def _drawn(record: Path, of: str) -> int:
    try:
        told = from_json(record.read_text(encoding="utf-8"))
        return int(told["rows"]) if told["of"] == of else 0
    except (OSError, ValueError, KeyError, TypeError):
        return 0

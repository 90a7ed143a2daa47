"""Files that appear whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

DRAFT = ".draft-"
"""How the names of unfinished files and folders begin; what a killed process leaves behind."""


@contextmanager
def replaced(path: Path, *, synced: bool = True) -> Iterator[BinaryIO]:
    """A file to write that takes the place of ``path`` when the block ends well.

    ``synced`` waits for the disk, so that a power cut leaves the old file or the new one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # A part of the name, so that a draft's name is not too long where the file's is not.
    descriptor, name = tempfile.mkstemp(prefix=f"{DRAFT}{path.name[:40]}-", dir=path.parent)
    draft = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            if synced:
                os.fsync(file.fileno())
        draft.chmod(0o644)
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    if synced:
        sync(path.parent)


def write_text(path: Path, text: str, *, synced: bool = True) -> None:
    """Write a small file whole."""
    with replaced(path, synced=synced) as file:
        file.write(text.encode())


def from_json(text: str | bytes) -> Any:
    """``json.loads`` of a file's text; one nested too deeply is a ``ValueError`` like any other."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def save_figure(figure: Any, path: Path, **options: Any) -> None:
    """``figure.savefig`` in the format of the path's suffix, whole or not at all."""
    with replaced(path) as file:
        figure.savefig(file, **{"format": path.suffix[1:] or "png", **options})


def sync(path: Path) -> None:
    """Wait until the disk has a file's bytes, or a folder's entries."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

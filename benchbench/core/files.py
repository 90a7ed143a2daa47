"""Files: written whole or not at all, their hashes, and the folder of the data sets."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from tqdm import tqdm

DRAFT = ".draft-"
"""Prefix of unfinished files and folders, which a killed process leaves behind."""


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


def object_of(text: str) -> dict[str, Any]:
    """A JSON object from its text. Raises ``ValueError`` where it is none."""
    try:
        value = from_json(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ValueError(f"should be a JSON object, not {text[:80]!r}")
    return value


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


SILENT_SECONDS = 2.0
"""A hash that takes less shows no bar."""

_AT_ONCE = 2**20
"""Bytes of a file read at a time, for its hash."""

_HASHES = ".hashes"
"""The folder of hashes of files from elsewhere, each good for as long as its file is untouched."""


def cache_folder() -> Path:
    """Where data sets are: ``BENCHBENCH_DATA``, else ``benchbench`` in the user's cache."""
    stated = os.environ.get("BENCHBENCH_DATA")
    if stated:
        return Path(stated).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "benchbench"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "benchbench"


def file_sha256(path: Path) -> str:
    """The hexadecimal SHA-256 of a file's bytes; with a bar where that takes long.

    The bar is for a terminal only, so a cell's process, whose output is a log, draws none.
    """
    digest = hashlib.sha256()
    with (
        path.open("rb") as raw,
        tqdm.wrapattr(
            raw, "read", desc=f"checking {path.name}", total=path.stat().st_size,
            dynamic_ncols=True, delay=SILENT_SECONDS, leave=False, disable=None,
        ) as file,
    ):  # fmt: skip
        while read := file.read(_AT_ONCE):
            digest.update(read)
    return digest.hexdigest()


def remembered_sha256(path: Path) -> str:
    """:func:`file_sha256`, without reading a file that is unchanged since the last call.

    Hashes are kept in the data folder, where that can be written.
    """
    found = path.resolve().stat()
    stamp = [found.st_size, found.st_mtime_ns, found.st_ino]
    name = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:16]
    note = cache_folder() / _HASHES / f"{name}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        kept = from_json(note.read_text(encoding="utf-8"))
        if kept["stamp"] == stamp:
            return str(kept["sha256"])
    digest = file_sha256(path)
    with contextlib.suppress(OSError):
        write_text(note, json.dumps({"stamp": stamp, "sha256": digest}, indent=1) + "\n")
    return digest

"""Where data sets are on this machine, and what a file's bytes hash to."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from pathlib import Path

from tqdm import tqdm

from benchbench.core.files import from_json, write_text

SILENT_SECONDS = 2.0
"""What ends sooner shows no bar."""

_AT_ONCE = 2**20
"""So many bytes of a file are read at a time."""

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
    """The same; of a file that has not been touched since it was last asked, without reading it.

    Remembered in the data folder where that can be written.
    """
    found = path.resolve().stat()
    stamp = [found.st_size, found.st_mtime_ns, found.st_ino]
    name = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:16]
    note = cache_folder() / _HASHES / f"{name}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        told = from_json(note.read_text(encoding="utf-8"))
        if told["stamp"] == stamp:
            return str(told["sha256"])
    digest = file_sha256(path)
    with contextlib.suppress(OSError):
        write_text(note, json.dumps({"stamp": stamp, "sha256": digest}, indent=1) + "\n")
    return digest

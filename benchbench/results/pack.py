"""A results folder as one archive to be attached to a paper, and such an archive unpacked.

A ZIP file with ``MANIFEST.json`` first: the SHA-256 of every other file in it. Nothing of an
archive is trusted: its names must be the manifest's, lie within the folder and be plain files, its
bytes must have the manifest's hashes, and no more is unpacked than it declares.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from benchbench.core.errors import UserError
from benchbench.core.files import DRAFT, file_sha256, from_json, replaced
from benchbench.results.store import POLICY
from benchbench.results.tables import read_results
from benchbench.results.trackers import TRACKERS

MANIFEST = "MANIFEST.json"
FORMAT = 1
_TIME = (1980, 1, 1, 0, 0, 0)
"""Of every file in an archive, so that the same results make the same bytes."""
MOST_MANIFEST, MOST_UNPACKED, MOST_TIMES = 2**26, 2**28, 100
"""Bytes of a manifest; bytes that any archive, or times its own size that a large one, may unpack
to: a bomb has a thousand times."""
_LEFT = (
    "logs",
    "checkpoints",
    "running",
    "failed",
    ".lock",
    ".report.lock",
    ".holder.json",
    *TRACKERS,
)
"""What is left out: files of the run itself, and trackers' files, which name the machine."""


def pack(folder: Path, path: Path, policies: bool = False) -> tuple[int, str]:
    """Write the archive; returns its size and SHA-256.

    Raises :class:`UserError` where the folder holds no results.
    """
    suite = read_results(folder).suite
    files = sorted(
        file
        for file in folder.rglob("*")
        if file.is_file() and not file.is_symlink() and _goes(file.relative_to(folder), policies)
    )
    hashes = {str(file.relative_to(folder).as_posix()): file_sha256(file) for file in files}
    manifest = {
        "format": FORMAT,
        "suite": suite.name,
        "folder": _named(folder).name,
        "files": hashes,
    }
    with (
        replaced(path) as target,
        zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        text = json.dumps(manifest, indent=1, sort_keys=True) + "\n"
        _add(archive, MANIFEST, text.encode())
        for file in files:
            _add(archive, str(file.relative_to(folder).as_posix()), file.read_bytes())
    return path.stat().st_size, file_sha256(path)


def _named(folder: Path) -> Path:
    """The folder with a name of its own, where it is called ``.`` or ``..``."""
    return folder.resolve() if folder.name in ("", "..") else folder


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    about = zipfile.ZipInfo(name, _TIME)
    about.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(about, content)


def _goes(name: Path, policies: bool) -> bool:
    if name.parts[0] in _LEFT or any(part.startswith(DRAFT) for part in name.parts):
        return False
    return policies or name.name != POLICY


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """The results folder itself, or an archive's content in a folder that is gone afterwards.

    Raises :class:`UserError` where the archive is damaged or is not what its manifest says.
    """
    if not path.is_file() or path.suffix == ".parquet":  # a stored baseline's table
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="benchbench-") as name:
        try:
            folder = _unpack(path, Path(name))
        except (UserError, OSError):  # a full disk is not the archive's fault
            raise
        except Exception as error:  # zipfile raises many: zlib.error, RuntimeError, EOFError, …
            why = " ".join(f"{error or type(error).__name__}".split())[:300]
            raise UserError(
                f"{path}: is no archive of 'benchbench pack', or not a whole one ({why}); pack it "
                "again"
            ) from None
        yield folder


def _unpack(path: Path, place: Path) -> Path:
    with zipfile.ZipFile(path) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
        if sizes.get(MANIFEST, 0) > MOST_MANIFEST:
            raise UserError(f"{path}: its {MANIFEST} is no manifest; pack it again")
        most = max(MOST_UNPACKED, path.stat().st_size * MOST_TIMES)
        if (total := sum(sizes.values())) > most:
            raise UserError(
                f"{path}: says it holds {total / 1e9:,.1f} GB, over {MOST_TIMES} times its own "
                "size, as results never do; nothing was taken: pack it again"
            )
        try:
            manifest = from_json(archive.read(MANIFEST))
            hashes = {str(name): str(digest) for name, digest in manifest["files"].items()}
            folder = place / _folder_name(str(manifest["folder"]))
        except (KeyError, ValueError, AttributeError, TypeError):
            raise UserError(
                f"{path}: is no archive of 'benchbench pack'; name a results folder or an archive"
            ) from None
        if manifest.get("format") != FORMAT:
            raise UserError(
                f"{path}: is of another version of benchbench; pack it again with this one"
            )
        members = [info for info in archive.infolist() if info.filename != MANIFEST]
        names = [info.filename for info in members]
        if sorted(names) != sorted(hashes):
            raise UserError(f"{path}: holds other files than its manifest says; pack it again")
        for info in members:
            target = _within(folder, info.filename, path)
            target.parent.mkdir(parents=True, exist_ok=True)
            digest, left = hashlib.sha256(), info.file_size
            with archive.open(info) as source, target.open("wb") as file:
                while block := source.read(1 << 20):
                    left -= len(block)
                    if left < 0:
                        raise UserError(
                            f"{path}: {info.filename} is larger than it says; pack it again"
                        )
                    digest.update(block)
                    file.write(block)
            if digest.hexdigest() != hashes[info.filename]:
                raise UserError(
                    f"{path}: {info.filename} has other bytes than the manifest says; pack it again"
                )
    return folder


def _folder_name(told: str) -> str:
    """The folder that an archive names; ``ValueError`` where that would be outside of its place."""
    name = PurePosixPath(told).name
    if name != told or name in ("", ".", "..") or "\\" in name or "\0" in name:
        raise ValueError("the folder's name is a path")
    return name


def _within(folder: Path, name: str, path: Path) -> Path:
    """Where a member goes; refused where that would be outside of the folder."""
    parts = PurePosixPath(name).parts
    if name.startswith("/") or "\\" in name or ":" in name or {"..", "."} & {*parts} or not parts:
        raise UserError(f"{path}: names a file outside of itself ({name}); nothing was taken")
    return folder.joinpath(*parts)

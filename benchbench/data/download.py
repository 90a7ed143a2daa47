"""Files from elsewhere: downloaded with resumption, and verified by their hash."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pooch
import requests
from filelock import FileLock

from benchbench.core.errors import UserError
from benchbench.core.files import remembered_sha256, write_text
from benchbench.data.format import Progress

_PIECE = 2**14  # the most that an interrupted download loses


def download(url: str, path: Path, cure: str, progress: Progress) -> None:
    """Fetch ``url`` to ``path`` unless it exists, resuming an interrupted download.

    Of several processes one fetches and the others wait. ``progress`` is called with bytes. The
    file must have the hash that :func:`check_first_sight` wrote, if it ever did. Raises
    :class:`UserError` that ends with ``cure``.
    """
    pooch.get_logger().setLevel("WARNING")
    part = path.with_name(f"{path.name}.part")

    def resuming(url: str, output: str, _: object) -> None:
        _fetch(url, part, progress)
        os.replace(part, output)

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name}.lock")):
            if not path.is_file():
                pooch.retrieve(
                    url,
                    known_hash=_noted(path),
                    fname=path.name,
                    path=path.parent,
                    downloader=resuming,
                )
    except requests.RequestException as error:
        raise UserError(f"{url}: cannot be downloaded ({_reason(error)}); {cure}") from None
    except OSError as error:
        raise UserError(f"{error.filename or path}: cannot be written ({error.strerror})") from None
    except ValueError:  # pooch raises it where the hash differs
        raise UserError(
            f"{url}: has other bytes than the SHA-256 in {_note(path)} says; if that is meant, "
            f"delete {_note(path).name}; else {cure}"
        ) from None


def check_first_sight(path: Path) -> str:
    """The SHA-256 of a file from elsewhere, which must be what it was when it was first read.

    It is noted beside the file, for ``sha256sum -c``, where the folder can be written. Raises
    :class:`UserError` where the file has changed since.
    """
    digest, noted = remembered_sha256(path), _noted(path)
    if noted is None:
        try:
            write_text(_note(path), f"{digest}  {path.name}\n")
        except OSError:
            return digest
    elif noted != digest:
        raise UserError(
            f"{path}: has other bytes than when it was first read ({_note(path).name}); get it "
            "again, or delete that note if you have replaced the file on purpose"
        )
    return digest


def _fetch(url: str, part: Path, progress: Progress) -> None:
    """Fetch what is not yet in ``part``. Raises ``requests.RequestException``."""
    have = part.stat().st_size if part.exists() else 0
    asked = {"Range": f"bytes={have}-"} if have else {}
    with requests.get(url, headers=asked, stream=True, timeout=60) as answer:
        if answer.status_code == 416:  # nothing left to send: the file is complete, or another one
            part.unlink()
            return _fetch(url, part, progress)
        answer.raise_for_status()
        have = have if answer.status_code == 206 else 0
        total = have + int(answer.headers.get("Content-Length", 0))
        with part.open("ab" if have else "wb") as file:
            for piece in answer.iter_content(_PIECE):
                file.write(piece)
                have += len(piece)
                progress(have, max(have, total))
    if have < total:
        raise requests.ConnectionError(f"broke off after {have} of {total} bytes")
    return None


def _note(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _noted(path: Path) -> str | None:
    """The hash that was noted when the file was first read."""
    try:
        words = _note(path).read_text(encoding="utf-8").split()
    except OSError:
        return None
    return words[0] if words else None


def _reason(error: Any) -> str:
    """The innermost cause of a network error, without the wrapping of three libraries."""
    while error.args and isinstance(error.args[0], BaseException):
        error = error.args[0]
    error = getattr(error, "reason", error)
    return " ".join(str(error).rsplit(">: ", 1)[-1].split())[:160]

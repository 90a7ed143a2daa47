"""Files as one piece of bytes, to be sent from machine to machine and refused where not whole.

A line that names the format, a line of JSON (each file's name, length and sha256), then the files'
bytes one after the other. It is data and never code.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

_FIRST_LINE = b"benchbench parcel 1\n"


def pack(files: Mapping[str, bytes]) -> bytes:
    """The files of these names as one piece."""
    listed = [[n, len(content), _sha256(content)] for n, content in files.items()]
    return b"".join([_FIRST_LINE, json.dumps(listed).encode() + b"\n", *files.values()])


def unpack(parcel: bytes) -> dict[str, bytes]:
    """The files by name; raises ``ValueError`` where the parcel is not what was packed."""
    if not parcel.startswith(_FIRST_LINE):
        raise ValueError("is no parcel of this benchbench's")
    start = len(_FIRST_LINE)
    end = parcel.find(b"\n", start)
    try:
        listed = [(str(n), int(size), str(sha)) for n, size, sha in json.loads(parcel[start:end])]
    except (ValueError, TypeError):
        raise ValueError("is damaged: its list of files cannot be read") from None
    files, at = {}, end + 1
    for name, size, sha in listed:
        content = parcel[at : at + size]
        if len(content) != size or _sha256(content) != sha:
            raise ValueError(f"is damaged: '{name}' is not as it was sent")
        files[name], at = content, at + size
    if at != len(parcel):
        raise ValueError("is damaged: more was received than was sent")
    return files


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()

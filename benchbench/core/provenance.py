"""What ran: versions of everything that shapes a result, and the commit it came from."""

from __future__ import annotations

import json
import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

_PACKAGES = ("benchbench", "torch", "numpy", "mujoco", "d4rl", "pybullet", "pybullet-arm64")


@cache
def versions() -> str:
    """JSON of Python's version and those of the packages that are installed."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:  # an extra that is not installed
            continue
    return json.dumps(found)


@cache
def git_state() -> tuple[str | None, bool | None]:
    """Commit of the checkout that benchbench is imported from and whether it is dirty.

    (None, None) where it is not imported from a checkout of its own. Results do not count as dirt.
    """
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None, None
    try:
        commit = _git(root, "rev-parse", "HEAD")
        status = _git(root, "status", "--porcelain", "--", ".", ":!results")
    except (OSError, subprocess.CalledProcessError):
        return None, None
    return commit, bool(status)


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()

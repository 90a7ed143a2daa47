"""Which simulators are installed, and the command that brings one that is not.

MuJoCo and gymnasium come with benchbench on every Python. PyBullet, d4rl and gym come with it where
their wheels exist (Linux on x86-64 with Python 3.11), dm_control on Python 3.11; elsewhere they are
the extras ``bullet`` and ``vd4rl``.
"""

from __future__ import annotations

import sys
from importlib import util

from benchbench.core.errors import UserError
from benchbench.suite.environments import family_of

_D4RL = "pip install --no-deps d4rl==1.1"

_NEEDED = {
    "maze": ("PyBullet and d4rl", ("pybullet", "gym", "d4rl")),
    "bullet": ("PyBullet and d4rl", ("pybullet", "gym", "d4rl")),
    "dmc": ("dm_control", ("dm_control",)),
}
"""By family: what its environments are played by, in words and as modules."""


def lacking(env_id: str, python: tuple[int, int] | None = None) -> str | None:
    """What has to be installed before ``env_id`` can be played, in a sentence; None if nothing.

    ``python`` is the version that the command is for, by default the one that runs.
    """
    family = family_of(env_id).name
    if family not in _NEEDED:
        return None
    named, modules = _NEEDED[family]
    if all(is_installed(module) for module in modules):
        return None
    python = python or (sys.version_info.major, sys.version_info.minor)
    absent = "which is not installed" if len(modules) == 1 else "which are not all installed"
    return f"{env_id} needs {named}, {absent} here; {_cure(family, python)}"


def require(env_id: str) -> None:
    """Raise :class:`UserError` where :func:`lacking` has something to say."""
    if (missing := lacking(env_id)) is not None:
        raise UserError(missing)


def is_installed(module: str) -> bool:
    """Whether a module can be imported, without importing it."""
    if module in sys.modules:
        return sys.modules[module] is not None
    return util.find_spec(module) is not None


def _cure(family: str, python: tuple[int, int]) -> str:
    version = ".".join(map(str, python))
    if family == "dmc":
        if python <= (3, 12):
            return "run: pip install 'benchbench[vd4rl]'"
        return (
            f"its requirement labmaze has no wheels for Python {version}, so install benchbench "
            "under Python 3.11 or 3.12 for this task"
        )
    if python >= (3, 14):
        return (
            f"PyBullet has no wheels for Python {version}, so install benchbench under Python "
            "3.11, 3.12 or 3.13 for this task"
        )
    return f"run: pip install 'benchbench[bullet]' && {_D4RL}"

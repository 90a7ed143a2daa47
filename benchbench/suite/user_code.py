"""Code of a user's own that a suite names by its import path, ``module:name``.

It is found as Python finds a module, and in the current folder. A suite is checked and its cells'
keys are made without importing it: :func:`code_hash` only reads the module's file.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import re
import sys
from pathlib import Path
from typing import Any

from benchbench.core.errors import UserError
from benchbench.core.settings import suggest

IMPORT_PATH = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$"


def is_import_path(name: str) -> bool:
    """Whether a suite's value names code of the user's own."""
    return re.fullmatch(IMPORT_PATH, name) is not None


def code_hash(key: str, path: str) -> str:
    """16 hexadecimal digits of a hash over the file that an import path names.

    What that module imports in turn is not looked at. Raises :class:`UserError`, naming the suite's
    ``key``, where there is no such file.
    """
    module = path.partition(":")[0]
    _look_in_current_folder()
    try:
        spec = importlib.util.find_spec(module)
        source = Path(spec.origin or "") if spec else None
        text = source.read_bytes() if source else None
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise _unimportable(key, module, error) from None
        text = None
    except Exception as error:  # the packages around it are imported, and may do anything
        raise _unimportable(key, module, error) from None
    if text is None:
        raise UserError(
            f"{key}: there is no module '{module}' here; run benchbench in its folder, add that to "
            "PYTHONPATH, or install it"
        )
    return hashlib.sha256(text).hexdigest()[:16]


def load(key: str, path: str) -> Any:
    """What an import path names; raises :class:`UserError`, naming the suite's ``key``."""
    module, _, name = path.partition(":")
    _look_in_current_folder()
    try:
        found = importlib.import_module(module)
    except Exception as error:
        raise _unimportable(key, module, error) from None
    if not callable(getattr(found, name, None)):
        names = [n for n, value in vars(found).items() if callable(value) and n[0] != "_"]
        raise UserError(f"{key}: {module} has no '{name}' to call{suggest(name, names)}")
    return getattr(found, name)


def _look_in_current_folder() -> None:
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


def _unimportable(key: str, module: str, error: Exception) -> UserError:
    what = " ".join(str(error).split())
    return UserError(
        f"{key}: '{module}' cannot be imported ({type(error).__name__}: {what}); try "
        f"python -c 'import {module}' in its folder"
    )

"""benchbench: which loss should train the pixel encoder of an offline RL agent?

:func:`run`, :func:`plan` and :func:`load` are the command line's main verbs; :func:`audit` and
:func:`watch` follow the gradients of anyone's torch training loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchbench.api import Run as Run
    from benchbench.api import load as load
    from benchbench.api import load_policy as load_policy
    from benchbench.api import plan as plan
    from benchbench.api import run as run
    from benchbench.gradients.audit import Audit as Audit
    from benchbench.gradients.audit import audit as audit
    from benchbench.gradients.audit import watch as watch

__version__ = "0.1.0"
__all__ = ["Audit", "Run", "__version__", "audit", "load", "load_policy", "plan", "run",
           "watch"]  # fmt: skip

_HOMES = {
    "benchbench.api": ("Run", "load", "load_policy", "plan", "run"),
    "benchbench.gradients.audit": ("Audit", "audit", "watch"),
}


def __getattr__(name: str) -> Any:
    # Imported when asked for: torch takes seconds, and the command line answers at once.
    from importlib import import_module

    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(home), name)
    raise AttributeError(f"module 'benchbench' has no attribute {name!r}")

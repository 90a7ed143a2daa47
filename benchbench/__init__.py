"""benchbench: which loss should train the pixel encoder of an offline RL agent?

:func:`audit` watches the gradients of anyone's torch training loop; the rest is the command line's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchbench.gradients.audit import Audit as Audit
    from benchbench.gradients.audit import audit as audit

__version__ = "0.1.0"
__all__ = ["Audit", "__version__", "audit"]


def __getattr__(name: str) -> Any:
    # torch is imported when it is asked for, so that the command line answers at once.
    if name in ("Audit", "audit"):
        from benchbench.gradients import audit as room

        return getattr(room, name)
    raise AttributeError(f"module 'benchbench' has no attribute {name!r}")

"""PyBullet's worlds, made quick to call.

``BulletClient`` looks a function up and binds it anew at every call, which takes as long as many of
the calls themselves. Here each function is bound once; what it does stays PyBullet's.
"""

from __future__ import annotations

import atexit
from typing import Any
from weakref import WeakSet

from benchbench.envs.d4rl import quiet

_worlds: WeakSet[Any] = WeakSet()


def empty_world() -> Any:
    """A world (a ``BulletClient``) without a display, with nothing in it."""
    with quiet():
        import pybullet
        from pybullet_utils.bullet_client import BulletClient

        world = BulletClient(pybullet.DIRECT)
    quicken(world)
    _worlds.add(world)
    return world


def quicken(world: Any) -> None:
    """Keep PyBullet's names with a world, all but ``disconnect``, which ends its client."""
    import pybullet

    for name in vars(pybullet):
        if not name.startswith("_") and name != "disconnect":
            setattr(world, name, getattr(world, name))


@atexit.register
def _end_worlds() -> None:
    """End what is left while Python is whole; ``BulletClient`` does so too late, and complains."""
    for world in list(_worlds):
        world.disconnect()

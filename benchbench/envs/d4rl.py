"""The only importer of ``d4rl`` and ``gym``, and PyBullet's worlds, made quick to call.

A plain import of ``d4rl`` 1.1 raises where the MuJoCo 2.1 binary is absent, prints notices from
Python and from C, and writes files into a folder that all processes share. This module works around
each of these. Importing it is cheap; ``d4rl`` itself is imported when a function first needs it.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib
import importlib.metadata
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from weakref import WeakSet

import numpy as np

from benchbench.envs import gl, simulators


def load() -> None:
    """Import d4rl now, rather than when it is first needed. Raises ``ImportError`` without it."""
    _d4rl()


def is_installed() -> bool:
    """Whether d4rl, gym and PyBullet are all here."""
    return all(simulators.is_installed(module) for module in ("d4rl", "gym", "pybullet"))


def make_env(env_id: str) -> Any:
    """D4RL's environment ``env_id`` (a ``gym.Env``), reset once with seed 0, so that it is loaded.

    D4RL's mazes write their model under its data set folder, not atomically, and read it back at
    the first reset. Here they do so in a folder of this call's own, gone on return: processes that
    start together cannot read each other's half-written files. Where D4RL keeps its downloads
    (``D4RL_DATASET_DIR``) stays as it was.
    """
    _d4rl()
    with quiet():
        import gym
        from d4rl import offline_env

        downloads = offline_env.DATASET_PATH
        with tempfile.TemporaryDirectory(prefix="benchbench-") as folder:
            offline_env.DATASET_PATH = folder
            try:
                env = gym.make(env_id, disable_env_checker=True)
                env.seed(0)
                env.reset()
            finally:
                offline_env.DATASET_PATH = downloads
    return env


def waypoint_controller(maze_spec: str, p_gain: float, d_gain: float) -> Any:
    """D4RL's ``WaypointController`` for the maze drawn by ``maze_spec``.

    Its ``get_action(position, velocity, target)`` returns ``(action, reached)``. It jitters its
    waypoints from numpy's global random state.
    """
    _d4rl()
    from d4rl.pointmaze.waypoint_controller import WaypointController

    return WaypointController(maze_spec, p_gain=p_gain, d_gain=d_gain)


def reactive_policy(body: str, env: Any) -> Callable[[np.ndarray], np.ndarray]:
    """Actions (A,), not clipped, from observations (D,): the policy that PyBullet ships of 2017.

    ``SmallReactivePolicy`` of ``pybullet_envs.examples.enjoy_TF_<Body>BulletEnv_v0_2017may``.
    """
    _d4rl()
    name = {"hopper": "Hopper", "halfcheetah": "HalfCheetah", "walker2d": "Walker2D", "ant": "Ant"}
    with quiet():
        examples = importlib.import_module(
            f"pybullet_envs.examples.enjoy_TF_{name[body]}BulletEnv_v0_2017may"
        )
    policy = examples.SmallReactivePolicy(env.observation_space, env.action_space)
    act: Callable[[np.ndarray], np.ndarray] = policy.act
    return act


def qlearning_dataset(dataset: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """``d4rl.qlearning_dataset`` of arrays that have a ``timeouts`` key."""
    transitions: dict[str, np.ndarray] = _d4rl().qlearning_dataset(env=None, dataset=dataset)
    return transitions


def versions() -> dict[str, str]:
    """The versions of the packages that decide a data set's bytes, of those that are installed.

    PyBullet comes under two names: ``pybullet``, and ``pybullet-arm64`` for newer Pythons.
    """
    found: dict[str, str] = {}
    for name in ("d4rl", "gym", "numpy", "pybullet", "pybullet-arm64"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence warnings and all that is printed, from Python and from C, within the block.

    It redirects the process's own file descriptors 1 and 2, so it is for the few calls that load a
    simulator, before any other thread prints.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    with open(os.devnull, "w") as nothing, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kept = {descriptor: os.dup(descriptor) for descriptor in (1, 2)}
        for descriptor in kept:
            os.dup2(nothing.fileno(), descriptor)
        try:
            with contextlib.redirect_stdout(nothing), contextlib.redirect_stderr(nothing):
                yield
        finally:
            for descriptor, copy in kept.items():
                os.dup2(copy, descriptor)
                os.close(copy)


@functools.cache
def _d4rl() -> ModuleType:
    """``d4rl``, imported so that it neither fails without MuJoCo 2.1 nor prints."""
    os.environ.setdefault("D4RL_SUPPRESS_IMPORT_ERROR", "1")
    gl.choose()  # d4rl imports mujoco and dm_control, which settle on a renderer then
    if not _has_mujoco_2_1():
        # mujoco_py would raise a bare Exception, which d4rl's `except ImportError` lets through.
        # A module that is None makes its import an ImportError.
        sys.modules.setdefault("mujoco_py", None)  # type: ignore[arg-type]
    with quiet(), _no_downloads_folder():
        import d4rl
        import gym

        gym.logger.set_level(gym.logger.ERROR)
    module: ModuleType = d4rl
    return module


@contextlib.contextmanager
def _no_downloads_folder() -> Iterator[None]:
    """D4RL makes its downloads' folder when it is imported, and fails where the home is read-only.

    Here it makes a temporary one, and knows the right one afterwards.
    """
    told = os.environ.get("D4RL_DATASET_DIR")
    with tempfile.TemporaryDirectory(prefix="benchbench-") as folder:
        os.environ["D4RL_DATASET_DIR"] = folder
        try:
            yield
        finally:
            if told is None:
                del os.environ["D4RL_DATASET_DIR"]
            else:
                os.environ["D4RL_DATASET_DIR"] = told
    from d4rl import offline_env

    offline_env.DATASET_PATH = told or os.path.expanduser("~/.d4rl/datasets")


def _has_mujoco_2_1() -> bool:
    """Whether the binary is where ``mujoco_py`` looks for it."""
    default = Path.home() / ".mujoco" / "mujoco210"
    return Path(os.environ.get("MUJOCO_PY_MUJOCO_PATH", default)).is_dir()


_worlds: WeakSet[Any] = WeakSet()


def empty_world() -> Any:
    """An empty ``BulletClient`` without a display."""
    with quiet():
        import pybullet
        from pybullet_utils.bullet_client import BulletClient

        world = BulletClient(pybullet.DIRECT)
    quicken(world)
    _worlds.add(world)
    return world


def quicken(world: Any) -> None:
    """Bind each of PyBullet's functions to a world once, except ``disconnect``.

    ``BulletClient`` looks a function up and binds it anew at every call, which takes as long as
    many of the calls themselves.
    """
    import pybullet

    for name in vars(pybullet):
        if not name.startswith("_") and name != "disconnect":
            setattr(world, name, getattr(world, name))


@atexit.register
def _end_worlds() -> None:
    """Disconnect all worlds before Python shuts down; ``BulletClient`` does so too late."""
    for world in list(_worlds):
        world.disconnect()

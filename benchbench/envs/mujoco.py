"""D4RL's MuJoCo bodies through a camera: ``{hopper,halfcheetah,walker2d,ant}-<kind>-v2``.

D4RL's data come from gym's v2 environments, which need ``mujoco_py`` and a binary of 2021. Policies
are played in gymnasium's v4: the same models, frame skip, rewards, terminations and start states on
today's ``mujoco`` package. (v5 is another task: it mended the walker's foot friction and changed
the ant's and the hopper's rewards. Minari's sets, ``minari:mujoco/<body>/<kind>``, come from v5 and
are played in it.) How close today's simulator comes to D4RL's is measured where there is a file to
measure on: :func:`replayed`.

Positions and velocities are the whole state except what MuJoCo's solver starts from, the last
accelerations (``qacc_warmstart``). Played on for twenty steps, a state put back without them is at
most 4e-16 off for the hopper, 9e-15 for the walker, 2e-13 for the ant and 2e-12 for the
halfcheetah, in metres and radians; with them, nothing at all is off.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchbench.core.errors import UserError
from benchbench.envs import JOINTS, BodyPixelEnv, gl
from benchbench.envs.d4rl_reference import normalized_score
from benchbench.envs.mujoco_camera import shared_camera, unlogged
from benchbench.suite.environments import EPISODE_STEPS

TASKS = {
    "hopper": "Hopper",
    "halfcheetah": "HalfCheetah",
    "walker2d": "Walker2d",
    "ant": "Ant",
}
"""Gymnasium's name of each body."""

_MINARI = re.compile(r"minari:mujoco/([a-z0-9]+)/")

_REPLAYED = 200
"""How many rows :func:`replayed` plays one step from."""


def body_of(env_id: str) -> str:
    """The body of an id of D4RL's or Minari's.

    Raises :class:`UserError` where that is none of those that have a camera here.
    """
    found = _MINARI.match(env_id)
    body = found[1] if found else env_id.split("-", 1)[0]
    if body not in TASKS:
        raise UserError(
            f"{env_id}: has no camera here; those that have are {', '.join(TASKS)}, such as "
            "hopper-medium-v2 or minari:mujoco/hopper/medium-v0"
        )
    return body


def version_of(env_id: str) -> int:
    """The version of gymnasium's environment that an id is played in."""
    return 5 if env_id.startswith("minari:") else 4


def reference_of(env_id: str) -> str:
    """The D4RL id whose reference returns an id is scored by: of Minari's sets, the same body's."""
    return f"{body_of(env_id)}-medium-v2" if env_id.startswith("minari:") else env_id


def state_names(body: str) -> tuple[str, ...]:
    """What the columns of an observation are: positions without the way covered, then velocities.

    Those of hopper, halfcheetah and walker2d are D4RL's columns. The ant's are the first 27 of
    D4RL's 111: the rest are contact forces, which gym's v2 left at 0.
    """
    joints = JOINTS[body]
    root: tuple[str, ...] = ("z", "pitch")
    moving: tuple[str, ...] = ("v_x", "v_z", "w_pitch")
    if body == "ant":
        root = ("z", "quat_w", "quat_x", "quat_y", "quat_z")
        moving = ("v_x", "v_y", "v_z", "w_x", "w_y", "w_z")
    return (*root, *joints, *moving, *(f"w_{joint}" for joint in joints))


class MujocoPixelEnv(BodyPixelEnv):
    """One body and the process's camera of it; see :class:`benchbench.envs.PixelEnv`.

    An episode ends for good where the body is not healthy; the halfcheetah always is.
    """

    def __init__(self, env_id: str, size: int, action_repeat: int = 1) -> None:
        body = body_of(env_id)
        env, groups = make_simulator(body, version_of(env_id)), proprio_groups(env_id)
        super().__init__(env_id, size, action_repeat, env, state_names(body), groups)
        self._camera = shared_camera(body, size)

    def reset(self, seed: int) -> None:
        """Begin the episode that ``seed`` determines, whatever episodes came before."""
        obs, _ = self._env.reset(seed=seed)
        self._state = self._known(obs)
        self._steps_left = EPISODE_STEPS

    def frame(self) -> np.ndarray:
        """The picture of :meth:`state`, (size, size, 3) uint8."""
        return self._camera.frame(self._env.data.qpos)

    def qpos_qvel(self) -> tuple[np.ndarray, np.ndarray]:
        """D4RL's ``infos/qpos`` and ``infos/qvel`` of :meth:`state`, (nq,) and (nv,) float32."""
        data = self._env.data
        return data.qpos.astype(np.float32), data.qvel.astype(np.float32)

    def set_state(self, qpos: np.ndarray, qvel: np.ndarray, last_action: np.ndarray) -> None:
        """Continue from a stored row, without a time limit.

        ``last_action`` is not needed. :meth:`state` is the row's own. Stored as float32, a row
        leads to the next one's positions within 3e-7, and after twenty steps within 3e-6 in nine of
        ten (measured on 68 to 417 rows a body); where a contact is made or missed it can be 1e-5
        for the halfcheetah and 0.15 for the ant. The ant's first reward reads a position that
        MuJoCo computes half a step early and that is not stored: it is off by 3e-4 in the median
        and by up to 0.04.
        """
        simulator = self._env
        simulator.set_state(np.asarray(qpos, np.float64), np.asarray(qvel, np.float64))
        self._state = self._known(simulator._get_obs())
        self._steps_left = math.inf

    def normalized_score(self, return_: float) -> float:
        """The D4RL score × 100 of an episode's return; see :func:`reference_of`."""
        return normalized_score(reference_of(self.env_id), return_)

    def _simulate(self, torque: np.ndarray) -> tuple[np.ndarray, float, bool]:
        obs, reward, terminal, _, _ = self._env.step(torque)
        return self._known(obs), float(reward), bool(terminal)

    def _known(self, obs: np.ndarray) -> np.ndarray:
        """An observation without the contact forces that v5's ant has at its end."""
        return obs[: len(self.state_names)].astype(np.float32)

    def close(self) -> None:
        """Free the simulator; the camera stays for its other users."""
        self._env.close()


def make_simulator(body: str, version: int = 4) -> Any:
    """Gymnasium's environment of a body, without its wrappers and without a renderer."""
    gl.choose()
    import gymnasium

    with warnings.catch_warnings(), unlogged():
        warnings.simplefilter("ignore")  # that there is a v5
        return gymnasium.make(f"{TASKS[body]}-v{version}", disable_env_checker=True).unwrapped


def observation_of(body: str, qpos: np.ndarray, qvel: np.ndarray) -> np.ndarray:
    """The observations (N, D) that go with positions (N, nq) and velocities (N, nv)."""
    if body == "ant":
        return np.concatenate([qpos[:, 2:], qvel], axis=1)
    velocity = qvel if body == "halfcheetah" else np.clip(qvel, -10, 10)
    return np.concatenate([qpos[:, 1:], velocity], axis=1)


def replayed(simulator: Any, columns: Mapping[str, np.ndarray]) -> dict[str, float]:
    """How far one step of ``simulator`` leads from the next row of a file, from rows all over it.

    ``columns`` are under D4RL's keys. Per row the largest difference in the positions, metres and
    radians: the ``median`` and ``max`` over ``rows`` rows. Closes the simulator.
    """
    qpos, qvel = columns["infos/qpos"], columns["infos/qvel"]
    rows = np.flatnonzero(~(columns["terminals"] | columns["timeouts"]))
    rows = rows[:: max(1, len(rows) // _REPLAYED)]
    gaps = np.empty(len(rows))
    for index, row in enumerate(rows):
        simulator.set_state(qpos[row].astype(np.float64), qvel[row].astype(np.float64))
        simulator.step(np.clip(columns["actions"][row].astype(np.float64), -1.0, 1.0))
        gaps[index] = np.abs(simulator.data.qpos - qpos[row + 1]).max()
    simulator.close()
    return {"rows": len(rows), "median": float(np.median(gaps)), "max": float(gaps.max())}


def proprio_groups(env_id: str) -> dict[str, tuple[int, ...]]:
    """What a suite may write under ``proprio``, and the state's columns that each name selects.

    ``position`` and ``velocity``, and each column by its own name.
    """
    columns = state_names(body_of(env_id))
    velocity = tuple(i for i, name in enumerate(columns) if name.startswith(("v_", "w_")))
    position = tuple(i for i in range(len(columns)) if i not in velocity)
    return {
        "position": position,
        "velocity": velocity,
        **{name: (column,) for column, name in enumerate(columns)},
    }

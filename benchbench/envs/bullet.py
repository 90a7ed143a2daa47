"""D4RL's PyBullet bodies through a camera: ``bullet-{hopper,halfcheetah,walker2d,ant}-v0``.

What the simulator does, as measured (d4rl 1.1, pybullet 3.2.7):

- A seed is an episode: PyBullet goes back to its saved start, the joints are drawn from the seed,
  and observations and rewards are the same bytes whatever went before.
- In an observation the joints are those of now. What it says of the torso is a quarter of a step
  old (of the last of the step's four parts), and the feet's contacts are a whole step old. Hence a
  stored row has more than positions and velocities: see :meth:`BulletPixelEnv.qpos_qvel`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from benchbench.envs import JOINTS, BodyPixelEnv, d4rl
from benchbench.envs.bullet_camera import movable_joints, shared_camera
from benchbench.envs.d4rl import quicken
from benchbench.envs.d4rl_reference import normalized_score
from benchbench.suite.environments import EPISODE_STEPS

_FEET = {
    "hopper": ("foot",),
    "halfcheetah": ("ffoot", "fshin", "fthigh", "bfoot", "bshin", "bthigh"),
    "walker2d": ("foot", "foot_left"),
    "ant": ("front_left", "front_right", "left_back", "right_back"),
}
_TORSO = ("z", "sin_target", "cos_target", "v_x", "v_y", "v_z", "roll", "pitch")

Saved = tuple[np.ndarray, np.ndarray]


def body_of(env_id: str) -> str:
    """The body of an id."""
    return env_id.split("-")[1]


def state_names(body: str) -> tuple[str, ...]:
    """Names of D4RL's columns: the torso, each joint's angle and speed, the feet's contacts.

    ``sin_target`` and ``cos_target`` are of the angle to the target, a kilometre off along x.
    """
    joints = (name for joint in JOINTS[body] for name in (joint, f"w_{joint}"))
    return (*_TORSO, *joints, *(f"contact_{foot}" for foot in _FEET[body]))


def proprio_groups(env_id: str) -> dict[str, tuple[int, ...]]:
    """What a suite may write under ``proprio``, and the state's columns that each name selects.

    ``position`` and ``velocity``, their parts ``joints`` and ``joint-velocity``, ``contacts``, and
    each column by its own name.
    """
    columns = state_names(body_of(env_id))
    contacts = tuple(i for i, name in enumerate(columns) if name.startswith("contact_"))
    velocity = tuple(i for i, name in enumerate(columns) if name.startswith(("v_", "w_")))
    position = tuple(i for i in range(len(columns)) if i not in velocity + contacts)
    return {
        "position": position,
        "velocity": velocity,
        "joints": tuple(i for i in position if i >= len(_TORSO)),
        "joint-velocity": tuple(i for i in velocity if i >= len(_TORSO)),
        "contacts": contacts,
        **{name: (column,) for column, name in enumerate(columns)},
    }


class BulletPixelEnv(BodyPixelEnv):
    """One body and its camera; see :class:`benchbench.envs.PixelEnv` for the public face.

    A step pays 1 for being upright (-1 when not) and the way covered towards the target, and takes
    for torque and for joints at their limit. Hopper, walker and ant end for good where they fall,
    the halfcheetah never.
    """

    def __init__(self, env_id: str, size: int, action_repeat: int = 1) -> None:
        body = body_of(env_id)
        env, groups = d4rl.make_env(env_id).unwrapped, proprio_groups(env_id)
        super().__init__(env_id, size, action_repeat, env, state_names(body), groups)
        self._task = self._env.wrapped_env
        quicken(self._task._p)
        self._camera = shared_camera(body, size)
        self._body = self._task.robot.objects[0]
        self._joints = movable_joints(self._task._p, self._body)

    def reset(self, seed: int) -> None:
        """Begin the episode that ``seed`` determines, whatever episodes came before."""
        self._env.seed(seed)
        self._state = np.asarray(self._env.reset(), np.float32)
        self._steps_left = EPISODE_STEPS

    def frame(self) -> np.ndarray:
        """The picture of the simulator's positions, (size, size, 3) uint8."""
        return self._camera.frame(self._positions())

    def qpos_qvel(self) -> Saved:
        """The simulator's position and velocity, and what goes on from them needs beside.

        float64, as float32 would be a start 1e-7 off, which the ant's and the halfcheetah's
        contacts amplify. ``qpos`` (Q,): the ant's base position and quaternion; each movable joint;
        then the mean x and y of the body's parts, from which progress is counted, the height that
        the torso started at, and the feet's contacts. ``qvel`` (V,): the ant's base velocity and
        rotation; each movable joint's speed; then the observation.
        """
        robot, states = self._task.robot, self._task._p.getJointStates(self._body, self._joints)
        base: list[float] = []
        if self._camera.is_free:
            base = [x for part in self._task._p.getBaseVelocity(self._body) for x in part]
        kept = [*robot.body_xyz[:2], robot.initial_z, *robot.feet_contact]
        qpos = np.concatenate([self._positions(), kept])
        return qpos, np.array([*base, *(joint[1] for joint in states), *self._state], np.float64)

    def set_state(self, qpos: np.ndarray, qvel: np.ndarray, last_action: np.ndarray) -> None:
        """Continue from a stored row, without a time limit.

        ``last_action`` is not needed. :meth:`state` and :meth:`frame` are the row's own. Not stored
        are the contact points that PyBullet remembers between steps. Of 108 to 120 rows of the
        shipped policy, played on by it for 400 steps: the hopper's whole run was the same to the
        last bit from 98 in 100, the halfcheetah's from 84, the walker's first 20 steps from 67; the
        ant's base comes back 1e-15 off, which after 20 steps is 1e-11 in the median and 0.004 at
        most, and after 400 another run. The sum of rewards discounted by 0.99 is the same in the
        mean, as nearly as was measured, its difference being 0.03 ± 0.03 (hopper), 0.06 ± 0.06
        (halfcheetah), -0.4 ± 0.2 (walker2d) and -0.8 ± 0.8 (ant, of sums of 234 ± 17, with a
        standard deviation of 9 and a correlation of 0.90 a row; with noise of 0.3 on the actions
        0.6 ± 0.5 of 225 ± 25, with noise of 1 2.0 ± 0.9 of 128 ± 42).
        """
        task, p, robot = self._task, self._task._p, self._task.robot
        p.restoreState(task.stateId)  # forgets the contacts of wherever it was
        qpos, qvel = np.asarray(qpos, np.float64), np.asarray(qvel, np.float64)
        if self._camera.is_free:
            p.resetBasePositionAndOrientation(self._body, qpos[:3], qpos[3:7])
            p.resetBaseVelocity(self._body, qvel[:3], qvel[3:6])
            qpos, qvel = qpos[7:], qvel[6:]
        count = len(self._joints)
        for joint, position, speed in zip(self._joints, qpos, qvel, strict=False):
            p.resetJointState(self._body, joint, position, speed)
        x, y, robot.initial_z = (float(value) for value in qpos[count : count + 3])
        robot.feet_contact = qpos[count + 3 :].astype(np.float32)
        target = robot.walk_target_x - x, robot.walk_target_y - y
        robot.walk_target_dist = float(np.linalg.norm(target))
        task.potential = robot.calc_potential()
        self._state = qvel[count:].astype(np.float32)
        self._steps_left = math.inf

    def normalized_score(self, return_: float) -> float:
        """The D4RL score × 100 of an episode's return; all of a body's D4RL sets share one."""
        return normalized_score(f"bullet-{body_of(self.env_id)}", return_)

    def shipped_policy(self) -> Callable[[np.ndarray], np.ndarray]:
        """The policy that PyBullet ships for the body; see :func:`d4rl.reactive_policy`."""
        return d4rl.reactive_policy(body_of(self.env_id), self._env)

    def close(self) -> None:
        """Free the simulator."""
        self._env.close()

    def _simulate(self, torque: np.ndarray) -> tuple[np.ndarray, float, bool]:
        obs, reward, terminal, _ = self._env.step(torque)
        return np.asarray(obs, np.float32), float(reward), bool(terminal)

    def _positions(self) -> np.ndarray:
        """What the camera takes: the base's pose where it is free, and the joints' positions."""
        p = self._task._p
        base: list[Any] = []
        if self._camera.is_free:
            base = [x for part in p.getBasePositionAndOrientation(self._body) for x in part]
        joints = [joint[0] for joint in p.getJointStates(self._body, self._joints)]
        return np.array([*base, *joints], np.float64)

"""D4RL's facts as a table: reference returns, time limits and the addresses of its files.

From ``d4rl/infos.py`` and ``d4rl/pointmaze/__init__.py`` of the package d4rl 1.1, so that neither a
score nor a download needs that package. A test compares the table with d4rl where it is installed.
"""

from __future__ import annotations

import re

_ADDRESS = "http://rail.eecs.berkeley.edu/datasets/offline_rl"

_MUJOCO = re.compile(r"(hopper|halfcheetah|walker2d|ant)-([a-z-]+)-v2")

REFERENCE_RETURNS: dict[str, tuple[float, float]] = {
    "maze2d-open-v0": (0.01, 20.66),
    "maze2d-umaze-v1": (23.85, 161.86),
    "maze2d-medium-v1": (13.13, 277.39),
    "maze2d-large-v1": (6.7, 273.99),
    "maze2d-open-dense-v0": (11.17817, 27.166538620695782),
    "maze2d-umaze-dense-v1": (68.537689, 193.66285642381482),
    "maze2d-medium-dense-v1": (44.264742, 297.4552547777125),
    "maze2d-large-dense-v1": (30.569041, 303.4857382709002),
    "bullet-maze2d-open-v0": (8.75, 64.15),
    "bullet-maze2d-umaze-v0": (32.46, 153.99),
    "bullet-maze2d-medium-v0": (14.87, 238.05),
    "bullet-maze2d-large-v0": (1.82, 285.92),
    "bullet-hopper": (20.058972, 1441.8059623430963),
    "bullet-halfcheetah": (-1275.766996, 2381.6725),
    "bullet-walker2d": (16.523877, 1623.6476303317536),
    "bullet-ant": (373.705955, 2650.495),
    "hopper": (-20.272305, 3234.3),
    "halfcheetah": (-280.178953, 12135.0),
    "walker2d": (1.629008, 4592.3),
    "ant": (-325.6, 3879.7),
}
"""The returns of a random policy and of an expert: score 0 and score 100. By id, and of bodies,
whose data sets share them, by body."""

MAZE_STEPS = {"open": 150, "umaze": 300, "medium": 600, "large": 800}
"""The longest episode of each maze in simulator steps, for MuJoCo's mazes and PyBullet's alike."""


def normalized_score(env_id: str, return_: float) -> float:
    """The D4RL-normalised score × 100 of an undiscounted return: 0 is random, 100 is expert.

    ``env_id`` is D4RL's, or a body of its PyBullet sets, such as ``bullet-hopper``. Fu et al. 2020,
    https://arxiv.org/abs/2004.07219, section 4. Raises ``KeyError`` on any other id.
    """
    body = _MUJOCO.fullmatch(env_id)
    low, high = REFERENCE_RETURNS[body[1] if body else env_id]
    return (return_ - low) / (high - low) * 100.0


def dataset_url(env_id: str) -> str:
    """The address of D4RL's file of a MuJoCo id. Raises ``KeyError`` on an id without a file."""
    if body := _MUJOCO.fullmatch(env_id):
        return f"{_ADDRESS}/gym_mujoco_v2/{body[1]}_{body[2].replace('-', '_')}-v2.hdf5"
    maze = re.fullmatch(r"maze2d-([a-z]+)(-dense)?(-v1|-v0)", env_id)
    if maze is None:
        raise KeyError(env_id)
    version = "" if maze[3] == "-v0" else maze[3]
    return f"{_ADDRESS}/maze2d/maze2d-{maze[1]}{maze[2] or '-sparse'}{version}.hdf5"

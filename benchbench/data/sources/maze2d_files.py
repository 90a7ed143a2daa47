"""The source ``d4rl`` for Maze2D: D4RL's own files, with frames painted from the states in them.

A file is where d4rl itself puts it (``D4RL_DATASET_DIR``, else ``~/.d4rl/datasets``), or
is downloaded to there from D4RL's own address; its SHA-256 is written beside it when it is first
read and has to fit from then on.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchbench.core.errors import UserError
from benchbench.data.arrays import ArrayFile, check_columns, check_episodes, check_flags
from benchbench.data.download import check_first_sight
from benchbench.data.format import Draft, Progress
from benchbench.data.sources import d4rl_files
from benchbench.data.sources.d4rl_files import file_path
from benchbench.envs.d4rl_reference import MAZE_STEPS
from benchbench.envs.maze2d import STATE_NAMES, Maze2dPixelEnv, maze_of
from benchbench.suite.dataset_identity import DataIdentity

RESUMES = False

PACKAGES = ("mujoco", "numpy")

_SHAPES = {"observations": 4, "actions": 2, "infos/qpos": 2, "infos/qvel": 2}
_FURTHEST = 0.06
"""The ball moves less than this in a step: at most 5 a second, for 0.01 s, and a little more."""
_REPLAYED = 200

origin, fetch, count = d4rl_files.origin, d4rl_files.fetch, d4rl_files.count


def lacking(identity: DataIdentity) -> str | None:
    """Whether D4RL's file is missing."""
    path = file_path(identity.env)
    if path.is_file():
        return None
    return (
        f"{path}: D4RL's file of {identity.env} is missing; 'benchbench data prepare SUITE' "
        "downloads it, or put it there, or set D4RL_DATASET_DIR to the folder that has it, or "
        "write 'source: waypoint' to make a set here by D4RL's recipe"
    )


def make(identity: DataIdentity, folder: Path, progress: Progress) -> None:
    """Check the file, copy its columns and paint a frame for each row.

    No state of a maze is terminal, so what the file's ``terminals`` mark (D4RL's script: a target
    reached or given up) are cuts here. A file without any mark is cut each episode's length, as
    ``d4rl.qlearning_dataset`` does. The card says how many rows' rewards are the task's for the
    row's own observation (``rewards_as_task``) and how far one step of today's simulator leads from
    the file's next row (``replay``).
    Raises :class:`UserError` naming the file and the key that is damaged.
    """
    path = file_path(identity.env)
    digest = check_first_sight(path)
    columns = read(path, MAZE_STEPS[maze_of(identity.env)])
    marked = int(columns["terminals"].sum())
    columns["timeouts"] |= columns["terminals"]
    columns["terminals"][:] = False
    last_is_whole = bool(columns["timeouts"][-1])
    columns["timeouts"][-1] = True
    check_episodes(path, columns["terminals"], columns["timeouts"])
    rows, positions = len(columns["rewards"]), columns["infos/qpos"]
    env = Maze2dPixelEnv(identity.env, identity.size)
    widths = {key: values.shape[1] for key, values in columns.items() if values.ndim == 2}
    draft = Draft(identity, folder, rows, widths)
    for key, values in columns.items():
        draft.columns[key][:] = values
    for row in range(rows):
        draft.frames[row] = env.painted(positions[row])
        if (row + 1) % 1000 == 0 or row + 1 == rows:
            progress(row + 1, rows)
    cuts = np.flatnonzero(columns["timeouts"][:-1])
    moved = np.abs(positions[cuts + 1] - positions[cuts]).max(axis=1, initial=0.0)
    draft.finish(
        STATE_NAMES,
        env.normalized_score,
        PACKAGES,
        continuous=bool((moved < _FURTHEST).all()),
        last_is_whole=last_is_whole,
        source_file=path.name,
        source_sha256=digest,
        terminals_taken_as_cuts=marked,
        rewards_as_task=_rewards_as_task(env, columns),
        replay=_replayed(env, columns),
    )


def read(path: Path, limit: int) -> dict[str, np.ndarray]:
    """The columns of a D4RL file under D4RL's keys, checked: float32 and bool, a row a step.

    ``timeouts`` are cuts each ``limit`` rows where the file marks none. Raises :class:`UserError`
    naming the file and the key.
    """
    shapes = {key: (None, width) for key, width in _SHAPES.items()}
    with ArrayFile(path) as file:
        columns = {key: file.read(key) for key in ("rewards", "terminals", *shapes)}
        if "timeouts" in file.names:
            columns["timeouts"] = file.read("timeouts")
        if "infos/goal" in file.names:
            columns["infos/goal"] = file.read("infos/goal")
            shapes["infos/goal"] = (None, 2)
    flags = ("terminals", "timeouts")
    for key in ("rewards", *flags):
        if key in columns and columns[key].ndim == 2 and columns[key].shape[1] == 1:
            columns[key] = columns[key][:, 0]
    columns.setdefault("timeouts", np.zeros(len(columns["rewards"]), bool))
    check_columns(path, columns, shapes | {key: (None,) for key in ("rewards", *flags)})
    check_flags(path, columns)
    columns = {key: v.astype(bool if key in flags else np.float32) for key, v in columns.items()}
    if not (columns["terminals"] | columns["timeouts"]).any():
        columns["timeouts"][limit - 1 :: limit] = True
    shown = np.concatenate([columns["infos/qpos"], columns["infos/qvel"]], axis=1)
    wrong = np.abs(shown - columns["observations"]).max(axis=1) > 1e-3
    if wrong.any():
        raise UserError(
            f"{path}: the keys 'infos/qpos' and 'infos/qvel' do not belong to 'observations' in "
            f"{wrong.sum()} rows, the first being {wrong.argmax()}; frames painted from them would "
            "show other states, so get the file again"
        )
    return columns


def _rewards_as_task(env: Maze2dPixelEnv, columns: dict[str, np.ndarray]) -> float:
    """The share of rows whose reward is the task's for the row's own observation."""
    expected = env.reward_at(columns["observations"][:, :2].astype(np.float64))
    return float((np.abs(columns["rewards"] - expected) < 1e-4).mean())


def _replayed(env: Maze2dPixelEnv, columns: dict[str, np.ndarray]) -> dict[str, float]:
    """Distance of the state after one step from the next row: ``median`` and ``max`` over rows."""
    rows = np.flatnonzero(~columns["timeouts"])
    rows = rows[:: max(1, len(rows) // _REPLAYED)]
    gaps = np.empty(len(rows))
    for index, row in enumerate(rows):
        env.set_state(columns["infos/qpos"][row], columns["infos/qvel"][row], np.zeros(2))
        env.step(columns["actions"][row])
        gaps[index] = np.abs(env.state()[:2] - columns["infos/qpos"][row + 1]).max()
    return {"rows": len(rows), "median": float(np.median(gaps)), "max": float(gaps.max())}

"""The source ``d4rl``: D4RL's own MuJoCo files, with the frames drawn from the states in them.

A file is where d4rl itself puts it (``D4RL_DATASET_DIR``, else ``~/.d4rl/datasets``), or
is downloaded to there from D4RL's own address. Its SHA-256 is written beside it when it is first
read and has to fit from then on. D4RL's rows are our rows: ``scripts/generation/mujoco/
collect_data.py`` of https://github.com/Farama-Foundation/D4RL stores the positions and velocities
before the row's action, beside the observation that they give.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from benchbench.core.errors import UserError
from benchbench.data.arrays import ArrayFile, check_columns, check_episodes, check_flags
from benchbench.data.download import check_first_sight, download
from benchbench.data.format import Draft, Progress, draw_rows
from benchbench.envs import d4rl_reference, mujoco
from benchbench.envs.d4rl_reference import normalized_score
from benchbench.suite.dataset_identity import DataIdentity

RESUMES = True

PACKAGES = ("gymnasium", "mujoco", "numpy")

WIDTHS = {"hopper": (11, 3, 6, 6), "halfcheetah": (17, 6, 9, 9), "walker2d": (17, 6, 9, 9),
          "ant": (111, 8, 15, 14)}  # fmt: skip
"""Numbers in an observation, an action, a position and a velocity of D4RL's files."""

_KEYS = ("observations", "actions", "infos/qpos", "infos/qvel")


def lacking(identity: DataIdentity) -> str | None:
    """Whether D4RL's file is missing."""
    path = file_path(identity.env)
    if path.is_file():
        return None
    return (
        f"{path}: D4RL's file of {identity.env} is missing; 'benchbench data prepare "
        f"{identity.env}' downloads it, or put it there, or set D4RL_DATASET_DIR to the folder "
        "that has it"
    )


def origin(identity: DataIdentity) -> str:
    """Where the set comes from."""
    return f"D4RL's file {file_path(identity.env).name}, downloaded by 'prepare'; frames drawn here"


def fetch(identity: DataIdentity, progress: Progress) -> None:
    """Download the file. Raises :class:`UserError` where that fails, saying what to put where."""
    path = file_path(identity.env)
    cure = f"put {path.name} into {path.parent}, or set D4RL_DATASET_DIR to the folder that has it"
    download(d4rl_reference.dataset_url(identity.env), path, cure, progress)


def count(identity: DataIdentity) -> int:
    """Rows of the file."""
    with ArrayFile(file_path(identity.env)) as file:
        shape, _ = file.shape("rewards")
        return shape[0] if shape else 0


def make(identity: DataIdentity, folder: Path, progress: Progress) -> None:
    """Check the file, copy its columns and draw a frame for each row.

    Goes on after the last frame that a killed maker of the same file is known to have drawn. The
    card tells how far one step of today's simulator leads from the file's next row (``replay``).
    Raises :class:`UserError` naming the file and the key that is damaged.
    """
    from benchbench.envs.mujoco_camera import shared_camera

    path, body = file_path(identity.env), mujoco.body_of(identity.env)
    digest = check_first_sight(path)
    columns, last_is_whole = read(path, body)
    rows = len(columns["rewards"])
    draft = Draft(identity, folder, rows, {key: columns[key].shape[1] for key in _KEYS})
    for key, values in columns.items():
        draft.columns[key][:] = values

    draw_rows(body, columns["infos/qpos"], folder, progress)
    draft.finish(
        mujoco.state_names(body),
        lambda return_: normalized_score(identity.env, return_),
        PACKAGES,
        last_is_whole=last_is_whole,
        source_file=path.name,
        source_sha256=digest,
        renderer=shared_camera(body, identity.size).renderer,
        replay=mujoco.replayed(mujoco.make_simulator(body), columns),
    )


def read(path: Path, body: str) -> tuple[dict[str, np.ndarray], bool]:
    """The columns of a D4RL file of ``body``, checked, and whether its last episode is whole.

    The keys are D4RL's, the values float32 and bool with one row a step; observations are cut to
    :func:`benchbench.envs.mujoco.state_names`. The last row is a cut where it is not an end: D4RL
    breaks its files off there. Raises :class:`UserError` naming the file and the key.
    """
    shapes = {key: (None, width) for key, width in zip(_KEYS, WIDTHS[body], strict=True)}
    flags = ("terminals", "timeouts")
    columns = {}
    with ArrayFile(path) as file:
        for key in ("rewards", *flags, *shapes):
            values = file.read(key)
            # As d4rl's own reader allows.
            columns[key] = values[:, 0] if key not in shapes and _is_column(values) else values
    check_columns(path, columns, shapes | {key: (None,) for key in ("rewards", *flags)})
    check_flags(path, columns)
    # A copy, so that the ant's 84 numbers more do not stay in memory: 0.9 GB for 2e6 rows.
    columns["observations"] = columns["observations"][:, : len(mujoco.state_names(body))].copy()
    columns = {
        key: v.astype(bool if key in flags else np.float32, copy=False)
        for key, v in columns.items()
    }
    ends = columns["terminals"] | columns["timeouts"]
    if not ends.any():
        raise UserError(
            f"{path}: the keys 'terminals' and 'timeouts' are false in every row, so no episode "
            "ends; get the file again"
        )
    check_episodes(path, columns["terminals"], columns["timeouts"])
    columns["timeouts"][-1] |= not ends[-1]
    _check_states(path, body, columns)
    return columns, bool(ends[-1])


def file_path(env_id: str) -> Path:
    """Where d4rl itself keeps, or would keep, the file of a data set."""
    folder = os.environ.get("D4RL_DATASET_DIR") or "~/.d4rl/datasets"
    return Path(folder).expanduser() / d4rl_reference.dataset_url(env_id).rsplit("/", 1)[-1]


def _check_states(path: Path, body: str, columns: dict[str, np.ndarray]) -> None:
    """Refuse positions that are not the observations': the frames would show other rows."""
    shown = mujoco.observation_of(body, columns["infos/qpos"], columns["infos/qvel"])
    wrong = np.abs(shown - columns["observations"]).max(axis=1) > 1e-3
    if wrong.mean() > 0.01:
        raise UserError(
            f"{path}: the keys 'infos/qpos' and 'infos/qvel' do not belong to 'observations' in "
            f"{wrong.sum()} rows, the first being {wrong.argmax()}; frames drawn from them would "
            "show other states, so get the file again"
        )


def _is_column(values: np.ndarray) -> bool:
    return values.ndim == 2 and values.shape[1] == 1

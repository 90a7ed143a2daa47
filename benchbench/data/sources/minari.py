"""The source ``minari``: sets of the Minari library, with frames drawn from what their infos say.

A set is drawable where its infos hold ``qpos`` and ``qvel``, or ``x_position`` (and ``y_position``
for the ant) beside observations that hold the rest: so gymnasium's v5 environments write them, if
they were recorded with infos. Minari's own ``mujoco/*`` sets were not: there the missing positions
are summed up from the observation's own velocities, and a word says so. The hopper's and the
walker's observations clip velocities at 10, and a row taken from a clipped one cannot be put back
exactly (``replay`` in the card tells how far off rows are); its frame is still right. An episode
has one observation more than actions there; the last, which has no action, is left out, and a
truncated episode's last row is a cut, as in D4RL's files.

Needs the extra: ``pip install 'benchbench[minari]'``.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchbench.core.errors import UserError
from benchbench.data.arrays import check_columns, check_episodes
from benchbench.data.format import Draft, Progress, draw_rows
from benchbench.data.sources.d4rl_files import WIDTHS
from benchbench.envs import mujoco
from benchbench.envs.d4rl_reference import normalized_score
from benchbench.suite.dataset_identity import DataIdentity

log = logging.getLogger(__name__)

RESUMES = True

_AWAY = {"hopper": ("x_position",), "halfcheetah": ("x_position",), "walker2d": ("x_position",),
         "ant": ("x_position", "y_position")}  # fmt: skip
"""The infos that tell what an observation leaves out of the positions."""


def lacking(identity: DataIdentity) -> str | None:
    """Whether the library or the set is not here. Raises :class:`UserError` on an unknown body."""
    mujoco.body_of(identity.env)
    name = dataset_name(identity)
    if importlib.util.find_spec("minari") is None:
        return f"{identity.env}: needs the Minari library; pip install 'benchbench[minari]'"
    if dataset_folder(identity).is_dir():
        return None
    return (
        f"{dataset_folder(identity)}: the Minari set {name} is missing; 'benchbench data prepare "
        f"{identity.env}' or 'minari download {name}' gets it, or set MINARI_DATASETS_PATH to the "
        "folder that has it"
    )


def origin(identity: DataIdentity) -> str:
    """Where the set comes from."""
    return f"Minari's {dataset_name(identity)}, frames drawn here"


def fetch(identity: DataIdentity, progress: Progress) -> None:
    """Let Minari download the set. Raises :class:`UserError` where it cannot."""
    if importlib.util.find_spec("minari") is None:
        raise UserError(str(lacking(identity)))
    import minari

    try:
        minari.download_dataset(dataset_name(identity))
    except Exception as error:  # Minari's, huggingface_hub's, or of the network below them
        raise UserError(
            f"{identity.env}: Minari cannot download it ({_reason(error)}); put the set into "
            f"{dataset_folder(identity)}"
        ) from None


def count(identity: DataIdentity) -> int:
    """Rows of the set."""
    return int(_open(identity).total_steps)


def make(identity: DataIdentity, folder: Path, progress: Progress) -> None:
    """Check the set, copy its rows and draw a frame for each.

    Raises :class:`UserError` naming the set and what is wrong or missing in it.
    """
    from benchbench.envs.mujoco_camera import shared_camera

    body, place = mujoco.body_of(identity.env), dataset_folder(identity)
    columns = read(_open(identity), place, body)
    keys = ("observations", "actions", "infos/qpos", "infos/qvel")
    rows = len(columns["rewards"])
    draft = Draft(identity, folder, rows, {key: columns[key].shape[1] for key in keys})
    for key, values in columns.items():
        draft.columns[key][:] = values
    draw_rows(body, columns["infos/qpos"], folder, progress)
    reference = mujoco.reference_of(identity.env)
    simulator = mujoco.make_simulator(body, mujoco.version_of(identity.env))
    draft.finish(
        mujoco.state_names(body),
        lambda return_: normalized_score(reference, return_),
        ("gymnasium", "minari", "mujoco", "numpy"),
        scored_as=reference,
        source_sha256=_sha256(columns),
        renderer=shared_camera(body, identity.size).renderer,
        replay=mujoco.replayed(simulator, columns),
    )


def read(dataset: Any, place: Path, body: str) -> dict[str, np.ndarray]:
    """The rows of a Minari set under D4RL's keys, checked: float32 and bool, one row a step.

    Raises :class:`UserError` that names ``place`` and the key.
    """
    parts: dict[str, list[np.ndarray]] = {}
    summed = False
    try:
        for episode in dataset.iterate_episodes():
            summed = summed or not _has_positions(episode.infos or {}, body)
            for key, values in _rows(episode, place, body).items():
                parts.setdefault(key, []).append(values)
    except UserError:
        raise
    except Exception as error:  # as in _open
        raise UserError(f"{place}: cannot be read ({_reason(error)}); get it again") from None
    if not parts:
        raise UserError(f"{place}: holds no episode; get it again")
    if summed:
        log.warning(
            "%s: was recorded without infos, so how far the body has come is summed up from its "
            "velocities; frames may be some centimetres off along the floor",
            place,
        )
    columns = {key: np.concatenate(values) for key, values in parts.items()}
    _, actions, qpos, qvel = WIDTHS[body]
    shapes = {
        "observations": (None, len(mujoco.state_names(body))),
        "actions": (None, actions),
        "infos/qpos": (None, qpos),
        "infos/qvel": (None, qvel),
        **dict.fromkeys(("rewards", "terminals", "timeouts"), (None,)),
    }
    check_columns(place, columns, shapes)
    check_episodes(place, columns["terminals"], columns["timeouts"])
    return {
        key: values.astype(bool if key in ("terminals", "timeouts") else np.float32)
        for key, values in columns.items()
    }


def _rows(episode: Any, place: Path, body: str) -> dict[str, np.ndarray]:
    """One episode's rows under D4RL's keys."""
    steps = len(episode.rewards)
    width = len(mujoco.state_names(body))
    observations = np.asarray(episode.observations)
    if observations.ndim != 2 or observations.shape[1] < width:
        raise UserError(
            f"{place}: the key 'observations' has the shape {observations.shape}, and should have "
            f"N x {width}; a set with other observations cannot be drawn"
        )
    terminals = np.asarray(episode.terminations, bool)
    timeouts = np.asarray(episode.truncations, bool) & ~terminals
    timeouts[-1:] = ~terminals[-1:]  # an episode that merely stops is cut there
    qpos, qvel = _positions(episode.infos or {}, observations[:, :width], place, body)
    return {
        "observations": observations[:steps, :width],
        "actions": np.asarray(episode.actions),
        "rewards": np.asarray(episode.rewards),
        "terminals": terminals,
        "timeouts": timeouts,
        "infos/qpos": qpos[:steps],
        "infos/qvel": qvel[:steps],
    }


def _positions(
    infos: Any, observations: np.ndarray, place: Path, body: str
) -> tuple[np.ndarray, np.ndarray]:
    """Positions and velocities of each observation; velocities as clipped as those are."""
    if "qpos" in infos and "qvel" in infos:
        return np.asarray(infos["qpos"]), np.asarray(infos["qvel"])
    away = _AWAY[body]
    known = WIDTHS[body][2] - len(away)
    if not all(key in infos for key in away):
        speeds = observations[:, known : known + len(away)].astype(float)
        steps = (speeds[:-1] + speeds[1:]) / 2 * _step_seconds(body)
        summed = np.vstack([np.zeros((1, len(away))), np.cumsum(steps, axis=0)])
        return np.hstack([summed, observations[:, :known]]), observations[:, known:]
    columns = [np.asarray(infos[key], float).reshape(-1, 1) for key in away]
    if len(columns[0]) != len(observations):
        raise UserError(
            f"{place}: the key 'infos/{away[0]}' has {len(columns[0])} rows and 'observations' "
            f"{len(observations)}; get it again"
        )
    return np.hstack([*columns, observations[:, :known]]), observations[:, known:]


@cache
def _step_seconds(body: str) -> float:
    simulator = mujoco.make_simulator(body, 5)
    try:
        return float(simulator.unwrapped.dt)
    finally:
        simulator.close()


def _has_positions(infos: Any, body: str) -> bool:
    return ("qpos" in infos and "qvel" in infos) or all(key in infos for key in _AWAY[body])


def dataset_name(identity: DataIdentity) -> str:
    """Minari's own name of a set."""
    return identity.env.removeprefix("minari:")


def dataset_folder(identity: DataIdentity) -> Path:
    """Where Minari keeps a set."""
    from minari.storage.local import get_dataset_path

    return Path(get_dataset_path(dataset_name(identity)))


def _open(identity: DataIdentity) -> Any:
    import minari

    try:
        return minari.load_dataset(dataset_name(identity))
    except Exception as error:  # Minari lets all that its storage raises through
        raise UserError(
            f"{dataset_folder(identity)}: cannot be read ({_reason(error)}); get it again"
        ) from None


def _sha256(columns: dict[str, np.ndarray]) -> str:
    """Of the rows as they were read: Minari stores a set in more than one way."""
    digest = hashlib.sha256()
    for key in sorted(columns):
        digest.update(np.ascontiguousarray(columns[key]).tobytes())
    return digest.hexdigest()


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__

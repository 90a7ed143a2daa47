"""The source ``file``: HDF5 or NPZ files of the user's own; of several, each is an episode.

Each key has N rows, one a step, in the order in which they happened:

- ``frames`` (N, size, size, 3) uint8: the picture before the row's action, unstacked; of any
  height and width where the suite says how to ``fit`` them;
- ``actions`` (N, A) and ``rewards`` (N,); without rewards only imitation can be trained;
- ``terminals`` (N,): the episode ended here for good; ``timeouts`` (N,): it was cut here. One of
  the two may be left out, and both where each file is an episode;
- if known, ``states`` (N, D), and the names of its columns as ``state_names``;
- for an environment that benchbench has, ``infos/qpos`` and ``infos/qvel``, for roll-outs.
"""

from __future__ import annotations

import glob
import itertools
from pathlib import Path

import h5py
import numpy as np

from benchbench.core.errors import UserError
from benchbench.data.arrays import (
    ArrayFile,
    Shape,
    check_columns,
    check_episodes,
    check_flags,
    check_rows,
)
from benchbench.data.format import Draft, Progress
from benchbench.data.sources.own_checks import (
    Seen,
    check_frames,
    check_known,
    fitted,
    true_cuts,
    warn_of_constant_actions,
    warn_of_rewards,
    warn_of_short_episodes,
    warn_of_unread,
)
from benchbench.envs import make_pixel_env
from benchbench.suite.dataset_identity import OWN_ENDINGS, DataIdentity, own_files
from benchbench.suite.environments import FileData, family_of

RESUMES = False

_SHAPES: dict[str, Shape] = {
    "actions": (None, None),
    "rewards": (None,),
    "terminals": (None,),
    "timeouts": (None,),
    "states": (None, None),
    "infos/qpos": (None, None),
    "infos/qvel": (None, None),
}
_ENDS = ("dones", "done", "next.done", "terminations", "truncations", "is_last", "is_terminal")
"""What others call the ends of episodes."""

_WIDE = ("states", "infos/qpos", "infos/qvel")
"""Keys that may be missing, with a column for each number."""


def lacking(identity: DataIdentity) -> str | None:
    """Whether the file is missing, or of a kind that is not read."""
    assert isinstance(identity.source, FileData)
    path = Path(identity.source.path).expanduser()
    files = own_files(identity.source)
    known = bool(files) and files[0].suffix.lower() in OWN_ENDINGS
    if not known and (told := other_layout(path)):
        return f"{path}: {told}"
    if files:
        return None
    if path.is_dir():
        return f"{path}: the folder of {identity.env} holds no {', '.join(OWN_ENDINGS)} file"
    return f"{path}: the data file of {identity.env} is missing; check data.path in the suite"


def origin(identity: DataIdentity) -> str:
    """Where the set comes from."""
    assert isinstance(identity.source, FileData)
    return f"your file {Path(identity.source.path).expanduser()}"


def fetch(identity: DataIdentity, progress: Progress) -> None:
    """Nothing: only the user has it."""


def count(identity: DataIdentity) -> int:
    """Rows of all files."""
    return sum(_rows(path) for path in _files(identity))


def make(identity: DataIdentity, folder: Path, progress: Progress) -> None:
    """Check the files and copy them into our layout, a piece at a time.

    Raises :class:`UserError` naming the file and the key where something is missing or wrong.
    """
    paths, seen, done = _files(identity), Seen(), 0
    for path in paths:
        rows = _rows(path)
        with ArrayFile(path) as file:
            check_frames(file, identity, rows)
    columns = _joined([_columns(path, one_episode=len(paths) > 1) for path in paths], paths)
    whole = paths[0] if len(paths) == 1 else paths[0].parent
    terminals = columns["terminals"].astype(bool)
    timeouts = columns["timeouts"].astype(bool) & ~terminals
    timeouts[-1] = not terminals[-1]
    timeouts = true_cuts(whole, terminals, timeouts, columns)
    check_episodes(whole, terminals, timeouts)
    warn_of_short_episodes(whole, terminals, timeouts)
    warn_of_constant_actions(whole, columns["actions"])
    if family_of(identity.env).scored:
        check_known(identity, whole, columns, lambda: make_pixel_env(identity.env, identity.size))
    width = {key: columns[key].shape[1] if key in columns else 0 for key in ("actions", *_WIDE)}
    width["observations"] = width.pop("states")
    draft = Draft(identity, folder, len(terminals), width)
    for key in ("actions", "rewards", "infos/qpos", "infos/qvel"):
        if key in columns:
            draft.columns[key][:] = columns[key]
    if "states" in columns:
        draft.columns["observations"][:] = columns["states"]
    draft.columns["terminals"][:] = terminals
    draft.columns["timeouts"][:] = timeouts
    assert isinstance(identity.source, FileData)
    names: tuple[str, ...] = ()
    for path in paths:
        with ArrayFile(path) as file:
            if path == paths[0]:
                warn_of_unread(file)
                warn_of_rewards(file, whole, columns["rewards"])
                names = _state_names(file, path, width["observations"])
            for piece in file.pieces("frames"):
                if identity.source.fit and piece.shape[1:3] != (identity.size, identity.size):
                    piece = fitted(piece, identity.size, identity.source.fit)
                seen.add(piece)
                draft.frames[done : done + len(piece)] = piece
                done += len(piece)
                progress(done, len(terminals))
    seen.judge(whole)
    draft.finish(names, None, ("numpy",), source_sha256=identity.content)


def _files(identity: DataIdentity) -> list[Path]:
    assert isinstance(identity.source, FileData)
    if told := lacking(identity):
        raise UserError(told)
    return own_files(identity.source)


def _rows(path: Path) -> int:
    with ArrayFile(path) as file:
        if told := other_keys(file):
            raise UserError(f"{path}: {told}")
        shape, _ = file.shape("actions")
        return shape[0] if shape else 0


def _columns(path: Path, *, one_episode: bool) -> dict[str, np.ndarray]:
    """All of a file but its frames, checked; what may be left out is filled in."""
    with ArrayFile(path) as file:
        ends = [key for key in ("terminals", "timeouts") if key in file.names]
        if not ends and not one_episode:
            other = next((f"; call '{name}' so" for name in _ENDS if name in file.names), "")
            ids = [
                n for n in sorted(file.names) if "episode" in n and file.shape(n)[1].kind in "iu"
            ]
            if ids and not other:
                other = (
                    f"; of episodes' numbers: timeouts = np.append(np.diff({ids[0]}) != 0, True)"
                )
            raise UserError(
                f"{path}: has neither 'terminals' nor 'timeouts', so nothing says where episodes "
                f"end; write one of the two, true on each episode's last row{other}"
            )
        keys = [
            k for k in ("actions", "rewards", *ends, *_WIDE) if k in file.names or k == "actions"
        ]
        if not {"states", "infos/qpos"} & file.names and _is_flat(file, "observations"):
            keys.append("observations")  # D4RL's name: they tell where a trajectory goes on
        check_rows(file, keys, rows="actions")
        columns = {key: file.read(key) for key in keys}
    check_columns(path, columns, _SHAPES, rows="actions")
    rows = len(columns["actions"])
    for key in ("rewards", "terminals", "timeouts"):
        columns.setdefault(key, np.zeros(rows, np.float32 if key == "rewards" else bool))
    check_flags(path, columns)
    if one_episode and not columns["terminals"][-1]:
        columns["timeouts"] = columns["timeouts"].astype(bool)
        columns["timeouts"][-1] = True
    return columns


def _joined(parts: list[dict[str, np.ndarray]], paths: list[Path]) -> dict[str, np.ndarray]:
    """The columns of all files below each other; they have to be of equal kinds and widths."""
    for part, path in zip(parts, paths, strict=True):
        for key in parts[0].keys() ^ part.keys():
            raise UserError(f"{path}: one of {paths[0].name} and it has the key '{key}' alone")
        for key, values in part.items():
            if values.shape[1:] != parts[0][key].shape[1:]:
                raise UserError(
                    f"{path}: the key '{key}' has {values.shape[1]} columns, and in "
                    f"{paths[0].name} {parts[0][key].shape[1]}"
                )
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def _is_flat(file: ArrayFile, key: str) -> bool:
    return key in file.names and len(file.shape(key)[0]) == 2


def _state_names(file: ArrayFile, path: Path, count: int) -> tuple[str, ...]:
    if "state_names" not in file.names:
        return tuple(f"state {column}" for column in range(count))
    names = tuple(
        name.decode(errors="replace") if isinstance(name, bytes) else str(name)
        for name in file.read("state_names")
    )
    if len(names) != count or len(set(names)) != count:
        raise UserError(
            f"{path}: the key 'state_names' has {len(set(names))} different names for {count} "
            "columns of 'states'"
        )
    return names


_LOOKED_AT = 10_000
"""The most entries of a folder that are looked at."""

_AS_NPZ = (
    "write each episode's frames, actions, rewards and states with np.savez as a file of its own "
    "into a folder, and name that"
)

_BY_ENDING = {
    ".arrow": "an Arrow table, as Hugging Face's datasets and LeRobot write",
    ".parquet": "a Parquet table, as LeRobot and Hugging Face's datasets write",
    ".tfrecord": "TensorFlow's records, as RLDS has",
    ".zarr": "a Zarr store, as Diffusion Policy has",
    ".mp4": "videos",
    ".avi": "videos",
    ".webm": "videos",
    ".png": "pictures, a file each",
    ".jpg": "pictures, a file each",
    ".jpeg": "pictures, a file each",
    ".pkl": "Python's pickles",
    ".pickle": "Python's pickles",
    ".pt": "PyTorch's pickles",
    ".pth": "PyTorch's pickles",
    ".npy": "single arrays",
    ".mat": "MATLAB's arrays",
    ".csv": "a table without pictures",
    ".json": "text",
    ".jsonl": "text",
    ".bag": "ROS's recordings",
    ".mcap": "ROS's recordings",
    ".zip": "an archive",
    ".gz": "an archive",
    ".tar": "an archive",
}
"""What files are that are not read."""

_PICTURES = ("image", "images", "img", "pixels", "rgb", "observations", "observation", "obs")


def other_layout(path: Path) -> str | None:
    """Of a path that holds no file that is read: what it holds instead and what to do, or None."""
    if path.is_dir():
        if (path / "meta" / "info.json").is_file():
            return f"has LeRobot's layout, which is not read; {_AS_NPZ}"
        if path.suffix == ".zarr" or any((path / n).exists() for n in (".zgroup", "zarr.json")):
            return f"is {_BY_ENDING['.zarr']}, which is not read; {_AS_NPZ}"
        found = itertools.islice(path.rglob("*"), _LOOKED_AT)
        endings = {_ending(one) for one in found}
        inside = [what for ending, what in _BY_ENDING.items() if ending in endings]
        if endings & set(OWN_ENDINGS):
            deeper = next(p for p in sorted(path.rglob("*")) if p.suffix.lower() in OWN_ENDINGS)
            return f"holds its files deeper; name their folder, such as {deeper.parent}"
        return f"holds {inside[0]}, and no HDF5 or NPZ; {_AS_NPZ}" if inside else None
    named = [path] if path.is_file() else [Path(one) for one in glob.glob(str(path))]
    if any(map(h5py.is_hdf5, named)):
        return None
    kinds = [what for one in named if (what := _BY_ENDING.get(_ending(one)))]
    return f"is of a kind that is not read ({kinds[0]}); {_AS_NPZ}" if kinds else None


def _ending(path: Path) -> str:
    return next((s for s in (one.split("-")[0] for one in path.suffixes[::-1])
                 if s.lower() in _BY_ENDING or s.lower() in OWN_ENDINGS), "").lower()  # fmt: skip


def other_keys(file: ArrayFile) -> str | None:
    """Of a file without ``actions`` or ``frames``: which layout it has and what to do, or None."""
    if {"actions", "frames"} <= file.names:
        return None
    demos = sorted({n.split("/")[1] for n in file.names if n.startswith("data/demo_")})
    if demos:
        cameras = [
            n.split("/")[-1] for n in sorted(file.names)
            if n.startswith(f"data/{demos[0]}/obs/") and len(file.shape(n)[0]) == 4
        ] or ["CAM"]  # fmt: skip
        return (
            f"has robomimic's layout ({len(demos)} demonstrations, data/{demos[0]}/…); write each "
            f"as a file of its own into a folder and name the folder: np.savez(f'{{demo}}.npz', "
            f"frames=file[f'data/{{demo}}/obs/{cameras[0]}'], actions=…, rewards=…, "
            "terminals=…['dones'])"
        )
    if cameras := sorted(n for n in file.names if n.startswith("observations/images/")):
        return (
            "has the layout of ACT and ALOHA, an episode a file; write each into a folder and name "
            f"the folder: np.savez('episode_0.npz', frames=file['{cameras[0]}'], "
            "actions=file['action'], states=file['observations/qpos'])"
        )
    told = []
    if "actions" not in file.names:
        other = next((n for n in ("action", "acts", "act") if n in file.names), None)
        told.append(f"has no key 'actions'{f'; call {other!r} so' if other else ''}")
    if "frames" not in file.names:
        told.append(f"has no key 'frames'; {_frames_cure(file)}")
    return f"{' and '.join(told)}. It holds {_shown(file)}"


def _frames_cure(file: ArrayFile) -> str:
    """What may be called ``frames``, or that there are no pictures."""
    shapes = {name: file.shape(name) for name in sorted(file.names)}
    pictures = [
        name for name, (shape, dtype) in shapes.items()
        if len(shape) == 4 and (dtype == np.uint8 or name.split("/")[-1] in _PICTURES)
    ]  # fmt: skip
    if pictures:
        return f"call '{pictures[0]}' so, which has the shape {shapes[pictures[0]][0]}"
    return (
        "there are no pictures in it, so write them as uint8 of N x size x size x 3, drawn by your "
        "simulator or camera; files of D4RL's own tasks get theirs here, under their own id and "
        "with data: {source: d4rl}"
    )


def _shown(file: ArrayFile) -> str:
    names = sorted(file.names)
    listed = " ".join(", ".join(names[:12]).split())[:300] or "nothing"
    return f"{listed}{', …' if len(names) > 12 else ''}"

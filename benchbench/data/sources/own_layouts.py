"""Layouts in which data of one's own often lie, by name, with the way from each into ours."""

from __future__ import annotations

import glob
import itertools
from pathlib import Path

import h5py
import numpy as np

from benchbench.data.arrays import ArrayFile
from benchbench.suite.dataset_identity import OWN_ENDINGS

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

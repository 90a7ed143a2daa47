"""Data in layouts that are not ours: each is named, with the way into ours."""

import h5py
import numpy as np
import pytest
from helpers.own_data import write_own

from benchbench.core.errors import UserError
from benchbench.data.store import prepare
from benchbench.suite.dataset_identity import DataIdentity
from benchbench.suite.environments import FileData

COLOUR = np.random.default_rng(1).integers(0, 255, (5, 16, 16, 3), np.uint8)


def refusal(path, tmp_path, monkeypatch):
    monkeypatch.setenv("BENCHBENCH_DATA", str(tmp_path / "home"))
    identity = DataIdentity.of("my-robot", FileData(path=str(path)), 16)
    with pytest.raises(UserError) as told:
        prepare(identity, lambda done, total: None)
    assert str(told.value).startswith(f"{path}: ")
    return " ".join(str(told.value).split())


@pytest.mark.parametrize(
    ("name", "named", "what"),
    [
        ("meta/info.json", "", "has LeRobot's layout, which is not read; write each episode"),
        ("data.arrow", "", "holds an Arrow table, as Hugging Face's datasets and LeRobot write"),
        ("data.arrow", "data.arrow", "not read (an Arrow table, as"),
        ("chunk-000/file-000.parquet", "", "holds a Parquet table"),
        ("file-000.parquet", "*.parquet", "not read (a Parquet table"),
        ("push.zarr/.zgroup", "push.zarr", "is a Zarr store, as Diffusion Policy has"),
        ("fractal.tfrecord-00000-of-01024", "", "holds TensorFlow's records"),
        ("videos/ep0.mp4", "", "holds videos"),
        ("0001.PNG", "", "holds pictures, a file each"),
        ("run.pkl", "run.pkl", "not read (Python's pickles)"),
    ],
)
def test_other_layouts_are_known(tmp_path, monkeypatch, name, named, what):
    place = tmp_path / "theirs" / name
    place.parent.mkdir(parents=True)
    place.write_bytes(b"{}")
    told = refusal(tmp_path / "theirs" / named, tmp_path, monkeypatch)
    assert what in told
    assert "with np.savez as a file of its own into a folder" in told


def test_files_that_lie_deeper_are_found(tmp_path, monkeypatch):
    (tmp_path / "runs" / "a").mkdir(parents=True)
    write_own(tmp_path / "runs" / "a" / "ep0.npz")
    told = refusal(tmp_path / "runs", tmp_path, monkeypatch)
    assert told.endswith(f"name their folder, such as {tmp_path}/runs/a")


@pytest.mark.parametrize("camera", ["agentview_image", "table_cam"])
def test_robomimics_layout_is_known(tmp_path, monkeypatch, camera):
    with h5py.File(tmp_path / "demo.hdf5", "w") as file:
        for demo in ("demo_0", "demo_1"):
            file[f"data/{demo}/actions"] = np.zeros((5, 7))
            file[f"data/{demo}/obs/{camera}"] = COLOUR
    told = refusal(tmp_path / "demo.hdf5", tmp_path, monkeypatch)
    assert "robomimic's layout (2 demonstrations" in told
    assert f"obs/{camera}" in told


def test_alohas_layout_is_known(tmp_path, monkeypatch):
    with h5py.File(tmp_path / "episode_0.hdf5", "w") as file:
        file["action"] = np.zeros((5, 7))
        file["observations/images/top"] = COLOUR
        file["observations/qpos"] = np.zeros((5, 14))
    told = refusal(tmp_path / "episode_0.hdf5", tmp_path, monkeypatch)
    assert "has the layout of ACT and ALOHA" in told
    assert "frames=file['observations/images/top']" in told

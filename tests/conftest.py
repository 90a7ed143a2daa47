"""What several rooms' tests share."""

import os
import shutil
import subprocess
from unittest import mock

# Before numpy and torch come in: where cores are shared, small networks on several threads spend
# their time waiting for each other.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import pytest  # noqa: E402

from benchbench.data.store import prepare  # noqa: E402
from benchbench.suite.grid import expand  # noqa: E402
from benchbench.suite.model import Suite  # noqa: E402

TINY = {
    "name": "tiny",
    "seeds": 1,
    "variants": ["before", "after", "vae-only"],
    "envs": [
        {
            "id": "bullet-maze2d-open-v0",
            "data": {"source": "waypoint", "transitions": 1500},
            "proprio": ["velocity"],
        }
    ],
    "pixels": {"size": 16, "stack": 2},
    "agent": {"feature_dim": 8, "hidden": [16, 16], "discount": 0.9},
    "train": {"updates": 12, "batch_size": 16, "n_step": 2},
    "evaluate": {"every": 5, "episodes": 1},
    "diagnose": {
        "signals_every": 4,
        "holdout": 0.3,
        "probe_frames": 200,
        "q_pairs": 0,
        "oracle_updates": 0,
    },
}
"""A suite whose cells take about a second each. Its 1,500 rows are ten episodes."""


@pytest.fixture(autouse=True)
def own_environment():
    """What a test changes in ``os.environ`` ends with it; measuring hides the GPUs, for one."""
    with mock.patch.dict(os.environ):
        yield


@pytest.fixture(scope="session")
def data_home(tmp_path_factory):
    """A data folder with the data of ``TINY`` in it, made once."""
    home = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCHBENCH_DATA", str(home))
        for cell in expand(Suite.model_validate(TINY)):
            prepare(cell.data, lambda done, total: None)
    return home


@pytest.fixture
def tiny_data(data_home, monkeypatch):
    """``BENCHBENCH_DATA`` points at :func:`data_home`."""
    monkeypatch.setenv("BENCHBENCH_DATA", str(data_home))
    return data_home


@pytest.fixture
def small_disk(tmp_path):
    """A disk of eight megabytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)

"""What several rooms' tests share."""

import os
import shutil
import subprocess
from collections import Counter
from unittest import mock

# Before numpy and torch come in: where cores are shared, small networks on several threads spend
# their time waiting for each other.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import hypothesis  # noqa: E402
import pytest  # noqa: E402
import torch._dynamo  # noqa: E402, F401  a CUDA build's triton crashes if Mesa's LLVM came first
from helpers.gpus import driver  # noqa: E402, F401  a fixture of two rooms
from helpers.simulators import MUST_DRAW  # noqa: E402
from helpers.suites import TINY  # noqa: E402

from benchbench.data.store import prepare  # noqa: E402
from benchbench.suite.grid import expand  # noqa: E402
from benchbench.suite.model import Suite  # noqa: E402

hypothesis.settings.register_profile("benchbench", deadline=None)  # no verdict by the clock
hypothesis.settings.load_profile("benchbench")


def pytest_collection_modifyitems(items):
    """The longest files come first, so that no process ends with one while the other is idle."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup():
    """A machine without EGL and OSMesa, as a bare image is, tests nothing that MuJoCo draws."""
    return (yield from skipped_without_renderer())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call():
    """The same, where the test itself draws."""
    return (yield from skipped_without_renderer())


NO_RENDERER = ("there is neither EGL nor OSMesa", "an OpenGL platform library has not been loaded")
"""What benchbench and MuJoCo itself say there."""


def skipped_without_renderer():
    try:
        return (yield)
    except Exception as error:
        if not MUST_DRAW and any(words in str(error) for words in NO_RENDERER):
            pytest.skip(str(error))
        raise


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

"""Finding devices through a pretended NVML, with answers as real drivers give them."""

import subprocess
import sys
import types

import pytest
import torch
from helpers.gpus import (
    A100,
    A100_CUT,
    GIB,
    SLICES,
    T4,
    Gpu,
    NVMLError,
    machine,
)

from benchbench.cell import devices
from benchbench.cell.devices import Device, choose_devices, cuda_devices
from benchbench.core.errors import UserError


@pytest.mark.parametrize(
    ("visible", "uuids"),
    [
        (None, [A100, *SLICES, T4]),
        ("", []),
        ("2,0", [T4, A100]),
        ("1", SLICES),
        (T4, [T4]),
        ("GPU-0e5f", [T4]),
        (f"{SLICES[1]}, 0", [SLICES[1], A100]),
        (A100_CUT, SLICES),
        ("0,-1,2", [A100]),
        ("0,7,2", [A100]),
        ("0,0", [A100]),
        ("MIG-nothing", []),
    ],
)
def test_visible_devices_are_read_as_cuda_reads_them(driver, visible, uuids):
    driver(machine(), visible)
    found = cuda_devices()
    assert [device.uuid for device in found] == uuids
    assert [device.index for device in found] == list(range(len(uuids)))


def test_a_device_tells_its_model_and_memory_without_a_context(driver):
    driver(machine(), "2")
    (device,) = cuda_devices()
    assert (str(device), device.name()) == ("cuda:0", "Tesla T4")
    assert device.total_mb == pytest.approx(15 * 1024)
    assert device.free_mb == pytest.approx(9 * 1024)


def test_a_cells_process_sees_its_device_alone(driver, monkeypatch):
    driver(machine(), "2,0")
    choose_devices("cuda:1")[0].claim()
    assert devices.os.environ["CUDA_VISIBLE_DEVICES"] == A100
    Device("cpu").claim()
    assert devices.os.environ["CUDA_VISIBLE_DEVICES"] == ""


def test_without_uuids_the_stated_names_are_claimed(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    Device("cuda", 1).claim()
    assert devices.os.environ["CUDA_VISIBLE_DEVICES"] == "5"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    Device("cuda", 1).claim()
    assert devices.os.environ["CUDA_VISIBLE_DEVICES"] == "1"


def test_devices_that_others_use_are_warned_of_and_full_ones_left_out(driver):
    gpus = machine()
    gpus[0].free = 1 * GIB
    driver(gpus)
    said = []
    assert [d.uuid for d in choose_devices("auto", said.append)] == [*SLICES, T4]
    assert len(said) == 2
    assert "cuda:0 is left out: 1.0 of 40.0 GiB free" in said[0]
    assert "cuda:3 is in use by others: 9.0 of 15.0 GiB free" in said[1]
    assert [d.uuid for d in choose_devices("cuda:0", said.append)] == [A100]  # named: taken
    assert len(said) == 2


def test_where_others_fill_every_device_auto_does_not_fall_back_to_the_cpu_in_silence(driver):
    driver([Gpu(T4, "Tesla T4", 15, 0.2)])
    with pytest.raises(UserError, match="others fill every CUDA device here; name one"):
        choose_devices("auto", lambda text: None)


@pytest.mark.parametrize("wanted", ["cuda:4", "cuda:0,9"])
def test_a_device_that_is_not_there_is_refused_with_the_indices(driver, wanted):
    driver(machine())
    with pytest.raises(UserError, match="there are 4 CUDA devices here; their indices are 0 to 3"):
        choose_devices(wanted)


def test_without_a_driver_auto_is_the_cpu(monkeypatch):
    broken = types.ModuleType("pynvml")
    broken.nvmlInit = lambda: (_ for _ in ()).throw(NVMLError(12))  # library not found
    monkeypatch.setitem(sys.modules, "pynvml", broken)
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert choose_devices("auto") == [Device("cpu")]
    with pytest.raises(UserError, match="there are 0 CUDA devices here; use --device cpu"):
        choose_devices("cuda")


def test_gpus_are_no_use_to_a_torch_that_is_built_for_the_cpu(driver, monkeypatch):
    driver(machine())
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: False)
    assert choose_devices("auto") == [Device("cpu")]


def test_a_lost_device_is_known_by_the_drivers_answer(driver):
    driver(machine())
    first, *_, last = cuda_devices()
    driver(machine(), lost=[T4])
    assert last.is_lost()
    assert not first.is_lost()
    assert not Device("cpu").is_lost()
    assert [d.uuid for d in cuda_devices()] == [A100, *SLICES]


TRAINING = """
import resource, sys, torch
from benchbench.agent.networks import make_encoder
from benchbench.cell.devices import Device

if sys.argv[1] == "claimed":
    Device("cpu").claim()
torch.set_num_threads(1)
encoder = make_encoder("drqv2", 9, 84, 50)
obs = torch.zeros(192, 9, 84, 84, dtype=torch.uint8)
told = []
for _ in range(9):
    encoder(obs).sum().backward()
    used = resource.getrusage(resource.RUSAGE_SELF)
    told.append((used.ru_minflt, used.ru_maxrss))
print(told[8][0] - told[3][0], told[8][1] / told[3][1])
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator only")
def test_the_cpus_memory_is_kept_for_the_next_updates_tensors_and_does_not_grow():
    def run(how):
        ran = subprocess.run([sys.executable, "-c", TRAINING, how], capture_output=True, text=True)
        faults, growth = ran.stdout.split()
        return int(faults), float(growth)

    (plain, _), (claimed, growth) = run("plain"), run("claimed")
    assert claimed < plain / 5, (plain, claimed)
    assert growth < 1.1


PEAKS = """
import sys
import numpy as np
from benchbench.cell.devices import Device
def tell():
    print(Device("cpu").peak_memory_mb())
tell()
mapped = np.memmap(sys.argv[1], np.uint8, "w+", shape=2**27)
mapped.sum()
tell()
np.ones(2**27, np.uint8).sum()
tell()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it is not told apart")
def test_mapped_frames_are_no_memory_of_the_cells_own(tmp_path):
    """Else one cell on a set of 20 GB would seem to fill the machine, though all cells share it."""
    told = subprocess.run(
        [sys.executable, "-c", PEAKS, str(tmp_path / "frames.npy")],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    before, mapped, own = map(float, told)
    assert mapped < before + 20
    assert own > before + 110

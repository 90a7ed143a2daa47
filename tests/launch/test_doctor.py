"""The doctor's findings: what is wrong is said with a cure, and the exit code tells a problem."""

from collections import namedtuple

import pytest
import torch
from click.testing import CliRunner
from helpers.gpus import (
    A100,
    T4,
    Gpu,
    machine,
)

from benchbench.cli.main import main
from benchbench.launch import doctor
from benchbench.launch.doctor import examine

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCHBENCH_DATA", str(tmp_path / "data"))


def findings(results, *of):
    found = [f for f in examine(results) if not of or f.what in of]
    for one in found:
        assert bool(one.cure) == (one.level != "ok"), one
    return {f.what: f for f in found}


def test_a_sound_machine_has_a_line_for_everything_and_exit_code_0(tmp_path):
    result = CliRunner().invoke(main, ["doctor", "--results", str(tmp_path / "results")])
    assert result.exit_code == 0, result.output
    for what in ("machine", "torch", "driver", "cpu", "d4rl", "renderer", "data", "results"):
        assert f"ok       {what} " in result.output
    assert torch.__version__ in result.output
    assert not (tmp_path / "results").exists()
    assert not (tmp_path / "data").exists()


def test_a_problem_has_a_cure_and_exit_code_1(tmp_path):
    (tmp_path / "file").write_text("in the way")
    result = CliRunner().invoke(main, ["doctor", "--results", str(tmp_path / "file" / "results")])
    assert result.exit_code == 1, result.output
    assert "problem  results" in result.output
    assert "-> choose another folder with --results" in result.output


def test_a_full_disk_is_told_before_it_breaks_a_run(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    for free, level in ((6e9, "ok"), (1e9, "warning"), (1e6, "problem")):
        monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path, f=free: usage(1e12, 0, f))
        assert findings(tmp_path, "data", "results")["data"].level == level


def test_a_torch_outside_the_supported_range_is_a_problem(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.5.1+cpu")
    found = findings(tmp_path, "torch")["torch"]
    assert found.level == "problem"
    assert found.cure.startswith("pip install 'torch")


def test_gpus_beside_a_cpu_build_of_torch(tmp_path, driver, monkeypatch):
    driver(machine())
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: False)
    found = findings(tmp_path, "driver")["driver"]
    assert found.level == "warning"
    assert "535.183.01" in found.text
    assert "CUDA build" in found.cure


def test_a_driver_too_old_for_torch_is_a_problem(tmp_path, driver, monkeypatch):
    driver(machine())
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    found = findings(tmp_path, "driver")["driver"]
    assert found.level == "problem"
    assert "up to CUDA 12.2" in found.text
    monkeypatch.setattr(torch.version, "cuda", "12.8")  # minor versions are compatible
    assert findings(tmp_path, "driver")["driver"].level == "ok"


def test_devices_with_their_free_memory(tmp_path, driver):
    gpus = [Gpu(A100, "NVIDIA A100-SXM4-40GB", 40, 1), Gpu(T4, "Tesla T4", 15, 9)]
    driver(gpus, visible="0,1")
    found = findings(tmp_path, "cuda:0", "cuda:1", "devices")
    assert found["cuda:0"].level == "warning"
    assert "others fill it" in found["cuda:0"].text
    assert "others use it" in found["cuda:1"].text
    assert "CUDA_DEVICE_ORDER=PCI_BUS_ID" in found["devices"].cure


def test_hidden_gpus_are_told(tmp_path, driver):
    driver(machine(), visible="")
    assert findings(tmp_path, "devices")["devices"].cure == "unset it"


def test_a_check_that_breaks_is_a_problem_and_the_others_go_on(tmp_path, monkeypatch):
    def broken(*arguments):
        raise RuntimeError("no pixels")

    monkeypatch.setattr(doctor, "make_pixel_env", broken)
    found = findings(tmp_path)
    assert found["renderer"].level == "problem"
    assert "no pixels" in found["renderer"].text
    assert found["results"].level == "ok"


def test_the_doctor_stays_off_the_devices(tmp_path, driver):
    driver(machine())  # which fails the test where a CUDA context is made
    assert findings(tmp_path)["cuda:3"].level == "warning"


def test_a_ray_cluster_without_ray_here_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor.util, "find_spec", lambda name: None)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert "ray" not in findings(tmp_path)
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert "pip install 'benchbench[ray]'" in findings(tmp_path)["ray"].cure

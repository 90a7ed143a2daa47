"""What this machine offers a benchmark, what is wrong with it, and the cure.

Each check yields findings and may raise: what it raises is a problem too. None makes a CUDA
context or leaves anything behind.
"""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from benchbench.cell.devices import (
    BUSY,
    FULL,
    Device,
    cpu_count,
    cuda_devices,
    free_ram_mb,
    free_share,
    memory_text,
    nvml,
)
from benchbench.core.files import cache_folder
from benchbench.envs import d4rl, make_pixel_env, simulators
from benchbench.suite.environments import KNOWN_ENVS

LITTLE_SPACE = 5e9
"""Bytes free below which a disk gets a warning; below a hundredth of it, a problem."""

LITTLE_RAM_MB = 1500.0
"""Memory free below which a cell may be killed."""

FRAME_SIZE = 32

BULLET_TASK, VD4RL_TASK = "bullet-maze2d-open-v0", "vd4rl:main/walker_walk/medium"


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's: ``cure`` says what to do where it is not ok."""

    level: Literal["ok", "warning", "problem"]
    what: str
    text: str
    cure: str = ""


def examine(results: Path) -> Iterator[Finding]:
    """All findings, as they are made. ``results`` is the folder that results would go to."""
    checks: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("machine", _machine),
        ("torch", _torch),
        ("driver", _driver),
        ("devices", _devices),
        ("simulators", _simulators),
        ("renderer", _pictures),
        ("data", lambda: _folder("data", cache_folder(), "set BENCHBENCH_DATA to another folder")),
        ("results", lambda: _folder("results", results, "choose another folder with --results")),
        ("slurm", _slurm),
        ("ray", _ray),
    ]
    for what, check in checks:
        try:
            yield from check()
        except Exception as error:
            text = " ".join(f"{type(error).__name__}: {error}".split())
            yield Finding("problem", what, text, "reinstall benchbench in an empty environment")


def _machine() -> Iterator[Finding]:
    free, cpus = free_ram_mb(), cpu_count()
    stated = os.environ.get("OMP_NUM_THREADS")
    threads = f", OMP_NUM_THREADS={stated} (a run sets it itself)" if stated else ""
    text = f"Python {platform.python_version()}, {cpus} CPUs{threads}, {free / 1024:.1f} GiB free"
    if free < LITTLE_RAM_MB:
        yield Finding("warning", "machine", text, "end other programs, or run with --jobs 1")
    else:
        yield Finding("ok", "machine", text)


def _torch() -> Iterator[Finding]:
    import torch

    wanted = supported("torch")
    build = f"CUDA {torch.version.cuda}" if torch.backends.cuda.is_built() else "CPU"
    text = f"{torch.__version__}, {build} build, supported {wanted}"
    if wanted.contains(torch.__version__.partition("+")[0], prereleases=True):
        yield Finding("ok", "torch", text)
    else:
        yield Finding("problem", "torch", text, f"pip install 'torch{wanted}'")


def supported(package: str) -> SpecifierSet:
    """The versions of a dependency that benchbench's own metadata allow."""
    for line in metadata.requires("benchbench") or []:
        requirement = Requirement(line)
        if requirement.name == package and requirement.marker is None:
            return requirement.specifier
    raise LookupError(f"benchbench does not depend on {package}")


def _driver() -> Iterator[Finding]:
    import torch

    with nvml() as driver:
        if driver is None:
            yield Finding("ok", "driver", "no NVIDIA driver here; cells run on the CPU")
            return
        major, minor = driver.cuda_version()
        text = f"NVIDIA {driver.driver_version()}, up to CUDA {major}.{minor}"
    built = torch.version.cuda
    if not torch.backends.cuda.is_built():
        cure = "install the CUDA build of the same torch version, as the README says"
        yield Finding("warning", "driver", f"{text}; this torch is a CPU build", cure)
    elif built and int(built.partition(".")[0]) > major:
        cure = f"update the driver, or install a torch built for CUDA {major}"
        yield Finding("problem", "driver", f"{text}; this torch needs CUDA {built}", cure)
    else:
        yield Finding("ok", "driver", text)


def _devices() -> Iterator[Finding]:
    found = cuda_devices()
    stated = os.environ.get("CUDA_VISIBLE_DEVICES")
    if stated is not None:
        hidden = "hides every GPU" if not found else f"leaves {len(found)}"
        text = f"CUDA_VISIBLE_DEVICES={stated!r} {hidden}"
        yield Finding("ok" if found else "warning", "devices", text, "" if found else "unset it")
    for device in found:
        text = f"{device.name() if device.model else 'CUDA'}, {memory_text(device)}"
        share = free_share(device)
        if share < FULL:
            cure = f"wait for it, or name it with --device {device}"
            yield Finding("warning", str(device), f"{text}; others fill it", cure)
        elif share < BUSY:
            cure = "see nvidia-smi; as many cells run as the free memory holds"
            yield Finding("warning", str(device), f"{text}; others use it", cure)
        else:
            yield Finding("ok", str(device), text)
    if len({device.model for device in found}) > 1 and stated and stated[0].isdecimal():
        text = "GPUs differ, and CUDA_VISIBLE_DEVICES counts them"
        if os.environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
            cure = "name them by UUID (nvidia-smi -L), or set CUDA_DEVICE_ORDER=PCI_BUS_ID"
            yield Finding("warning", "devices", text, cure)
    yield Finding("ok", "cpu", Device("cpu").name())


def _simulators() -> Iterator[Finding]:
    """What plays the tasks: MuJoCo always; PyBullet with d4rl, and dm_control, where installed."""
    yield Finding("ok", "mujoco", f"mujoco {metadata.version('mujoco')}")
    if (missing := simulators.lacking(BULLET_TASK)) is not None:
        yield Finding("ok", "d4rl", f"no tasks in PyBullet: {missing}")
    else:
        d4rl.load()
        named = ", ".join(f"{name} {version}" for name, version in d4rl.versions().items())
        yield Finding("ok", "d4rl", named)
    if (missing := simulators.lacking(VD4RL_TASK)) is not None:
        yield Finding("ok", "vd4rl", f"no tasks of V-D4RL: {missing}")
    else:
        yield Finding("ok", "vd4rl", f"dm_control {metadata.version('dm_control')}")


def _pictures() -> Iterator[Finding]:
    yield from _drawn(KNOWN_ENVS[0], "benchbench's painter", "install benchbench again")
    if simulators.lacking(BULLET_TASK) is None:
        versions = d4rl.versions()
        name = "pybullet" if "pybullet" in versions else "pybullet-arm64"
        cure = f"pip install --force-reinstall {name}=={versions[name]}"
        yield from _drawn(BULLET_TASK, "PyBullet's TinyRenderer", cure)


def _drawn(env_id: str, renderer: str, cure: str) -> Iterator[Finding]:
    env = make_pixel_env(env_id, FRAME_SIZE)
    try:
        env.reset(0)
        frame = env.frame()
    finally:
        env.close()
    if frame.min() == frame.max():
        yield Finding("problem", "renderer", f"{renderer} draws nothing", cure)
    else:
        yield Finding("ok", "renderer", f"{renderer} drew a frame of {env_id}")


def _folder(what: str, folder: Path, cure: str) -> Iterator[Finding]:
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"benchbench")
    except OSError as error:
        text = f"{folder}: cannot be written ({error.strerror or error})"
        yield Finding("problem", what, text, cure)
        return
    free = shutil.disk_usage(there).free
    text = f"{folder}: {'writable' if there == folder else 'can be made'}, {free / 1e9:.1f} GB free"
    if free < LITTLE_SPACE:
        level: Literal["warning", "problem"] = "problem" if free < LITTLE_SPACE / 100 else "warning"
        yield Finding(level, what, text, f"make room, or {cure}")
    else:
        yield Finding("ok", what, text)


def _slurm() -> Iterator[Finding]:
    if shutil.which("sbatch") is None:
        return
    if util.find_spec("submitit") is None:
        text = "sbatch is here, submitit is not"
        yield Finding("warning", "slurm", text, "for --executor slurm: pip install submitit")
    else:
        yield Finding("ok", "slurm", f"sbatch and submitit {metadata.version('submitit')}")


def _ray() -> Iterator[Finding]:
    if util.find_spec("ray") is not None:
        address = os.environ.get("RAY_ADDRESS")
        where = f", RAY_ADDRESS={address}" if address else ""
        yield Finding("ok", "ray", f"Ray {metadata.version('ray')}{where}")
    elif os.environ.get("RAY_ADDRESS"):
        text = "RAY_ADDRESS is set, Ray is not installed"
        cure = "for --executor ray: pip install 'benchbench[ray]'"
        yield Finding("warning", "ray", text, cure)

"""The devices that cells run on, behind one small interface for CPU and CUDA alike.

GPUs are found through NVML, which makes no CUDA context: the parent of a grid stays off the
devices. Without NVML, torch says how many there are, and their memory is unknown.
"""

from __future__ import annotations

import math
import os
import platform
import re
import resource
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import click

from benchbench.core.errors import UserError
from benchbench.core.processes import keep_freed_memory

FULL = 0.1
"""A device with less than this share of its memory free is left to those who fill it."""

BUSY = 0.9
"""A device with less than this share of its memory free is in use by others, and said to be."""

MIB = 2**20


@dataclass(frozen=True)
class Device:
    """A place for cells: the CPU, or the CUDA device (or MIG slice) of an index.

    The index counts the devices that are visible, as torch does. ``uuid`` is how CUDA knows the
    device, whatever the order; memory is in MiB, of the whole device and as it was found.
    """

    kind: str
    index: int | None = None
    uuid: str | None = None
    model: str | None = field(default=None, compare=False)
    total_mb: float | None = field(default=None, compare=False)
    free_mb: float | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return self.kind if self.index is None else f"{self.kind}:{self.index}"

    def name(self) -> str:
        """Model of the processor or GPU. May make a CUDA context: for the cell's process only."""
        if self.kind == "cuda":
            import torch

            return self.model or torch.cuda.get_device_name(0)
        try:
            text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        except OSError:
            text = ""
        found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
        return found.group(1) if found else platform.processor() or platform.machine()

    def claim(self) -> None:
        """Make this device the only one the process sees; call it before CUDA is used.

        On the CPU, memory that the process frees is kept for its next tensors.
        """
        if self.index is None:
            keep_freed_memory()
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        elif self.uuid is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = self.uuid
        else:
            stated = _stated()
            os.environ["CUDA_VISIBLE_DEVICES"] = stated[self.index] if stated else str(self.index)

    def synchronize(self) -> None:
        """Wait for the device's queue, so that a time read afterwards is a true one."""
        if self.kind == "cuda":
            import torch

            torch.cuda.synchronize()

    def peak_memory_mb(self) -> float:
        """Largest resident (CPU) or allocated (CUDA) memory of this process, MiB.

        On Linux without what is resident of mapped files when it is asked for: frames stay there
        for as long as nobody else needs the room, and all cells share them.
        """
        if self.kind == "cuda":
            import torch

            return torch.cuda.max_memory_allocated() / MIB
        # Not getrusage's: on Linux that begins at what the parent had when it made this process.
        own = _told_mb("/proc/self/status", "VmHWM") - _told_mb("/proc/self/status", "RssFile")
        if math.isfinite(own):
            return own
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / MIB if platform.system() == "Darwin" else peak / 2**10

    def is_lost(self) -> bool:
        """Whether the driver no longer reaches this GPU. For the parent: makes no CUDA context."""
        if self.uuid is None:
            return False
        with nvml() as driver:
            return driver is not None and driver.is_lost(self.uuid)


def cpu_count() -> int:
    """Processors that this process may use; of a Slurm job, those that the job was given."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    given = os.environ.get("SLURM_CPUS_PER_TASK", "")
    return min(here, int(given)) if given.isdecimal() and int(given) else here


def free_ram_mb() -> float:
    """Memory of this machine that programs could take now, MiB; infinite where it is unknown."""
    return _told_mb("/proc/meminfo", "MemAvailable")


def _told_mb(path: str, name: str) -> float:
    """A figure of one of Linux's lists, MiB; infinite where it is unknown."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError:
        return math.inf
    found = re.search(rf"^{name}:\s*(\d+) kB", text, re.MULTILINE)
    return int(found.group(1)) / 2**10 if found else math.inf


def _warn(text: str) -> None:
    click.secho(f"warning: {text}", fg="yellow", err=True)


def choose_devices(wanted: str, warn: Callable[[str], None] = _warn) -> list[Device]:
    """The devices named by ``auto``, ``cpu``, ``cuda``, or ``cuda:0,2``.

    ``auto`` is every CUDA device, or the CPU where there is none. Devices that others fill are left
    out of ``auto`` and ``cuda`` with a warning. Asking makes no CUDA context. Raises
    :class:`UserError` where a requested device does not exist, or all of them are full.
    """
    if wanted == "cpu":
        return [Device("cpu")]
    match = re.fullmatch(r"(auto|cuda)|cuda:(\d+(?:,\d+)*)", wanted)
    if match is None:
        raise UserError(f"--device {wanted}: choose auto, cpu, cuda, or cuda:0,2")
    found = cuda_devices()
    if match.group(2):
        indices = list(dict.fromkeys(int(i) for i in match.group(2).split(",")))
    else:
        indices = list(range(len(found)))
        if not indices and wanted == "auto":
            return [Device("cpu")]
    if not indices or max(indices) >= len(found):
        count = len(found)
        raise UserError(
            f"--device {wanted}: there {'is' if count == 1 else 'are'} {count} CUDA "
            f"device{'' if count == 1 else 's'} here; "
            + ("use --device cpu" if count == 0 else f"their indices are 0 to {count - 1}")
        )
    chosen = [found[index] for index in indices]
    return chosen if match.group(2) else _with_room(wanted, chosen, warn)


def _with_room(wanted: str, devices: Sequence[Device], warn: Callable[[str], None]) -> list[Device]:
    """The devices that others have not filled."""
    chosen = []
    for device in devices:
        share = free_share(device)
        if share < FULL:
            warn(f"{device} is left out: {memory_text(device)}; name it to use it all the same")
            continue
        if share < BUSY:
            warn(f"{device} is in use by others: {memory_text(device)}")
        chosen.append(device)
    if not chosen:
        raise UserError(
            f"--device {wanted}: others fill every CUDA device here; name one, as in --device "
            f"{devices[0]}, or use --device cpu"
        )
    return chosen


def free_share(device: Device) -> float:
    """The share of a device's memory that is free; 1 where it is unknown."""
    if not device.total_mb or device.free_mb is None:
        return 1.0
    return device.free_mb / device.total_mb


def memory_text(device: Device) -> str:
    """A device's memory in words."""
    if device.total_mb is None or device.free_mb is None:
        return "memory unknown"
    return f"{device.free_mb / 1024:.1f} of {device.total_mb / 1024:.1f} GiB free"


def cuda_devices() -> list[Device]:
    """Every CUDA device that is visible and that this torch can use, by index."""
    import torch

    if not torch.backends.cuda.is_built():
        return []
    with nvml() as driver:
        if driver is not None:
            return driver.visible()
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    return [Device("cuda", index) for index in range(torch.cuda.device_count())]


@contextmanager
def nvml() -> Iterator[Nvml | None]:
    """NVIDIA's driver, for the length of a block; None where there is none to be asked."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # no package, no library, no driver, or another version of it than loaded
        yield None
        return
    try:
        yield Nvml(pynvml)
    finally:
        pynvml.nvmlShutdown()


class Nvml:
    """What is asked of NVML, an initialised ``pynvml``."""

    def __init__(self, library: Any) -> None:
        self._nvml = library

    def driver_version(self) -> str:
        """The driver's version."""
        return _text(self._nvml.nvmlSystemGetDriverVersion())

    def cuda_version(self) -> tuple[int, int]:
        """The newest CUDA that the driver runs, (major, minor)."""
        number = int(self._nvml.nvmlSystemGetCudaDriverVersion_v2())
        return number // 1000, number % 1000 // 10

    def is_lost(self, uuid: str) -> bool:
        """Whether the device no longer answers."""
        try:
            self._nvml.nvmlDeviceGetMemoryInfo(self._nvml.nvmlDeviceGetHandleByUUID(uuid))
        except self._nvml.NVMLError as error:
            return error.value in (
                self._nvml.NVML_ERROR_GPU_IS_LOST,
                self._nvml.NVML_ERROR_NOT_FOUND,
                self._nvml.NVML_ERROR_UNKNOWN,
            )
        return False

    def visible(self) -> list[Device]:
        """The devices that ``CUDA_VISIBLE_DEVICES`` leaves, in its order.

        As CUDA reads it: indices, or UUIDs that may be cut short; the first that names nothing ends
        the list. A GPU that is cut into MIG slices stands for all its slices.
        """
        slices = [self._slices(gpu) for gpu in self._gpus()]
        stated = _stated()
        if stated is None:
            chosen = [one for gpu in slices for one in gpu]
        else:
            chosen = []
            for name in stated:
                named = _named(name, slices)
                if not named or named[0] in chosen:
                    break
                chosen.extend(named)
        return [
            Device("cuda", index, one.uuid, one.model, one.total_mb, one.free_mb)
            for index, one in enumerate(chosen)
        ]

    def _gpus(self) -> Iterator[tuple[int, Any]]:
        for index in range(self._nvml.nvmlDeviceGetCount()):
            try:
                handle = self._nvml.nvmlDeviceGetHandleByIndex(index)
                self._nvml.nvmlDeviceGetMemoryInfo(handle)
            except self._nvml.NVMLError:  # lost, or not ours to use
                continue
            yield index, handle

    def _slices(self, gpu: tuple[int, Any]) -> list[_Found]:
        """The GPU itself, or its MIG slices where it is cut into some."""
        handle = gpu[1]
        try:
            is_cut = self._nvml.nvmlDeviceGetMigMode(handle)[0] == 1
        except self._nvml.NVMLError:  # too old a model to be cut
            is_cut = False
        if not is_cut:
            return [self._found(gpu, handle)]
        found = []
        for place in range(self._nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
            try:
                piece = self._nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, place)
            except self._nvml.NVMLError:  # no slice at this place
                continue
            found.append(self._found(gpu, piece))
        return found

    def _found(self, gpu: tuple[int, Any], handle: Any) -> _Found:
        memory = self._nvml.nvmlDeviceGetMemoryInfo(handle)
        uuid = _text(self._nvml.nvmlDeviceGetUUID(handle))
        model = _text(self._nvml.nvmlDeviceGetName(handle))
        gpu_uuid = _text(self._nvml.nvmlDeviceGetUUID(gpu[1]))
        return _Found(gpu[0], gpu_uuid, uuid, model, memory.total / MIB, memory.free / MIB)


def _named(name: str, slices: Sequence[list[_Found]]) -> list[_Found]:
    """What one entry of ``CUDA_VISIBLE_DEVICES`` stands for."""
    every = [one for gpu in slices for one in gpu]
    if name.isdecimal():
        return [one for one in every if one.gpu == int(name)]
    if not name.startswith(("GPU-", "MIG-")):
        return []
    gpus = {one.gpu_uuid for one in every if one.gpu_uuid.startswith(name)}
    if len(gpus) == 1:
        return [one for one in every if one.gpu_uuid in gpus]
    named = [one for one in every if one.uuid.startswith(name)]
    return named if len(named) == 1 else []


def _stated() -> list[str] | None:
    """The entries of ``CUDA_VISIBLE_DEVICES``; None where it is not set."""
    stated = os.environ.get("CUDA_VISIBLE_DEVICES")
    if stated is None:
        return None
    return [name.strip() for name in stated.split(",") if name.strip()]


class _Found(NamedTuple):
    """A GPU or a slice of it, memory in MiB."""

    gpu: int
    gpu_uuid: str
    uuid: str
    model: str
    total_mb: float
    free_mb: float


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value

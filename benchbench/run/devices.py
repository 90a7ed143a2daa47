"""The devices that cells run on, behind one small interface for CPU and CUDA alike."""

from __future__ import annotations

import os
import platform
import re
import resource
from dataclasses import dataclass
from pathlib import Path

from benchbench.errors import UserError


@dataclass(frozen=True)
class Device:
    """A place for cells: the CPU, or the CUDA device of an index."""

    kind: str
    index: int | None = None

    def __str__(self) -> str:
        return self.kind if self.index is None else f"{self.kind}:{self.index}"

    def name(self) -> str:
        """Model of the processor or GPU. Makes a CUDA context: for the cell's process only."""
        if self.kind == "cuda":
            import torch

            return torch.cuda.get_device_name(0)
        try:
            text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        except OSError:
            text = ""
        found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
        return found.group(1) if found else platform.processor() or platform.machine()

    def claim(self) -> None:
        """Make this device the only one the process sees; call it before CUDA is used."""
        os.environ["CUDA_VISIBLE_DEVICES"] = "" if self.index is None else _visible()[self.index]

    def synchronize(self) -> None:
        """Wait for the device's queue, so that a time read afterwards is a true one."""
        if self.kind == "cuda":
            import torch

            torch.cuda.synchronize()

    def peak_memory_mb(self) -> float:
        """Largest resident (CPU) or allocated (CUDA) memory of this process, MiB."""
        if self.kind == "cuda":
            import torch

            return torch.cuda.max_memory_allocated() / 2**20
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / 2**10 if platform.system() != "Darwin" else peak / 2**20


def cpu_count() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def choose_devices(wanted: str) -> list[Device]:
    """The devices named by ``auto``, ``cpu``, ``cuda``, or ``cuda:0,2``.

    ``auto`` is every CUDA device, or the CPU where there is none. Asking makes no CUDA context.
    Raises :class:`UserError` where a device is asked for that is not there.
    """
    if wanted == "cpu":
        return [Device("cpu")]
    match = re.fullmatch(r"(auto|cuda)|cuda:(\d+(?:,\d+)*)", wanted)
    if match is None:
        raise UserError(f"--device {wanted}: choose auto, cpu, cuda, or cuda:0,2")
    count = _cuda_count()
    if match.group(2):
        indices = list(dict.fromkeys(int(i) for i in match.group(2).split(",")))
    else:
        indices = list(range(count))
        if not indices and wanted == "auto":
            return [Device("cpu")]
    if not indices or max(indices) >= count:
        raise UserError(
            f"--device {wanted}: there {'is' if count == 1 else 'are'} {count} CUDA "
            f"device{'' if count == 1 else 's'} here; "
            + ("use --device cpu" if count == 0 else f"their indices are 0 to {count - 1}")
        )
    return [Device("cuda", index) for index in indices]


def _cuda_count() -> int:
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    import torch

    return torch.cuda.device_count()


def _visible() -> list[str]:
    """The names of CUDA devices by index, honouring ``CUDA_VISIBLE_DEVICES``."""
    stated = os.environ.get("CUDA_VISIBLE_DEVICES")
    if stated is None:
        return [str(index) for index in range(_cuda_count())]
    return [name.strip() for name in stated.split(",") if name.strip()]

"""A machine with GPUs that are not there: a stand-in for NVML."""

import sys
import types

import pytest
import torch

GIB = 2**30


A100 = "GPU-5fd4a1f0-3b6d-2f0e-9a59-6d4d3a1c7e01"


A100_CUT = "GPU-9c1b7a2e-88f1-1d0c-4a77-0b5e2f9d6c02"
SLICES = ["MIG-1f0a3c55-0d0b-5b7e-8e2c-aa0000000001", "MIG-7b2e9d10-6c1a-5f3d-9b4f-aa0000000002"]


T4 = "GPU-0e5f7c33-1a2b-4c5d-8e9f-3f2e1d0c0b03"


class NVMLError(Exception):
    def __init__(self, value):
        super().__init__(value)
        self.value = value


class Gpu:
    def __init__(self, uuid, model, total, free, slices=None, places=0):
        self.uuid, self.model, self.total, self.free = uuid, model, total * GIB, free * GIB
        self.slices, self.places = slices, places


def machine():
    cut = [Gpu(uuid, "NVIDIA A100-SXM4-40GB MIG 3g.20gb", 19.5, 19.4) for uuid in SLICES]
    return [
        Gpu(A100, "NVIDIA A100-SXM4-40GB", 40, 39.5, slices=[], places=7),
        Gpu(A100_CUT, "NVIDIA A100-SXM4-40GB", 40, 39.1, slices=cut, places=7),
        Gpu(T4, "Tesla T4", 15, 9.0),
    ]


def fake_nvml(gpus, lost=()):
    """A module with pynvml's face, its constants, and its way of raising."""
    module = types.ModuleType("pynvml")
    module.NVMLError = NVMLError
    module.NVML_ERROR_NOT_SUPPORTED, module.NVML_ERROR_NOT_FOUND = 3, 6
    module.NVML_ERROR_GPU_IS_LOST, module.NVML_ERROR_UNKNOWN = 15, 999
    every = [piece for gpu in gpus for piece in (gpu, *(gpu.slices or []))]

    def memory(gpu):
        if gpu.uuid in lost:
            raise NVMLError(module.NVML_ERROR_GPU_IS_LOST)
        return types.SimpleNamespace(total=gpu.total, free=gpu.free, used=gpu.total - gpu.free)

    def mig_mode(gpu):
        if gpu.slices is None:  # a T4 cannot be cut
            raise NVMLError(module.NVML_ERROR_NOT_SUPPORTED)
        mode = 1 if gpu.slices else 0
        return [mode, mode]

    def piece(gpu, place):
        if place >= len(gpu.slices):
            raise NVMLError(module.NVML_ERROR_NOT_FOUND)
        return gpu.slices[place]

    def by_uuid(uuid):
        for one in every:
            if one.uuid == uuid:
                return one
        raise NVMLError(module.NVML_ERROR_NOT_FOUND)

    module.nvmlInit = module.nvmlShutdown = lambda: None
    module.nvmlSystemGetDriverVersion = lambda: b"535.183.01"
    module.nvmlSystemGetCudaDriverVersion_v2 = lambda: 12020
    module.nvmlDeviceGetCount = lambda: len(gpus)
    module.nvmlDeviceGetHandleByIndex = lambda index: gpus[index]
    module.nvmlDeviceGetHandleByUUID = by_uuid
    module.nvmlDeviceGetMemoryInfo = memory
    module.nvmlDeviceGetUUID = lambda gpu: gpu.uuid.encode()  # bytes, as older packages have it
    module.nvmlDeviceGetName = lambda gpu: gpu.model
    module.nvmlDeviceGetMigMode = mig_mode
    module.nvmlDeviceGetMaxMigDeviceCount = lambda gpu: gpu.places
    module.nvmlDeviceGetMigDeviceHandleByIndex = piece
    return module


@pytest.fixture
def driver(monkeypatch):
    """Install a pretended driver and a torch that is built for CUDA; forbid a CUDA context."""

    def install(gpus, visible=None, lost=()):
        monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(gpus, lost))
        monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
        monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: pytest.fail("a CUDA context"))
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    return install

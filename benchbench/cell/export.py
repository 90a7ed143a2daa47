"""A kept policy as one file for other programs: TorchScript or ONNX, checked against the policy.

The exported function takes frames, uint8 (E, H, W, stack x 3), and proprioception, float32 (E, P),
both as the environment gives them, and returns the environment's actions, float32 (E, A).
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn

from benchbench.cell.policy import TrainedPolicy, networks_of
from benchbench.core.errors import UserError
from benchbench.core.files import replaced

Format = Literal["torchscript", "onnx"]

TOLERANCE = 1e-4
"""Largest difference of an exported action, in units of the data's spread of actions.

Sums in single precision are taken in another order; the actor's tanh bounds what they can do.
"""

TRIED = 16
"""Random observations on which the two are compared."""


class _Acting(nn.Module):
    """The policy with its normalisers, as a module."""

    proprio_mean: torch.Tensor
    proprio_scale: torch.Tensor
    action_mean: torch.Tensor
    action_scale: torch.Tensor

    def __init__(self, policy: TrainedPolicy) -> None:
        super().__init__()
        self._act = policy.agent.act
        parts = networks_of(policy.agent).items()
        self.networks = nn.ModuleDict({part: nn.ModuleDict(each) for part, each in parts})
        for name, normalizer in policy.normalizers.items():
            self.register_buffer(f"{name}_mean", torch.tensor(normalizer.mean).float())
            self.register_buffer(f"{name}_scale", torch.tensor(normalizer.scale).float())

    def forward(self, frames: torch.Tensor, proprio: torch.Tensor) -> torch.Tensor:
        """See the module's docstring."""
        scaled = (proprio - self.proprio_mean) / self.proprio_scale
        return self._act(frames.permute(0, 3, 1, 2), scaled) * self.action_scale + self.action_mean


def export_policy(policy: TrainedPolicy, path: Path, kind: Format) -> float:
    """Write the policy; returns the largest difference of its actions from the policy's own.

    Raises :class:`UserError` where the policy sees no pixels, a package is missing, or the exported
    actions are not the policy's.
    """
    spec = policy.agent.spec
    if not spec.channels:
        raise UserError("export: this policy sees the simulator's state, not frames; there is no "
                        "exported form of it")  # fmt: skip
    rng = np.random.default_rng(0)
    shape = (TRIED, spec.size, spec.size, spec.channels)
    frames = rng.integers(0, 256, shape, dtype=np.uint8)
    like = policy.normalizers["proprio"]
    proprio = like.unnormalize(rng.normal(size=(TRIED, spec.proprio_dim)))
    module = _Acting(policy).eval()
    inputs = torch.from_numpy(frames), torch.from_numpy(proprio)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns of shapes that are the same at each call
        run = (_torchscript if kind == "torchscript" else _onnx)(module, inputs, path)
    found = run(frames, proprio)
    scale = policy.normalizers["action"].scale
    apart = float(np.abs((found - policy.act(frames, proprio)) / scale).max())
    if not apart <= TOLERANCE:
        path.unlink(missing_ok=True)
        raise UserError(f"export: the exported actions are up to {apart:.2g} standard deviations "
                        "from the policy's; nothing was written")  # fmt: skip
    return apart


Run = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _torchscript(module: nn.Module, inputs: tuple[torch.Tensor, ...], path: Path) -> Run:
    traced = torch.jit.trace(module, inputs, check_trace=False)
    with replaced(path) as file:
        torch.jit.save(traced, file)
    again = torch.jit.load(str(path))

    def run(frames: np.ndarray, proprio: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            found: np.ndarray = again(torch.from_numpy(frames), torch.from_numpy(proprio)).numpy()
        return found

    return run


def _onnx(module: nn.Module, inputs: tuple[torch.Tensor, ...], path: Path) -> Run:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401 - torch exports with it
    except ModuleNotFoundError:
        raise UserError(
            "export: --format onnx needs onnx and onnxruntime; install them with: "
            "pip install 'benchbench[onnx]'"
        ) from None
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # of torchvision, which is not used
    episodes = torch.export.Dim("episodes")
    program = torch.onnx.export(
        module, inputs, input_names=["frames", "proprio"], output_names=["actions"], dynamo=True,
        dynamic_shapes=({0: episodes}, {0: episodes}), verbose=False,
    )  # fmt: skip
    assert program is not None
    with replaced(path) as file:
        file.write(program.model_proto.SerializeToString())
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    known = {value.name for value in session.get_inputs()}

    def run(frames: np.ndarray, proprio: np.ndarray) -> np.ndarray:
        inputs = {"frames": frames, "proprio": proprio}
        found = session.run(None, {k: v for k, v in inputs.items() if k in known})[0]
        return np.asarray(found)

    return run

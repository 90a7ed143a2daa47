"""A trained policy, kept and loaded again: weights and normalisers as safetensors, with a card.

The file is data, never code. Its card, JSON in the file's own header, says what made it: the
cell's settings, the data set's identity and the versions. :func:`load_policy` builds the agent
anew and acts on frames; :func:`export_policy` writes it as TorchScript or ONNX.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from benchbench.agent import agent_class
from benchbench.agent.protocol import Agent, AgentSpec
from benchbench.core.errors import UserError
from benchbench.core.files import from_json, replaced
from benchbench.core.provenance import git_state, versions
from benchbench.data.sampler import Normalizer, Sampler
from benchbench.envs.evaluate import FrameStack
from benchbench.routing import Routing
from benchbench.suite.grid import Cell
from benchbench.suite.model import AgentSettings

FORMAT = "1"
"""Version of the file's layout."""

NORMALISED = ("state", "proprio", "action")


def policy_bytes(cell: Cell, agent: Agent, sampler: Sampler, data_sha256: str) -> bytes:
    """The file of a trained agent: all weights, and the normalisers.

    The slowly moving copies are among them: LAPO's policy acts through its target decoder.
    """
    tensors = {
        f"{part}.{module}.{name}": value.detach().cpu().contiguous().clone()
        for part, modules in networks_of(agent).items()
        for module, network in modules.items()
        for name, value in network.state_dict().items()
    }
    for name in NORMALISED:
        normalizer: Normalizer = getattr(sampler, f"{name}_normalizer")
        tensors[f"normaliser.{name}.mean"] = torch.from_numpy(np.array(normalizer.mean, float))
        tensors[f"normaliser.{name}.std"] = torch.from_numpy(np.array(normalizer.std, float))
    spec = {name: getattr(agent.spec, name) for name in _PLAIN}
    for name in ("mean_image", "action_mean", "action_std"):
        if (value := getattr(agent.spec, name)) is not None:
            tensors[f"spec.{name}"] = value.detach().cpu().contiguous().clone()
    card = {
        "key": cell.key,
        "env": cell.env,
        "seed": cell.seed,
        "variant": cell.variant,
        "observation": cell.observation,
        "stack": cell.pixels.stack,
        "spacing": cell.pixels.spacing,
        "proprio": list(cell.proprio),
        "spec": spec,
        "weights": agent.weights_sha256(),
        "agent": cell.agent.model_dump(mode="json"),
        "routing": asdict(cell.routing),
        "settings": cell.settings(),
        "data": {"key": cell.data.key, "sha256": data_sha256},
        "versions": json.loads(versions()),
        "git_commit": git_state()[0],
    }
    return _ordered(
        save(tensors, {"format": FORMAT, "benchbench": json.dumps(card, sort_keys=True)})
    )


def _ordered(file: bytes) -> bytes:
    """The file with its header's names in order: safetensors writes the card's in a random one."""
    end = 8 + int.from_bytes(file[:8], "little")
    header = json.dumps(json.loads(file[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header = header.ljust(-(-len(header) // 8) * 8)  # the weights begin at a multiple of 8
    return len(header).to_bytes(8, "little") + header + file[end:]


_PLAIN = ("action_dim", "channels", "size", "proprio_dim", "state_dim", "min_value", "max_value",
          "shift_pad")  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False)
class TrainedPolicy:
    """A policy to act with. ``card`` says what made it."""

    card: dict[str, Any]
    agent: Agent
    normalizers: dict[str, Normalizer]

    def __repr__(self) -> str:
        card = self.card
        return f"<TrainedPolicy {card['variant']} of {card['env']}, seed {card['seed']}>"

    def act(
        self, frames: np.ndarray, proprio: np.ndarray | None = None, state: np.ndarray | None = None
    ) -> np.ndarray:
        """The environment's actions, (E, A) float32.

        ``frames`` are uint8 (E, H, W, stack x 3), oldest first, as :meth:`stack` makes them;
        ``proprio`` (E, P) and ``state`` (E, D) are the simulator's own numbers, for a policy that
        was trained with them. Raises ``ValueError`` where they do not fit.
        """
        spec = self.agent.spec
        if spec.channels:
            wanted = (spec.size, spec.size, spec.channels)
            if frames.dtype != np.uint8 or frames.shape[1:] != wanted:
                raise ValueError(f"frames should be uint8 (E, {wanted[0]}, {wanted[1]}, "
                                 f"{wanted[2]}), not {frames.dtype} {frames.shape}")  # fmt: skip
            obs = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
        else:
            if state is None:
                raise ValueError("this policy sees the simulator's state: give it as state=")
            obs = torch.from_numpy(self.normalizers["state"].normalize(state))
        told = np.zeros((len(obs), 0), np.float32) if proprio is None else proprio
        if told.shape[1] != spec.proprio_dim:
            raise ValueError(f"proprio should be (E, {spec.proprio_dim}): "
                             f"{', '.join(self.card['proprio']) or 'none'}")  # fmt: skip
        with torch.no_grad():
            scores = self.agent.act(
                obs, torch.from_numpy(self.normalizers["proprio"].normalize(told))
            )
        return self.normalizers["action"].unnormalize(scores.cpu().numpy())

    def stack(self) -> FrameStack:
        """An empty stack of the policy's frames, for one episode: start, push, stacked."""
        return FrameStack(int(self.card["stack"]), int(self.card["spacing"]))


def networks_of(agent: Agent) -> dict[str, dict[str, nn.Module]]:
    """All of an agent's networks: those that are trained and their slow copies."""
    return {"online": agent.modules(), "target": agent.target_modules()}


def load_policy(cell: Path | str) -> TrainedPolicy:
    """The policy in a file ``policy.safetensors``, or in a published cell's folder.

    Raises :class:`UserError` where there is none, or it is damaged or of another format. An agent
    or encoder of the user's own is imported again.
    """
    path = Path(cell)
    path = path / "policy.safetensors" if path.is_dir() else path
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise UserError(
            f"{path}: is not there; policies are kept unless the suite says keep: "
            "{policies: false}, and only since benchbench keeps them: run the cell again"
        ) from None
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: is damaged ({error}); run the cell again") from None
    if about.get("format") != FORMAT or "benchbench" not in about:
        raise UserError(f"{path}: is not a policy of this version of benchbench")
    try:
        return _built(path, from_json(about["benchbench"]), tensors)
    except UserError:
        raise
    except Exception as error:  # of a card that is no card any more, from wherever it ends
        why = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise UserError(
            f"{path}: does not fit the agent that its card names ({why}); run the cell again"
        ) from None


def _built(path: Path, card: dict[str, Any], tensors: dict[str, torch.Tensor]) -> TrainedPolicy:
    """The agent that a card names, with the file's weights in it."""
    extra: dict[str, Any] = {
        name.removeprefix("spec."): value
        for name, value in tensors.items()
        if name.startswith("spec.")
    }
    spec = AgentSpec(**card["spec"], **extra)
    settings = AgentSettings.model_validate(card["agent"])
    _refuse_larger(path, spec, settings, tensors)
    routing = Routing(**card["routing"] | {"encoder_in": tuple(card["routing"]["encoder_in"])})
    make = agent_class(settings.algorithm)
    agent = make(spec, settings, routing, lambda purpose: 0, torch.device("cpu"))
    try:
        for part, modules in networks_of(agent).items():
            for module, network in modules.items():
                head = f"{part}.{module}."
                network.load_state_dict(
                    {k.removeprefix(head): v for k, v in tensors.items() if k.startswith(head)}
                )
                network.eval().requires_grad_(False)
    except RuntimeError as error:
        why = " ".join(str(error).split())
        raise UserError(
            f"{path}: does not fit the agent that its card names ({why}); run the cell again"
        ) from None
    if agent.weights_sha256() != card["weights"]:
        raise UserError(
            f"{path}: its weights are not those that its card names; run the cell again"
        )
    normalizers = {
        name: Normalizer(*(tensors[f"normaliser.{name}.{part}"].numpy() for part in _PARTS))
        for name in NORMALISED
    }
    return TrainedPolicy(card, agent, normalizers)


def _refuse_larger(
    path: Path, spec: AgentSpec, settings: AgentSettings, tensors: dict[str, torch.Tensor]
) -> None:
    """Raise :class:`UserError` where a card asks for networks that the file cannot hold.

    A network as wide as a damaged card says could take all memory before its weights are compared.
    """
    widest = max((max(value.shape, default=1) for value in tensors.values()), default=1)
    asked = (*settings.hidden, settings.feature_dim, spec.action_dim, spec.channels,
             spec.proprio_dim, spec.state_dim, spec.size)  # fmt: skip
    if max(asked) > max(widest, LEAST):
        raise UserError(
            f"{path}: its card names a width of {max(asked)}, and its widest weight has {widest}; "
            "run the cell again"
        )


LEAST = 512
"""A width or a size of pictures that is never too much."""

_PARTS = ("mean", "std")


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
        """See :func:`export_policy`."""
        scaled = (proprio - self.proprio_mean) / self.proprio_scale
        return self._act(frames.permute(0, 3, 1, 2), scaled) * self.action_scale + self.action_mean


def export_policy(policy: TrainedPolicy, path: Path, kind: Format) -> float:
    """Write the policy; returns the largest difference of its actions from the policy's own.

    The exported function takes frames, uint8 (E, H, W, stack x 3), and proprioception, float32
    (E, P), both as the environment gives them, and returns the environment's actions, float32
    (E, A).

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

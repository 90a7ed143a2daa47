"""A trained policy, kept and loaded again: weights and normalisers as safetensors, with a card.

The file is data, never code. Its card, JSON in the file's own header, says what made it: the
cell's settings, the data set's identity and the versions. :func:`load_policy` builds the agent
anew and acts on frames; :mod:`benchbench.cell.export` writes it as TorchScript or ONNX.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from benchbench.agent import agent_class
from benchbench.agent.protocol import Agent, AgentSpec
from benchbench.core.errors import UserError
from benchbench.core.files import from_json
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


@dataclass(frozen=True, eq=False)
class TrainedPolicy:
    """A policy to act with. ``card`` says what made it."""

    card: dict[str, Any]
    agent: Agent
    normalizers: dict[str, Normalizer]

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

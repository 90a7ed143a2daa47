"""Batches of transitions, drawn from a data set.

Everything that follows from the data set alone (stacks, n-step returns, discounts, z-scores) is
computed once, for every row; drawing a batch only gathers.

Shapes: B batch, C channels (3 a frame of the stack, oldest frame first), H height, W width,
D state, A action, P proprio, N rows of the data set, S frames of a stack.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from benchbench.core.errors import UserError
from benchbench.data.batch import Batch
from benchbench.data.store import Dataset, ReadAhead, read_ahead
from benchbench.envs.distraction import Layer

MEAN_FRAMES = 2_000
"""The number of frames that a mean image averages."""

KEPT = 2**29
"""On a CPU, distractions are laid over sets of at most this many bytes once a cell, and kept."""

LAID_ROWS = 256
"""The number of frames that they are then laid over at a time."""

CACHED_ROWS = 16
"""The number of observations stacked at a time on a CPU."""


@dataclass(frozen=True, eq=False)
class Normalizer:
    """z-scores, as LAPO takes them: (x - mean) / (std + 1e-6), ``main_d4rl.py`` of its authors."""

    mean: np.ndarray
    std: np.ndarray

    EPSILON = 1e-6

    @classmethod
    def of(cls, values: np.ndarray) -> Normalizer:
        """The statistics of ``values`` (n, D), in float64."""
        exact = values.astype(np.float64)
        return cls(exact.mean(axis=0), exact.std(axis=0))

    @property
    def scale(self) -> np.ndarray:
        """What a z-score is multiplied with."""
        return self.std + self.EPSILON

    def normalize(self, values: np.ndarray) -> np.ndarray:
        """z-scores of (..., D) values; float32."""
        scaled = (values.astype(np.float64) - self.mean) / self.scale
        return scaled.astype(np.float32)

    def unnormalize(self, scores: np.ndarray) -> np.ndarray:
        """The values whose z-scores are given; float32."""
        values = scores.astype(np.float64) * self.scale + self.mean
        return values.astype(np.float32)


class Sampler:
    """Draws batches from the training rows of a data set, uniformly and with replacement.

    ``train_rows`` (n,) are the rows to draw from and the only ones that statistics and the reward
    scale are taken over. ``proprio`` are columns of the state. ``spacing`` counts rows. ``layer``
    is laid over every frame, on ``device``.

    Which rows are transitions is as in ``d4rl.qlearning_dataset``: the last row of an episode that
    was cut has no next observation and is left out, as is the data set's last row. A timeout is
    not a terminal: what follows it is unknown, not worth nothing. Where fewer than ``n_step`` rows
    are left before a cut, the return is of as many as there are. A stack never reaches back over
    its episode's start; the first frame is repeated. ``frames`` are another sampler's
    :attr:`source`, of the same data set on the same device.

    Raises :class:`UserError` where the training rows hold no transition.
    """

    def __init__(
        self,
        dataset: Dataset,
        train_rows: np.ndarray,
        *,
        observation: Literal["pixels", "state"],
        proprio: Sequence[int],
        batch_size: int,
        stack: int,
        spacing: int,
        n_step: int,
        discount: float,
        seed: int,
        device: torch.device | str = "cpu",
        layer: Layer | None = None,
        frames: Tensor | None = None,
    ) -> None:
        self.batch_size = batch_size
        self.device = torch.device(device)
        self.layer = layer
        self._rng = np.random.default_rng(seed)
        self._disk: ReadAhead | None = None
        self._laid: Tensor | None = None

        columns = list(proprio)
        self.state_normalizer = Normalizer.of(dataset.states[train_rows])
        self.action_normalizer = Normalizer.of(dataset.actions[train_rows])
        self.proprio_normalizer = Normalizer.of(dataset.states[train_rows][:, columns])
        self.reward_scale = reward_scale(dataset.rewards[train_rows])
        scaled = dataset.rewards.astype(np.float64) / self.reward_scale
        self.min_reward = float(scaled[train_rows].min())
        self.max_reward = float(scaled[train_rows].max())

        is_transition = ~dataset.timeouts
        is_transition[-1] = False
        self._is_transition = is_transition
        self.train_rows = np.asarray(train_rows)[is_transition[train_rows]]
        if len(self.train_rows) == 0:
            raise UserError("the training episodes hold no transition; take more data")
        returns, discounts, next_rows = n_step_returns(
            scaled, dataset.terminals, is_transition, n_step, discount
        )

        if observation == "pixels":
            self._source = self._placed(_unwritten(dataset.frames)) if frames is None else frames
            if not self._source.is_cuda:
                self._disk = read_ahead(dataset.frames)
            table = stack_rows(dataset.step_in_episode, stack, spacing)
            self._episode_N = torch.from_numpy(dataset.episode).to(self.device)
            self._time_N = torch.from_numpy(dataset.step_in_episode).to(self.device)
            if layer is not None and self.device.type == "cpu" and self._source.nbytes <= KEPT:
                self._laid = torch.empty_like(self._source)
                for row_F in torch.arange(len(dataset)).split(LAID_ROWS):
                    self._laid[row_F] = self._lay(row_F, layer)
        else:
            self._source = self._placed(
                torch.from_numpy(self.state_normalizer.normalize(dataset.states))
            )
            table = np.arange(len(dataset))[:, None]
        home = self._source.device
        self._stacks_NS = torch.from_numpy(table).to(home)
        self._proprio_NP = torch.from_numpy(
            self.proprio_normalizer.normalize(dataset.states[:, columns])
        ).to(home)
        self._action_NA = torch.from_numpy(self.action_normalizer.normalize(dataset.actions)).to(
            home
        )
        self._reward_N = torch.from_numpy(returns.astype(np.float32)).to(home)
        self._discount_N = torch.from_numpy(discounts.astype(np.float32)).to(home)
        self._next_N = torch.from_numpy(next_rows).to(home)

    @property
    def source(self) -> Tensor | None:
        """The frames, wherever they lie; None where observations are states."""
        return self._source if self._source.dtype == torch.uint8 else None

    @property
    def action_dim(self) -> int:
        """Numbers in an action."""
        return self._action_NA.shape[1]

    @property
    def proprio_dim(self) -> int:
        """Numbers of proprioception beside the image."""
        return self._proprio_NP.shape[1]

    @property
    def state_dim(self) -> int:
        """Numbers in a state."""
        return len(self.state_normalizer.mean)

    def sample(self) -> Batch:
        """A batch of ``batch_size`` training transitions."""
        drawn = self._rng.integers(0, len(self.train_rows), self.batch_size)
        return self._gather(self.train_rows[drawn], self.layer)

    def batch(self, rows: np.ndarray) -> Batch:
        """The transitions of the given rows, training or held out, in that order.

        Raises ``ValueError`` where a row has no next observation; see :meth:`transitions`.
        """
        if not self._is_transition[rows].all():
            raise ValueError("a row at a cut has no next observation; pass rows by transitions()")
        return self._gather(rows, self.layer)

    def batch_under(self, rows: np.ndarray, layer: Layer | None) -> Batch:
        """The same with ``layer`` over the frames in place of the sampler's own."""
        return self._gather(self.transitions(rows), layer)

    def distractions(self, rows: np.ndarray) -> np.ndarray:
        """The state of what is laid over the rows' own frames, (B, D); D is 0 where nothing is."""
        if self.layer is None:
            return np.empty((len(rows), 0))
        row_B = torch.from_numpy(np.asarray(rows, np.int64)).to(self.device)
        ids_B = self.layer.ids(self._episode_N[row_B])
        return self.layer.distraction.state(ids_B, self._time_N[row_B])

    def transitions(self, rows: np.ndarray) -> np.ndarray:
        """Those of ``rows`` that are transitions, in their order."""
        return np.asarray(rows)[self._is_transition[rows]]

    def mean_image(self) -> Tensor:
        """The mean of the training observations in [0, 1], (C, H, W) float32.

        Taken over at most ``MEAN_FRAMES`` rows, evenly spaced.
        """
        rows = self.train_rows[:: max(1, len(self.train_rows) // MEAN_FRAMES)]
        sums = [
            self._gather(part, self.layer).obs.double().sum(0) for part in np.array_split(rows, 8)
        ]
        return (torch.stack(sums).sum(0) / (255.0 * len(rows))).float()

    def state(self) -> dict[str, Any]:
        """Where the random stream stands, as plain JSON values."""
        return dict(self._rng.bit_generator.state)

    def restore(self, state: dict[str, Any]) -> None:
        """Continue the random stream from a :meth:`state`."""
        self._rng.bit_generator.state = state

    def _gather(self, rows: np.ndarray, layer: Layer | None) -> Batch:
        row_B = sent(torch.from_numpy(np.asarray(rows, dtype=np.int64)), self._source.device)
        next_B = self._next_N[row_B]
        if self._disk:
            self._disk.ask(self._stacks_NS[torch.cat([row_B, next_B])].numpy())
        return Batch(
            obs=self._observations(row_B, layer),
            proprio_BP=sent(self._proprio_NP[row_B], self.device),
            action_BA=sent(self._action_NA[row_B], self.device),
            reward_B=sent(self._reward_N[row_B], self.device),
            discount_B=sent(self._discount_N[row_B], self.device),
            next_obs=self._observations(next_B, layer),
            next_proprio_BP=sent(self._proprio_NP[next_B], self.device),
        )

    def _observations(self, row_B: Tensor, layer: Layer | None) -> Tensor:
        rows_BS = self._stacks_NS[row_B]
        source = self._source
        if layer is not None:
            if layer is not self.layer or self._laid is None:
                return self._laid_over(rows_BS, layer)
            source = self._laid
        if source.is_cuda or rows_BS.shape[1] == 1:
            # index_select is some fifteen times as fast as indexing here.
            frames = [source.index_select(0, rows_B) for rows_B in rows_BS.unbind(dim=1)]
            stacked = torch.cat(frames, dim=-1)
        else:
            stacked = _interleaved(source, rows_BS)
        stacked = sent(stacked, self.device)
        if stacked.dim() == 4:  # (B, H, W, C) in memory is channels_last
            stacked = stacked.permute(0, 3, 1, 2)
        return stacked

    def _laid_over(self, rows_BS: Tensor, layer: Layer) -> Tensor:
        """Observations (B, C, H, W) with ``layer`` over every frame of them."""
        batch, stack = rows_BS.shape
        row_F = rows_BS.flatten()
        laid = self._lay(row_F, layer)
        stacked = laid.view(batch, stack, *laid.shape[1:]).permute(0, 2, 3, 1, 4)
        return stacked.reshape(batch, *laid.shape[1:3], -1).permute(0, 3, 1, 2)

    def _lay(self, row_F: Tensor, layer: Layer) -> Tensor:
        """The rows' own frames with ``layer`` over them, on the sampler's device."""
        frames = self._source.index_select(0, row_F)
        frames, row_F = sent(frames, self.device), sent(row_F, self.device)
        ids_F = layer.ids(self._episode_N[row_F])
        return layer.distraction.lay(frames, ids_F, self._time_N[row_F])

    def _placed(self, source: Tensor) -> Tensor:
        """``source`` on the device where it takes less than half of what is free there."""
        if self.device.type != "cuda":
            return source
        free, _ = torch.cuda.mem_get_info(self.device)
        return source.to(self.device) if source.nbytes < free / 2 else source


def _interleaved(source: Tensor, rows_BS: Tensor) -> Tensor:
    """The same as a gather of each frame and a ``cat``, in two thirds of its time on a CPU.

    ``cat`` would copy three bytes at a time; these are long runs of one channel's bytes, a few
    pictures after another so that they stay in the cache.
    """
    batch, stack = rows_BS.shape
    _, height, width, depth = source.shape
    stacked = source.new_empty(batch, height, width, stack * depth)
    parts = zip(stacked.split(CACHED_ROWS), rows_BS.split(CACHED_ROWS), strict=True)
    for part, rows_PS in parts:
        pixels = part.view(-1, stack * depth)
        for place, rows_P in enumerate(rows_PS.unbind(dim=1)):
            frames = source.index_select(0, rows_P).view(-1, depth)
            for channel in range(depth):
                pixels[:, place * depth + channel] = frames[:, channel]
    return stacked


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device; from pinned memory, so that the copy does not wait for its queue.

    A plain copy to a GPU waits until all that was asked of it before is done.
    """
    if device.type != "cuda" or tensor.is_cuda:
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)


def _unwritten(frames: np.ndarray) -> Tensor:
    """Read-only frames as a tensor, without torch's warning; never write to it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(frames)


def reward_scale(rewards: np.ndarray) -> float:
    """What rewards are divided by: their maximum, as LAPO's ``main_d4rl.py`` does.

    Where that is not positive, the largest magnitude, and 1 where all are 0.
    """
    largest = float(rewards.max())
    return largest if largest > 0 else float(np.abs(rewards).max()) or 1.0


def n_step_returns(
    rewards: np.ndarray,
    terminals: np.ndarray,
    is_transition: np.ndarray,
    n_step: int,
    discount: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each row: the discounted sum of up to n rewards, the discount to what follows, its row.

    All (N,). The discount is γᵐ after m rewards, and 0 after a terminal, whose next row is itself.
    Rows that are no transitions have return 0, discount 1 and themselves as the next row.
    """
    count = len(rewards)
    returns = np.zeros(count)
    discounts = np.ones(count)
    next_rows = np.arange(count)
    going = is_transition.copy()
    for step in range(n_step):
        rows = np.flatnonzero(going)
        if not len(rows):  # all have met their episode's end
            break
        at = next_rows[rows]
        returns[rows] += discount**step * rewards[at]
        ended = terminals[at]
        discounts[rows] = np.where(ended, 0.0, discount ** (step + 1))
        next_rows[rows[~ended]] += 1
        going[rows] = ~ended & is_transition[next_rows[rows]]
    return returns, discounts, next_rows


def stack_rows(step_in_episode: np.ndarray, stack: int, spacing: int) -> np.ndarray:
    """The rows whose frames make up each row's observation, oldest first; (N, stack) int64."""
    back = np.arange(stack - 1, -1, -1) * spacing
    reach = np.minimum(back[None, :], step_in_episode[:, None])
    rows: np.ndarray = np.arange(len(step_in_episode))[:, None] - reach
    return rows

"""The rows of a cell's data that diagnostics use, and when they are measured.

All draws follow from (env, seed), so the variants of a pair are measured on the same rows.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from benchbench.agent.protocol import Agent
from benchbench.core.errors import UserError
from benchbench.data.batch import Batch
from benchbench.data.returns import known, returns_to_go, why_unknown
from benchbench.data.sampler import Sampler, stack_rows
from benchbench.data.store import Dataset, halve_episodes
from benchbench.diagnostics.features import encode, moving
from benchbench.diagnostics.held_out import HeldOut, Rows, least_q, own_return_errors
from benchbench.envs import imaged_columns
from benchbench.envs.distraction import data_layer
from benchbench.envs.evaluate import NO_FRAMES, Policy, RollOuts, Start
from benchbench.envs.pool import Pool
from benchbench.suite.grid import Cell

FEATURE_ROWS = 256
"""``features.parquet`` holds at most this many held-out rows."""


class Measures:
    """Everything measured on held-out rows: probes, errors of Q, features.

    ``policy`` is the agent's, ``pool`` is free for roll-outs between evaluations. Raises
    :class:`UserError` where the data holds too few episodes whose return-to-go is known.
    """

    def __init__(
        self,
        cell: Cell,
        dataset: Dataset,
        sampler: Sampler,
        train_rows: np.ndarray,
        held_out_rows: np.ndarray,
        pool: Pool | None,
        policy: Policy,
    ) -> None:
        self._cell, self._policy, self._scale = cell, policy, sampler.reward_scale
        draw = _Draw(cell, dataset, sampler)
        fit_rows, score_rows, variance = train_rows, held_out_rows, None
        if cell.diagnose.probe_on == "held-out":
            score_rows, fit_rows = draw.halves(held_out_rows)
            variance = draw.variance()
        fit = draw.rows("probe fit", fit_rows, cell.diagnose.probe_frames, episodes=2)
        score = draw.rows("probe score", score_rows, cell.diagnose.probe_frames)
        seen = sampler.layer
        unseen = data_layer(cell, sampler.device, unseen=True)
        has_unseen = cell.unseen is not None and cell.observation == "pixels"
        self.held_out = HeldOut(
            fit=draw.known(fit),
            score=draw.known(score),
            twin=sampler.batch_under(score, seen.twin()).obs if seen else None,
            unseen=sampler.batch_under(score, unseen) if has_unseen else None,
            variance=variance,
        )
        self.feature_rows = draw.rows("feature rows", score, FEATURE_ROWS)
        self._feature_batch = sampler.batch(self.feature_rows)
        self._roll_outs: dict[str, tuple[RollOuts, Batch]] = {}
        can_reset = pool is not None and pool.can_reset and dataset.qpos.shape[1] > 0
        if cell.diagnose.q_pairs and pool and can_reset:
            self.q_rows = draw.rows("q rows", held_out_rows, cell.diagnose.q_pairs)
            self._largest_reward = max(abs(sampler.min_reward), abs(sampler.max_reward))
            begin = starts(cell, dataset, self.q_rows)
            for prefix in ("", "unseen_") if has_unseen else ("",):
                roll_outs = RollOuts(
                    pool,
                    begin,
                    horizon=cell.diagnose.q_horizon,
                    discount=cell.agent.discount,
                    stack=cell.pixels.stack,
                    spacing=cell.pixels.spacing,
                    layer=data_layer(cell, unseen=bool(prefix)),
                )
                batch = sampler.batch_under(self.q_rows, unseen if prefix else seen)
                self._roll_outs[prefix] = roll_outs, batch

    def at_evaluation(self, agent: Agent, index: int, *, last: bool) -> dict[str, float | None]:
        """The measures due at evaluation ``index`` (0: untrained), as in ``evaluations``."""
        measures = self.held_out.measure(agent)
        due = last or (index > 0 and index % self._cell.diagnose.q_every == 0)
        return measures | (self.own_return_errors(agent) if due else {})

    def own_return_errors(self, agent: Agent) -> dict[str, float | None]:
        """Q against the Monte-Carlo returns of the agent's own policy; empty without roll-outs.

        The policy is the one that is evaluated: without the noise that V's target adds to it. Under
        unseen distractions only the error is given.
        """
        errors: dict[str, float | None] = {}
        for prefix, (roll_outs, batch) in self._roll_outs.items():
            returns, missing = roll_outs.returns(self._policy)
            horizon = self._largest_reward / (1 - self._cell.agent.discount)
            found = own_return_errors(
                least_q(agent, batch), returns / self._scale, missing * horizon, self.held_out.sigma
            )
            errors |= {"unseen_q_error": found["q_error"]} if prefix else found
        return errors

    def features(self, agent: Agent, update: int) -> Iterator[dict[str, object]]:
        """Rows of ``features.parquet``: the encoder's output; none where there is no encoder."""
        encoder = agent.probed()
        if not list(encoder.parameters()):
            return
        features, _ = encode(encoder, self._feature_batch.obs)
        for row, values in zip(self.feature_rows, features, strict=True):
            yield {"update": update, "row": int(row), "values": values.tolist()}


def starts(cell: Cell, dataset: Dataset, rows: np.ndarray) -> list[Start]:
    """The rows as starts of roll-outs, with all frames that a stack may reach back to."""
    step, episode = dataset.step_in_episode, dataset.episode
    oldest = stack_rows(step, cell.pixels.stack, cell.pixels.spacing)[:, 0]
    # A run that continues across its cuts has an action before each row but the first.
    has_before = np.arange(len(dataset)) > 0 if dataset.card["continuous"] else step > 0
    pixels = cell.observation == "pixels"
    return [
        Start(
            qpos=dataset.qpos[row],
            qvel=dataset.qvel[row],
            last_action=dataset.actions[row - 1] * has_before[row],
            action=dataset.actions[row],
            frames=np.array(dataset.frames[oldest[row] : row + 1]) if pixels else NO_FRAMES,
            episode=int(episode[row]),
            time=int(step[row]),
        )
        for row in rows
    ]


class _Draw:
    """Fixed draws of transitions whose return-to-go is known.

    The others, whose episode was cut too soon after them, are left out.
    """

    def __init__(self, cell: Cell, dataset: Dataset, sampler: Sampler) -> None:
        self._cell, self._dataset, self._sampler = cell, dataset, sampler
        discount = cell.agent.discount
        self._returns = returns_to_go(dataset, discount, sampler.reward_scale)
        self._whole = known(dataset, discount)
        self._episode, self._step = dataset.episode, dataset.step_in_episode
        imaged = imaged_columns(cell.env, cell.proprio, dataset.state_names)
        self._imaged = moving(imaged, dataset.states, dataset.episode)

    def rows(self, purpose: str, rows: np.ndarray, count: int, episodes: int = 1) -> np.ndarray:
        """At most ``count`` of the rows, ascending, from the stream of ``purpose``."""
        rows = self._sampler.transitions(rows)
        rows = rows[self._whole[rows]]
        if len(np.unique(self._episode[rows])) < episodes:
            discount = self._cell.agent.discount
            raise UserError(why_unknown(self._cell.env, self._dataset, discount))
        rng = np.random.default_rng(self._cell.stream(purpose))
        return np.sort(rng.choice(rows, min(count, len(rows)), replace=False))

    def halves(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Two parts of the rows whose return is known, by whole episodes."""
        rows = self._sampler.transitions(rows)
        rng = np.random.default_rng(self._cell.stream("probe halves"))
        return halve_episodes(self._dataset, rows[self._whole[rows]], rng)

    def variance(self) -> np.ndarray:
        """Variance of each probe target over all transitions whose return is known: (T,)."""
        rows = self._sampler.transitions(np.arange(len(self._dataset)))
        rows = rows[self._whole[rows]]
        actions = self._sampler.action_normalizer.normalize(self._dataset.actions[rows])
        states = self._dataset.states[rows][:, self._imaged]
        targets = np.column_stack([states, actions, self._returns[rows]])
        return targets.astype(np.float64).var(axis=0)

    def known(self, rows: np.ndarray) -> Rows:
        """The rows as transitions, with their states, returns and times."""
        return Rows(
            batch=self._sampler.batch(rows),
            states=self._dataset.states[rows][:, self._imaged].astype(np.float64),
            returns=self._returns[rows],
            episodes=self._episode[rows],
            times=self._step[rows],
            distractions=self._sampler.distractions(rows),
        )

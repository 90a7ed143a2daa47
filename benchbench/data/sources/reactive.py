"""The recipe ``reactive``: D4RL's PyBullet bodies under the policies that PyBullet ships.

The policies of 2017 (``pybullet_envs.examples``) do not all walk in today's PyBullet (3.2.7).
Normalised scores in D4RL's environments, mean and standard deviation of 10 episodes:

============  ==========  ==========  ==========  ==========  ==========
body          shipped     noisy-0.3   noisy-0.5   noisy-1.0   random
============  ==========  ==========  ==========  ==========  ==========
hopper        177 ± 2     171 ± 3     75 ± 61     2.6 ± 2.1   -0.1 ± 0.3
ant           89 ± 1      82 ± 8      77 ± 16     36 ± 15     4.1 ± 3.4
halfcheetah   27 ± 25                                         1.1 ± 4.1
walker2d      6 ± 10                                          0.2 ± 0.3
============  ==========  ==========  ==========  ==========  ==========

So ``expert`` is the shipped policy of hopper and ant only. PyBullet's own environments treat the
other two no better: HalfCheetahBulletEnv-v0 paid 338, 97 and -587, Walker2DBulletEnv-v0 19, 12 and
15 in three episodes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchbench.data.format import Draft, Progress, episode_returns
from benchbench.data.sources.made_here import RESUMES, count, fetch, lacking
from benchbench.envs.bullet import BulletPixelEnv
from benchbench.suite.dataset_identity import DataIdentity
from benchbench.suite.environments import ReactiveData, seed_of

__all__ = ["PACKAGES", "RESUMES", "count", "fetch", "lacking", "make", "origin"]

PACKAGES = ("d4rl", "gym", "numpy", "pybullet")

Act = Callable[[np.ndarray], np.ndarray]
"""Actions (A,) in [-1, 1] from observations (D,)."""


def origin(identity: DataIdentity) -> str:
    """Where the set comes from."""
    return "made here by PyBullet's policies"


def make(identity: DataIdentity, folder: Path, progress: Progress) -> None:
    """Episodes of each part of the mix, until there are rows enough.

    The next episode is of the part that is furthest behind its share, so shares are met to within
    an episode and all episodes are whole but the last, which is cut where the set is full. A row is
    D4RL's: the observation, the action taken in it, and the reward and end of that step; with an
    action repeat of n a step is n of the simulator's. ``source.seed`` decides every start state
    and every random number. ``infos/part`` says which of the card's ``parts`` a row is of.
    """
    rows, mix = count(identity), _mix(identity)
    env = BulletPixelEnv(identity.env, identity.size, identity.action_repeat)
    random = np.random.default_rng(seed_of(_settings(identity)))
    policies = [policy_of(part, env, random) for part in mix]
    shares, done = np.array(list(mix.values())), np.zeros(len(mix), int)
    env.reset(0)
    qpos, qvel = (np.zeros((rows, len(one))) for one in env.qpos_qvel())
    widths = {"observations": len(env.state_names), "actions": env.action_dim}
    draft = Draft(identity, folder, rows, widths)
    columns = draft.columns
    columns |= {"infos/qpos": qpos, "infos/qvel": qvel, "infos/part": np.zeros(rows, np.int8)}
    try:
        row, ended = 0, True
        while row < rows:
            if ended:
                part = int(np.argmin(done / shares))
                env.reset(int(random.integers(2**31)))
            action = policies[part](env.state())
            columns["observations"][row] = env.state()
            columns["actions"][row] = action
            columns["infos/part"][row] = part
            qpos[row], qvel[row] = env.qpos_qvel()
            draft.frames[row] = env.frame()
            reward, terminal, timeout = env.step(action)
            columns["rewards"][row] = reward
            columns["terminals"][row], columns["timeouts"][row] = terminal, timeout
            ended = terminal or timeout
            done[part] += 1
            row += 1
            if row % 1000 == 0 or row == rows:
                progress(row, rows)
    finally:
        env.close()
    columns["timeouts"][-1] = not columns["terminals"][-1]
    draft.finish(
        env.state_names,
        env.normalized_score,
        PACKAGES,
        last_is_whole=ended,
        episode_steps=env.max_episode_steps,
        parts=_parts(mix, columns, ended, env.normalized_score),
    )


def policy_of(part: str, env: BulletPixelEnv, random: np.random.Generator) -> Act:
    """The policy of a part of a mix: ``expert``, ``shipped``, ``noisy-<deviation>``, ``random``."""
    if part == "random":
        return lambda _: random.uniform(-1.0, 1.0, env.action_dim).astype(np.float32)
    shipped = env.shipped_policy()
    noise = float(part.removeprefix("noisy-")) if part.startswith("noisy-") else 0.0

    def act(obs: np.ndarray) -> np.ndarray:
        action = shipped(obs)
        if noise:
            action = action + noise * random.standard_normal(env.action_dim)
        return np.clip(action, -1.0, 1.0).astype(np.float32)

    return act


def _settings(identity: DataIdentity) -> ReactiveData:
    assert isinstance(identity.source, ReactiveData)
    return identity.source


def _mix(identity: DataIdentity) -> dict[str, float]:
    mix = _settings(identity).mix
    assert mix is not None
    return mix


def _parts(
    mix: dict[str, float],
    columns: dict[str, np.ndarray],
    last_is_whole: bool,
    score: Callable[[float], float],
) -> list[dict[str, object]]:
    """What the card says of each part; returns and scores are of its whole episodes."""
    ends = columns["terminals"] | columns["timeouts"]
    returns = episode_returns(columns["rewards"], ends)
    of_episode = columns["infos/part"][ends]
    whole = np.ones(len(returns), bool)
    whole[-1] = last_is_whole
    told: list[dict[str, object]] = []
    for index, (part, share) in enumerate(mix.items()):
        chosen = returns[whole & (of_episode == index)]
        mean = float(chosen.mean())
        told.append(
            {
                "policy": part,
                "share": share,
                "transitions": int((columns["infos/part"] == index).sum()),
                "episodes": int((of_episode == index).sum()),
                "mean_return": mean,
                "std_return": float(chosen.std()),
                "normalized_score_mean": score(mean),
            }
        )
    return told

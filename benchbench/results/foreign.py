"""Scores of other code, as a results folder that the same statistics and page judge.

Read are CSV files of one row a run and step, under the names of benchbench, CleanRL or Weights &
Biases, and Weights & Biases' export of a chart: a column of steps, and one a run, called
``<environment>__<variant>__<seed>__<time> - <metric>`` as CleanRL and Open RL Benchmark name runs.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from pydantic import ValidationError

from benchbench.core.errors import UserError
from benchbench.core.files import replaced, write_text
from benchbench.results.tables import TABLES, to_table
from benchbench.suite.load import first_mistake
from benchbench.suite.model import Suite
from benchbench.suite.variants import OTHER_CODE, of_other_code

NAMES: dict[str, tuple[str, ...]] = {
    "env": ("env", "environment", "env_id", "env_name", "task", "dataset", "game"),
    "seed": ("seed", "random_seed"),
    "variant": ("variant", "algorithm", "algo", "exp_name", "method", "agent"),
    "step": ("step", "steps", "update", "updates", "global_step", "_step", "timestep", "timesteps",
             "total_timesteps", "iteration", "frame", "frames"),
    "score": ("score", "normalized_score", "d4rl_normalized_score", "return", "episodic_return",
              "episode_return", "episode_reward", "charts/episodic_return", "eval/score",
              "eval_return", "eval/mean_reward", "rollout/ep_rew_mean"),
}  # fmt: skip
"""What a column may be called, lower case, first choice first: the names of CleanRL, Open RL
Benchmark, D4RL, CORL, Stable-Baselines3 and DrQ-v2. W&B's ``config.`` before it and a unit in
brackets behind it are left out."""

LARGEST = 2**53
"""Steps and seeds up to here are whole numbers in every program."""

RUN = re.compile(r"^(?P<env>.+?)__(?P<variant>.+?)__(?P<seed>\d+)(?:__\d+)?$")

Runs = dict[tuple[int, str], pd.DataFrame]
"""By seed and variant."""

POINTS = 20
"""Runs that were not evaluated at the same steps are averaged in this many equal parts."""


def read_scores(path: Path) -> pd.DataFrame:
    """``env, seed, variant, step, score``, a row an evaluation.

    Raises :class:`UserError` where the file has another layout or a row that is no number.
    """
    table = _read_csv(path)
    there = {_plain(str(name)): name for name in reversed(table.columns)}
    chosen = {
        ours: next((there[name] for name in names if name in there), None)
        for ours, names in NAMES.items()
    }
    if chosen["env"] is None and chosen["variant"] is None:
        long = _of_wide(table)
        if long is None and chosen["step"] is None and any(map(_run_of, table.columns)):
            raise UserError(
                f"{path}: has columns of runs, but none of their steps; it may be called "
                f"{', '.join(NAMES['step'])}"
            )
        if long is None:
            raise UserError(
                f"{path}: should have the columns environment, seed, variant, step and score, or a "
                "column a run called environment__variant__seed__time; it has "
                f"{', '.join(map(str, table.columns[:8]))}"
            )
    else:
        if chosen["step"] is None and chosen["score"] is not None:
            chosen["step"] = "step"  # of final scores, a row a run
            table = table.assign(step=1)
        if lacking := [name for name, column in chosen.items() if column is None]:
            raise UserError(
                f"{path}: has no column for the {' and '.join(lacking)}; "
                + "; ".join(f"{name} may be called {', '.join(NAMES[name])}" for name in lacking)
            )
        long = table[[chosen[name] for name in NAMES]].set_axis(list(NAMES), axis=1)
    long = long.dropna(subset=["score"])
    for name, called in (("env", "environment"), ("variant", "variant"), ("seed", "seed")):
        if long[name].isna().any():
            raise UserError(
                f"{path}: has no {called} in row {int(long[name].isna().to_numpy().argmax()) + 1} "
                "of those with a score; fill it in or leave the row out"
            )
    for name in ("seed", "step", "score"):
        numbers = pd.Series(pd.to_numeric(long[name], errors="coerce"), long.index)
        bad = np.flatnonzero(~np.isfinite(numbers.to_numpy(float)))
        if len(bad):
            raise UserError(
                f"{path}: {name} is '{long[name].iloc[bad[0]]}', not a number, in row "
                f"{int(bad[0]) + 1} of those with a score; write plain numbers, such as "
                f"{'12.5' if name == 'score' else 3}"
            )
        if name != "score" and len(bad := np.flatnonzero(_no_integer(numbers.to_numpy(float)))):
            raise UserError(
                f"{path}: {name} is {numbers.iloc[bad[0]]:g}; write whole numbers from 0 to 2^53"
            )
        long = long.assign(**{name: numbers})
    if long.empty:
        raise UserError(f"{path}: holds no score")
    long = long.astype({"seed": "int64", "env": str, "variant": str})
    if (twice := long.duplicated(["env", "seed", "variant", "step"])).any():
        row = long[twice].iloc[0]
        raise UserError(
            f"{path}: {row['env']} seed {row['seed']} {row['variant']} has step {row['step']:g} "
            "twice; give each run its own seed"
        )
    return long.reset_index(drop=True)


def _read_csv(path: Path) -> pd.DataFrame:
    """The file as a table, whether commas, semicolons or tabs stand between its columns."""
    try:
        head = " ".join(map(str, pd.read_csv(path, nrows=0).columns))
        separator = next((sign for sign in ";\t" if sign in head), ",")
        return pd.read_csv(path, sep=separator, decimal="." if separator == "," else ",")
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not in UTF-8; save it as CSV in UTF-8") from None
    except (OSError, ValueError) as error:
        told = " ".join(str(error).split())
        raise UserError(f"{path}: cannot be read as CSV ({told}); export it again") from None


def _plain(name: str) -> str:
    """A column's name without its case, signs, a unit in brackets and W&B's prefix."""
    bare = re.sub(r"\s*[\[(][^\])]*[\])]$", "", name.strip().lower())
    return re.sub(r"[ -]+", "_", re.sub(r"^config[./]", "", bare))


def _no_integer(numbers: np.ndarray) -> np.ndarray:
    return (numbers != np.round(numbers)) | (numbers < 0) | (numbers > LARGEST)


def _run_of(column: object) -> re.Match[str] | None:
    """The run that a column of a chart is of: what stands before its metric."""
    run, dash, metric = str(column).partition(" - ")
    beside = metric.endswith(("__MIN", "__MAX", "_step"))
    return RUN.match(run.strip()) if dash and not beside else None


def _of_wide(table: pd.DataFrame) -> pd.DataFrame | None:
    """Weights & Biases' export of a chart in long form; None where it is not one."""
    step = next((c for c in table.columns if _plain(str(c)) in NAMES["step"]), None)
    parts = []
    for column in table.columns:
        found = _run_of(column)
        if step is None or not found:
            continue
        parts.append(pd.DataFrame({
            "env": found["env"], "seed": int(found["seed"]), "variant": found["variant"],
            "step": table[step], "score": table[column],
        }))  # fmt: skip
    return pd.concat(parts, ignore_index=True) if parts else None


def write_foreign(
    folder: Path, scores: pd.DataFrame, delta: float, contrasts: Sequence[tuple[str, str]]
) -> None:
    """Write the scores as the results of a suite of the folder's name.

    ``delta`` is the smallest difference of interest, in the score's units; ``contrasts`` are pairs
    (of, against), by default every variant against the first. Only what scores tell is judged, and
    nothing is expected of a variant for its name. Raises :class:`UserError` where nothing can be
    compared.
    """
    names = {name: _slug(name) for name in dict.fromkeys(scores["variant"])}
    if len(set(names.values())) < len(names):
        raise UserError(f"variants {', '.join(names)}: differ in punctuation alone; rename them")
    for name in {name for pair in contrasts for name in pair} - set(names):
        raise UserError(f"variant '{name}': is not in the file; it has {', '.join(names)}")
    if len(names) < 2:
        raise UserError(f"the scores are all of one variant, {next(iter(names))}; it takes two")
    first, *others = names
    contrasts = contrasts or [(name, first) for name in others]
    runs_of = {
        name: set(zip(mine["env"], mine["seed"], strict=True))
        for name, mine in scores.groupby("variant")
    }
    for of, against in contrasts:
        if of == against or not runs_of[of] & runs_of[against]:
            raise UserError(
                f"{of} and {against}: have no environment and seed in common, so nothing is a "
                "pair; number the seeds of both alike, or choose others with --contrast"
            )
    resampled, cut = False, []
    cells: list[dict[str, object]] = []
    evaluations: list[dict[str, object]] = []
    plan: list[dict[str, object]] = []
    head: dict[str, object]
    for env, rows in scores.groupby("env", sort=False):
        runs: Runs = {
            (int(str(seed)), str(variant)): run.sort_values("step")
            for (seed, variant), run in rows.groupby(["seed", "variant"], sort=False)
        }
        if len({tuple(run["step"]) for run in runs.values()}) > 1:
            cut += _cut_short(str(env), runs)
            resampled, runs = True, _same_steps(runs)
        for (seed, variant), run in runs.items():
            text = f"{env}\n{seed}\n{variant}\n{run['score'].to_list()}"
            key = hashlib.sha256(text.encode()).hexdigest()[:16]
            head = {"key": key, "env": env, "seed": seed, "variant": names[variant]}
            steps, values = run["step"].round().astype(int).to_list(), [*map(float, run["score"])]
            plan.append(head)
            cells.append(head | {
                "status": "done", "updates": steps[-1], "best_score": max(values),
                "final_score": values[-1],
                "untrained_score": values[0] if steps[0] == 0 else None, "settings": "{}",
            })  # fmt: skip
            evaluations += [head | {"update": u, "score": s, "return_mean": s}
                            for u, s in zip(steps, values, strict=True)]  # fmt: skip
    told = ["scores of other code"]
    if resampled:
        told.append("runs were not evaluated at the same steps, so each is averaged in equal parts "
                    "of what all of its environment have in common")  # fmt: skip
    suite = {
        "name": re.sub(r"[^A-Za-z0-9_.-]+", "-", folder.name).strip("-.") or "scores",
        "description": "; ".join(told + cut),
        "seeds": sorted({int(seed) for seed in scores["seed"]}),
        "variants": [of_other_code(name) for name in names.values()],
        "envs": [{"id": env, "data": {"source": "file", "path": OTHER_CODE}}
                 for env in dict.fromkeys(scores["env"])],
        "contrasts": [{"of": names[of], "against": names[against]} for of, against in contrasts],
        "claims": ["area", "score"],
        "deltas": {"score": delta, "auc": delta},
    }  # fmt: skip
    try:
        Suite.model_validate(suite)
    except ValidationError as error:
        raise UserError(f"the scores make no suite: {first_mistake(error, suite)}") from None
    rows_of = {"cells": cells, "evaluations": evaluations}
    for name in TABLES:
        with replaced(folder / f"{name}.parquet") as file:
            pq.write_table(to_table(name, rows_of.get(name, [])), file)
    stored = {"suite": suite, "plan": plan, "left_out": {}}
    write_text(folder / "suite.json", json.dumps(stored, indent=1))


def _cut_short(env: str, runs: Runs) -> list[str]:
    """That a run ends long before the others, which are judged no further than it goes."""
    ends = {key: float(run["step"].max()) for key, run in runs.items()}
    (seed, variant), last = min(ends.items(), key=lambda end: end[1])
    usual = float(np.median([*ends.values()]))
    if last >= 0.9 * usual:
        return []
    return [
        f"{env} is judged up to step {last:g} of {usual:g}, where seed {seed} of {variant} ends"
    ]


def _same_steps(runs: Runs) -> Runs:
    """Each run as the means of equal parts of what all runs have in common."""
    last = min(int(run["step"].max()) for run in runs.values())
    parts = max(1, min(POINTS, last))  # no two of them end at the same step
    edges = np.linspace(0, last, parts + 1)
    found = {}
    for key, run in runs.items():
        within = run[run["step"] <= last]
        part = np.clip(np.searchsorted(edges, within["step"], side="left"), 1, parts)
        means = within["score"].groupby(part).mean().reindex(range(1, parts + 1))
        # A part without an evaluation goes on from the last one; nothing is taken from later ones.
        known = means.ffill().bfill()
        found[key] = pd.DataFrame({"step": edges[1:], "score": known.to_numpy()})
    return found


def _slug(name: str) -> str:
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if not slug:
        raise UserError(f"variant '{name}': has no letter from a to z and no digit; rename it")
    return slug

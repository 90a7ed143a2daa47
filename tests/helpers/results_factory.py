"""Synthetic results of known effects, in memory and on disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from benchbench.results.tables import TABLES, Results, read_results, to_table
from benchbench.suite.model import Suite

Rows = dict[str, list[dict[str, object]]]

# What a variant's cells look like: defaults, and what `before` and `after` change when the brief
# is right in every row. Score points, R², σ_G; `wobble` is the spread of the late score.
PLAIN = {"final": 40.0, "return_r2": 0.3, "action_r2": 0.3, "state_r2": 0.5, "q_error": 1.0,
         "wobble": 10.0}  # fmt: skip
ORACLE, UNTRAINED = 0.95, 0.2
BRIEF = {
    "before": {"final": 10.0, "return_r2": 0.25, "action_r2": 0.5, "state_r2": 0.5,
               "q_error": 1.2, "wobble": 20.0},
    "after": {"final": 80.0, "return_r2": 0.6, "action_r2": 0.2, "state_r2": 0.8,
              "q_error": 0.6, "wobble": 4.0},
}  # fmt: skip
NOTHING: dict[str, dict[str, float]] = {"before": {}, "after": {}}


def make_suite(
    variants: Sequence[object] = ("before", "after"),
    envs: Sequence[str] = ("bullet-maze2d-open-v0",),
    seeds: int = 10,
    **more: object,
) -> Suite:
    return Suite.model_validate(
        {
            "name": "synthetic",
            "seeds": seeds,
            "variants": list(variants),
            "envs": [{"id": env} for env in envs],
            **more,
        }
    )


def make_rows(
    suite: Suite, effects: Mapping[str, Mapping[str, float]], noise: float = 1.0
) -> tuple[list[dict[str, object]], Rows]:
    """The plan and the tables' rows. Noise is shared within a pair, and in part a cell's own."""
    plan: list[dict[str, object]] = []
    rows: Rows = {name: [] for name in TABLES}
    for env in (one.label for one in suite.strata):
        for seed in suite.seed_list:
            for routing in suite.routings:
                cell: dict[str, object] = {
                    "key": f"{env}-{seed}-{routing.name}", "env": env, "seed": seed,
                    "variant": routing.name,
                }  # fmt: skip
                plan.append(cell)
                truth = PLAIN | dict(effects.get(routing.name, {}))
                add_cell(rows, cell, truth, noise, pixels=suite.observation == "pixels",
                         fresh=suite.evaluate.final_episodes)  # fmt: skip
    return plan, rows


def add_cell(
    rows: Rows,
    cell: dict[str, object],
    truth: Mapping[str, float],
    noise: float,
    pixels: bool,
    fresh: int = 0,
) -> None:
    pair = np.random.default_rng([int(str(cell["seed"])), len(str(cell["env"]))])
    shared = noise * pair.normal(size=6)
    text = str(cell["key"]).encode()
    own = np.random.default_rng([int(b) for b in text])
    updates = np.arange(0, 5001, 250)
    progress = 1 - np.exp(-updates / 1200)
    scores = (truth["final"] + 3 * shared[0]) * progress
    scores[1:] += truth["wobble"] * own.normal(size=len(updates) - 1)
    scores += noise * own.normal(size=len(updates))
    for update, score, done in zip(updates, scores, progress, strict=True):
        spread = np.linspace(-0.2, 0.2, 8)
        row = {**cell, "update": int(update), "score": float(score),
               "return_mean": float(score / 2 + 5), "returns": list(score / 2 + 5 + spread),
               "td_error": truth["q_error"] * float(np.exp(0.03 * shared[1] - done / 2)),
               "q_behaviour_error": truth["q_error"] * float(np.exp(0.03 * own.normal() - done)),
               "q_behaviour_bias": 0.1, "q_behaviour_spearman": 0.4}  # fmt: skip
        if fresh and update >= 4500:
            starts = np.random.default_rng([int(update), int(str(cell["seed"]))])
            row["fresh_returns"] = list(score / 2 + 5 + own.normal(size=fresh) + starts.normal())
            row["fresh_score"] = float(2 * (np.mean(row["fresh_returns"]) - 5))
        if update % 1250 == 0 and update:
            row |= {"q_error": 2 * float(row["q_behaviour_error"]), "q_bias": 0.3,
                    "q_spearman": 0.5, "q_slope": 0.8, "q_tail": 0.01}  # fmt: skip
        if pixels:
            row |= {
                name: UNTRAINED
                + (truth[name] - UNTRAINED) * float(done)
                + 0.01 * float(noise * own.normal())
                for name in ("state_r2", "return_r2", "action_r2")
            }
            row |= {"time_return_r2": 0.1, "srank": 20.0, "dormant": 0.05}
        rows["evaluations"].append(row)
    rows["cells"].append(
        {**cell, "status": "done", "observation": "pixels" if pixels else "state",
         "updates": 5000, "untrained_score": float(scores[0]),
         "final_score": float(scores[-5:].mean()), "best_score": float(scores.max()),
         "total_seconds": 100.0, "train_seconds": 80.0, "evaluate_seconds": 15.0,
         "diagnose_seconds": 5.0, "update_ms": 16.0, "device": "cpu", "device_name": "a processor",
         "threads": 1, "data_key": "abc", "data_sha256": "f" * 64,
         "versions": json.dumps({"python": "3.11.2", "torch": "2.9.0"}), "git_commit": "0" * 40,
         "git_dirty": False, "settings": "{}",
         "oracle_state_r2": ORACLE if pixels else None}
    )  # fmt: skip
    if pixels:
        add_signals(rows, cell, own)


def add_signals(rows: Rows, cell: dict[str, object], own: np.random.Generator) -> None:
    for update in range(0, 5001, 500):
        critic, vae = 0.05 * np.exp(0.5 * own.normal(size=2))
        rows["training"].append(
            {**cell, "update": update, "critic_loss": 1.0, "vae_loss": 1.0,
             "grad_critic": float(critic), "grad_vae": float(vae / 10),
             "grad_cosine": float(own.uniform(-1, 1)), "grad_q": float(0.9 * critic),
             "grad_v": float(0.3 * critic), "moved_critic": 0.2, "moved_vae": 0.1}
        )  # fmt: skip
    flows = {
        "before": {"critic": "dropped", "vae": "applied"},
        "after": {"critic": "applied", "vae": "detached"},
        "frozen": {"critic": "detached", "vae": "detached"},
        "vae-only": {"critic": "detached", "vae": "applied"},
    }
    either = {"critic": "applied", "vae": "applied"}
    for loss, norm in (("critic", 0.05), ("vae", 0.005), ("actor", 0.0)):
        flow = (flows.get(str(cell["variant"]), either) | {"actor": "detached"})[loss]
        norm = 0.0 if flow == "detached" else norm * float(np.exp(0.2 * own.normal()))
        rows["ledger"].append(
            {**cell, "update": 2500, "loss": loss, "module": "obs_encoder", "computed": norm,
             "applied": norm if flow == "applied" else 0.0,
             "dropped": norm if flow == "dropped" else 0.0,
             "mismatch": 1e-7 if flow == "applied" else None}
        )  # fmt: skip
    for loss, head in (("critic", "critic"), ("vae", "actor_vae"), ("actor", "actor")):
        rows["ledger"].append(
            {**cell, "update": 2500, "loss": loss, "module": head, "computed": 2.0,
             "applied": 2.0, "dropped": 0.0, "mismatch": 1e-7}
        )  # fmt: skip
    pair = np.random.default_rng([int(str(cell["seed"])), 7])
    values = pair.normal(size=(12, 3)) + 0.5 * own.normal(size=(12, 3))
    rows["features"] += [
        {**cell, "update": 5000, "row": 10 * i, "values": list(v)} for i, v in enumerate(values)
    ]


def as_results(suite: Suite, plan: list[dict[str, object]], rows: Rows) -> Results:
    tables = {name: to_table(name, rows[name]).to_pandas() for name in TABLES}
    columns = ["key", "env", "seed", "variant"]
    return Results(suite=suite, plan=pd.DataFrame(plan, columns=columns), **tables)


def make_results(
    effects: Mapping[str, Mapping[str, float]] = BRIEF, noise: float = 1.0, **suite: object
) -> Results:
    made = make_suite(**suite)  # type: ignore[arg-type]
    return as_results(made, *make_rows(made, effects, noise))


def write_results(folder: Path, suite: Suite, plan: list[dict[str, object]], rows: Rows) -> Results:
    """A results folder as the store leaves it, read back."""
    folder.mkdir(parents=True, exist_ok=True)
    stored = {"suite": suite.model_dump(mode="json", exclude_unset=True), "plan": plan}
    (folder / "suite.json").write_text(json.dumps(stored), encoding="utf-8")
    for name in TABLES:
        pq.write_table(to_table(name, rows[name]), folder / f"{name}.parquet")
    return read_results(folder)


def changed(change: Callable[[Rows], None], seeds: int = 10) -> Results:
    """The brief's results with ``change`` made to their rows."""
    suite = make_suite(seeds=seeds)
    plan, rows = make_rows(suite, BRIEF)
    change(rows)
    return as_results(suite, plan, rows)

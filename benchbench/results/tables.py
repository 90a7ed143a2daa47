"""The results of a suite: five parquet tables, their schemas, and how to read them.

These tables are all that passes from the runner to the report, so anyone's pandas can read what the
report reads. They lie in ``results/<suite>/`` beside ``suite.json``, the suite as it was last run:

- ``cells.parquet``: one row a cell: what was run, on what, how long it took, how it ended;
- ``evaluations.parquet``: one row a cell and evaluation: score, probes, errors of Q;
- ``training.parquet``: one row a cell and training sample: losses, gradient norms on the encoder;
- ``ledger.parquet``: one row a cell, sampled step, loss and module: what became of the gradient;
- ``features.parquet``: one row a cell and probed frame: the encoder's output at the end.

Every table starts with ``key, env, seed, variant``. A missing value is null, never a placeholder.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from benchbench.core.errors import UserError
from benchbench.core.files import from_json, object_of
from benchbench.suite.load import stored_suite
from benchbench.suite.model import Suite

log = logging.getLogger(__name__)

FINAL_SHARE = 0.1
"""The end of the training over which the final score is a mean."""

FORMAT = 1
"""Version of the tables' layout, stored in each file's metadata under ``benchbench_format``."""

_CELL = [
    ("key", pa.string(), "the cell's key"),
    ("env", pa.string(), "D4RL environment id"),
    ("seed", pa.int64(), "the pair's seed"),
    ("variant", pa.string(), "name of the routing"),
]

_COLUMNS: dict[str, list[tuple[str, pa.DataType, str]]] = {
    "cells": [
        *_CELL,
        ("status", pa.string(), "'done' or 'failed'"),
        ("error", pa.string(), "why it failed"),
        ("observation", pa.string(), "'pixels' or 'state'"),
        ("updates", pa.int64(), "gradient steps taken"),
        ("untrained_score", pa.float64(), "score before the first update"),
        ("final_score", pa.float64(), "mean score of the last 5 evaluations after update 0"),
        ("best_score", pa.float64(), "largest score of any evaluation"),
        ("initial_weights", pa.string(), "sha256 of all parameters before the first update"),
        ("final_weights", pa.string(), "sha256 of all parameters after the last update"),
        ("total_seconds", pa.float64(), "wall time of the cell"),
        ("train_seconds", pa.float64(), "of which in updates and sampling"),
        ("evaluate_seconds", pa.float64(), "of which in evaluation episodes"),
        ("diagnose_seconds", pa.float64(), "of which in probes, errors and gradient samples"),
        ("update_ms", pa.float64(), "median wall time of one update, milliseconds"),
        ("oracle_state_r2", pa.float64(), "state probe on the same encoder trained on the state"),
        ("peak_memory_mb", pa.float64(), "most memory of its own (CPU) or allocated (CUDA), MiB"),
        ("device", pa.string(), "'cpu' or 'cuda'"),
        ("device_name", pa.string(), "model of the processor or GPU"),
        ("threads", pa.int64(), "CPU threads of the cell"),
        ("started_at", pa.string(), "ISO 8601, UTC"),
        ("data_key", pa.string(), "key of the data set's identity"),
        ("data_sha256", pa.string(), "hash of the data set's bytes"),
        ("versions", pa.string(), "JSON: python, benchbench, torch, numpy, d4rl, pybullet"),
        ("git_commit", pa.string(), "commit of benchbench's checkout, where there is one"),
        ("git_dirty", pa.bool_(), "whether that checkout had uncommitted changes"),
        ("settings", pa.string(), "JSON: everything the cell's key is a hash of"),
    ],
    "evaluations": [
        *_CELL,
        ("update", pa.int64(), "updates taken so far; 0 is the untrained agent"),
        ("score", pa.float64(), "D4RL-normalised score x 100, mean over the episodes"),
        ("return_mean", pa.float64(), "mean undiscounted return"),
        ("returns", pa.list_(pa.float64()), "undiscounted return of each episode"),
        ("fresh_score", pa.float64(), "score over the final episodes, in the last tenth"),
        ("fresh_returns", pa.list_(pa.float64()), "undiscounted return of each of these"),
        (
            "state_r2",
            pa.float64(),
            "ridge probe: R2 of the simulator state, mean over what no proprio tells",
        ),
        ("return_r2", pa.float64(), "ridge probe: R2 of the discounted return-to-go"),
        ("action_r2", pa.float64(), "ridge probe: R2 of the dataset action, mean over dimensions"),
        ("time_return_r2", pa.float64(), "the same for a probe that sees only the time index"),
        ("srank", pa.float64(), "effective rank of the features (0.99)"),
        ("dormant", pa.float64(), "share of the encoder's units that are dormant (tau 0.025)"),
        ("q_error", pa.float64(), "RMS of Q - Monte-Carlo return of the own policy, over sigma_G"),
        ("q_bias", pa.float64(), "mean of Q - that return, over sigma_G"),
        ("q_spearman", pa.float64(), "rank correlation of Q and that return"),
        ("q_slope", pa.float64(), "slope of that return regressed on Q; 1 is calibrated"),
        ("q_tail", pa.float64(), "bound on what the roll-outs' horizon cuts off, over sigma_G"),
        ("td_error", pa.float64(), "held-out RMS of Q - (r + discount V(s')), over sigma_G"),
        ("q_behaviour_error", pa.float64(), "held-out RMS of Q - behaviour return, over sigma_G"),
        ("q_behaviour_bias", pa.float64(), "held-out mean of Q - behaviour return, over sigma_G"),
        ("q_behaviour_spearman", pa.float64(), "rank correlation of Q and behaviour returns"),
        ("distract_r2", pa.float64(), "ridge probe: R2 of the distractions' own state, mean"),
        ("filtering", pa.float64(), "feature distance for the distractions alone, over all of it"),
        ("unseen_score", pa.float64(), "score under distractions not seen in training"),
        ("unseen_returns", pa.list_(pa.float64()), "undiscounted return of each of those episodes"),
        ("unseen_state_r2", pa.float64(), "state_r2 under those, the probe fitted on seen frames"),
        ("unseen_return_r2", pa.float64(), "the same of return_r2"),
        ("unseen_action_r2", pa.float64(), "the same of action_r2"),
        ("unseen_q_error", pa.float64(), "q_error under those, roll-outs included"),
        ("unseen_q_behaviour_error", pa.float64(), "q_behaviour_error under those"),
    ],
    "training": [
        *_CELL,
        ("update", pa.int64(), "updates taken before this sample"),
        ("critic_loss", pa.float64(), "q_loss + v_loss"),
        ("q_loss", pa.float64(), "MSE(Q1) + MSE(Q2)"),
        ("v_loss", pa.float64(), "MSE(V)"),
        ("vae_loss", pa.float64(), "advantage-weighted reconstruction + KL; drq-bc: the policy's"),
        ("recon_loss", pa.float64(), "reconstruction part, unweighted; drq-bc: cloning part"),
        ("kl_loss", pa.float64(), "KL part, unweighted, before kl_beta"),
        ("actor_loss", pa.float64(), "-Q1 of the latent policy's action; drq-bc: -Q"),
        ("grad_critic", pa.float64(), "norm of the critic loss's gradient on the encoder"),
        ("grad_vae", pa.float64(), "norm of the VAE loss's gradient on the encoder"),
        ("grad_cosine", pa.float64(), "cosine of those two gradients"),
        ("grad_q", pa.float64(), "norm of the Q part of the critic loss's gradient on the encoder"),
        ("grad_v", pa.float64(), "norm of the V part"),
        (
            "moved_critic",
            pa.float64(),
            "cosine of the encoder's last 50 updates' way and -grad_critic",
        ),
        ("moved_vae", pa.float64(), "cosine of that way and -grad_vae"),
    ],
    "ledger": [
        *_CELL,
        ("update", pa.int64(), "updates taken before the watched step"),
        ("loss", pa.string(), "'critic', 'vae' or 'actor'"),
        ("module", pa.string(), "'obs_encoder', 'critic', 'actor_vae' or 'actor'"),
        ("computed", pa.float64(), "norm of the gradient that the loss's backward() added"),
        ("applied", pa.float64(), "norm of what was in .grad at a step() of an optimizer with it"),
        ("dropped", pa.float64(), "norm of what a zero_grad() wiped before any step"),
        ("mismatch", pa.float64(), "relative error of .grad at the step against the routed sum"),
    ],
    "features": [
        *_CELL,
        ("update", pa.int64(), "updates taken when the features were read"),
        ("row", pa.int64(), "row of the data set; the same rows for every variant of a pair"),
        ("values", pa.list_(pa.float32()), "the encoder's output"),
    ],
}

TABLES = tuple(_COLUMNS)
"""The tables' names."""

ADDED: dict[str, frozenset[str]] = {
    "cells": frozenset({"oracle_state_r2"}),
    "evaluations": frozenset(
        {"dormant", "q_error", "q_bias", "q_spearman", "q_slope", "q_tail", "distract_r2"}
        | {"filtering", "unseen_score", "unseen_returns", "unseen_state_r2", "unseen_return_r2"}
        | {"unseen_action_r2", "unseen_q_error", "unseen_q_behaviour_error"}
        | {"fresh_score", "fresh_returns"}
    ),
    "training": frozenset({"grad_q", "grad_v", "moved_critic", "moved_vae"}),
}
"""Columns that came after the first files of this format. A file without one was written before it
was measured, so it reads as null; a file without any other column is damaged."""

SCHEMAS: dict[str, pa.Schema] = {
    table: pa.schema(
        [pa.field(name, kind, metadata={"description": text}) for name, kind, text in columns],
        metadata={"benchbench_format": str(FORMAT)},
    )
    for table, columns in _COLUMNS.items()
}
"""The tables' arrow schemas; each field carries its description."""


@dataclass(frozen=True)
class Results:
    """A suite and its tables, as the report sees them.

    ``plan`` has one row a cell that the suite wants (``key, env, seed, variant``), so a cell that
    is in the plan and not in ``cells`` is missing.
    """

    suite: Suite
    plan: pd.DataFrame
    cells: pd.DataFrame
    evaluations: pd.DataFrame
    training: pd.DataFrame
    ledger: pd.DataFrame
    features: pd.DataFrame
    left_out: dict[str, str] = field(default_factory=dict)
    """Environments of the suite that were not run, as their data were not there, and why."""


def to_table(name: str, rows: list[dict[str, object]]) -> pa.Table:
    """Rows as an arrow table of the named schema.

    Raises ``ValueError`` where a row has a column that the schema does not know.
    """
    schema = SCHEMAS[name]
    for row in rows:
        if unknown := set(row) - set(schema.names):
            raise ValueError(f"the table '{name}' has no column {', '.join(sorted(unknown))}")
    return pa.Table.from_pylist(rows, schema=schema)


def read_table(path: Path, name: str) -> pa.Table:
    """One parquet file, checked against the named schema; :data:`ADDED` columns may be missing.

    Raises :class:`UserError` where it cannot be read or is of another format.
    """
    try:
        table = pq.read_table(path)
        table.validate(full=True)
        names = set(table.schema.names)
        found = (table.schema.metadata or {}).get(b"benchbench_format", b"none").decode()
    except (OSError, UnicodeError, pa.ArrowException) as error:
        raise _damaged(path, f"cannot be read as parquet ({error})") from None
    if found != str(FORMAT):
        newer = found.isdecimal() and int(found) > FORMAT
        raise UserError(
            f"{path}: has results format {found}, this benchbench reads {FORMAT}; "
            f"{'update benchbench, or ' if newer else ''}run the suite again into another "
            "--results folder"
        )
    schema = SCHEMAS[name]
    for column in sorted(ADDED.get(name, frozenset()) - names):
        field = schema.field(column)
        table = table.append_column(field, pa.nulls(table.num_rows, field.type))
    try:
        table = table.select(schema.names).cast(schema)
        refuse_no_json(table)
    except (KeyError, ValueError, pa.ArrowException) as error:
        raise _damaged(path, f"is not the table '{name}' ({error})") from None
    return table


JSON_COLUMNS = ("versions", "settings")


def refuse_no_json(table: pa.Table) -> None:
    """Raise ``ValueError`` where a column of JSON objects holds anything else; nulls may be."""
    for name in set(JSON_COLUMNS) & set(table.column_names):
        for text in table[name].drop_null().unique().to_pylist():
            try:
                object_of(text)
            except ValueError as error:
                raise ValueError(f"its column '{name}' {error}") from None


def _damaged(path: Path, what: str) -> UserError:
    what = " ".join(what.split())
    # A cell is published whole, so it is made again whole.
    whole = path.parent if path.parent.parent.name == "cells" else path
    return UserError(f"{path}: {what}; move {whole} away and run again")


def read_results(folder: Path) -> Results:
    """Everything in ``results/<suite>/``.

    Infinite values count as missing, with a warning, as they have no mean. Raises
    :class:`UserError` where the folder holds no results or a damaged file.
    """
    suite, plan = read_suite(folder)
    tables = {}
    for name in TABLES:
        path = folder / f"{name}.parquet"
        table = read_table(path, name) if path.exists() else SCHEMAS[name].empty_table()
        tables[name] = table.to_pandas()
        if name == "cells" and tables[name].duplicated(_NAMED).any():
            raise _damaged(path, "has a cell twice")
        if name in ("cells", "evaluations"):
            tables[name] = _without_infinities(tables[name], path)
    return Results(suite=suite, plan=plan, left_out=read_left_out(folder), **tables)


def _without_infinities(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    numbers = frame.select_dtypes("float")
    infinite = numbers.abs() == math.inf
    if not infinite.to_numpy().any():
        return frame
    names = ", ".join(str(name) for name in numbers if infinite[name].any())
    count = int(infinite.to_numpy().sum())
    told = (
        "1 value is infinite and counts" if count == 1 else f"{count} values are infinite and count"
    )
    log.warning("%s: %s as not measured (%s)", path, told, names)
    return frame.assign(**numbers.mask(infinite))


def read_suite(folder: Path) -> tuple[Suite, pd.DataFrame]:
    """The suite of ``results/<suite>/`` as it was last run, and its plan.

    Raises :class:`UserError` where the folder holds no results or a damaged file.
    """
    suite_file = folder / "suite.json"
    try:
        stored = from_json(suite_file.read_text(encoding="utf-8"))
        suite = stored_suite(stored["suite"], suite_file)
        plan = _plan(stored["plan"])
    except FileNotFoundError:
        raise UserError(
            f"{folder}: holds no results; make some with 'benchbench run SUITE'"
        ) from None
    except OSError as error:
        raise UserError(
            f"{suite_file}: cannot be read ({error.strerror}); check the path and its rights"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{suite_file}: is damaged ({reason}); run the suite again") from None
    return suite, plan


def _plan(rows: object) -> pd.DataFrame:
    """The planned cells, a row each. Raises ``ValueError`` where they are no such thing."""
    if not isinstance(rows, list):
        raise ValueError("its plan is no list")
    for row in rows:
        if not isinstance(row, dict):
            raise ValueError("its plan has a row that is none")
        for name, kind, _ in _CELL:
            whole = kind == pa.int64()
            value = row.get(name)
            if not isinstance(value, int if whole else str) or isinstance(value, bool):
                raise ValueError(f"its plan has a '{name}' that is {value!r}"[:200])
            if whole and not -(2**63) <= int(value) < 2**63:
                raise ValueError(f"its plan has a '{name}' beyond 64 bits")
    plan = pd.DataFrame(rows, columns=[name for name, *_ in _CELL])
    if plan.duplicated(_NAMED).any():
        raise ValueError("its plan has a cell twice")
    return plan


_NAMED = ["env", "seed", "variant"]
"""What no two cells have in common."""


def read_left_out(folder: Path) -> dict[str, str]:
    """Why environments of ``results/<suite>/`` were left out; empty where nothing was."""
    try:
        stored = from_json((folder / "suite.json").read_text(encoding="utf-8"))
        return {str(env): str(why) for env, why in stored["left_out"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}  # of an older run, or none yet

"""A comparison as text: for the terminal, as Markdown for a page, and as JSON for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from benchbench.gate.compare import Decision, compare_keys, torch_of
from benchbench.gate.snapshot import Snapshot

SIGNS = {"worse": "✗", "differs": "✗", "missing": "✗", "definition changed": "≠",
         "undecided": "?", "new": "+", "better": "✓", "no change": "="}  # fmt: skip
"""Each sign and its mark, the most urgent first."""

HEADER = ("", "sign", "env", "variant", "series", "pairs", "baseline", "candidate", "difference",
          "interval", "margin", "note")  # fmt: skip


def terminal_text(table: pd.DataFrame, keys: pd.DataFrame, decision: Decision) -> str:
    """The key's differences, the table, the most urgent rows first, and the decision."""
    rows = [HEADER, *_rows(table)]
    used = [any(row[i] for row in rows[1:]) or i == 1 for i in range(len(HEADER))]
    rows = [tuple(cell for cell, keep in zip(row, used, strict=True) if keep) for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip()
             for row in rows]  # fmt: skip
    return "\n".join([*_key_lines(keys), *lines, "", headline(decision)])


def markdown_text(
    table: pd.DataFrame, keys: pd.DataFrame, decision: Decision, title: str, origins: Sequence[str]
) -> str:
    """The same as a page; ``origins`` say what was compared with what.

    Unchanged series are folded away.
    """
    lines = [f"## {title}: {decision.word}", "", headline(decision), ""]
    lines += [f"- {word}: {_plain(origin)}" for word, origin in
              zip(("baseline", "candidate"), origins, strict=True)]  # fmt: skip
    lines += [f"- {_plain(line)}" for line in _key_lines(keys)]
    calm = table["sign"] == "no change"
    if not table[~calm].empty:
        lines += ["", *_markdown_table(table[~calm])]
    if calm.any():
        lines += ["", f"<details><summary>{int(calm.sum())} series without change</summary>", "",
                  *_markdown_table(table[calm]), "", "</details>"]  # fmt: skip
    return "\n".join(lines) + "\n"


def json_text(table: pd.DataFrame, keys: pd.DataFrame, decision: Decision) -> str:
    """Decision, keys and rows as JSON; NaN and infinity are null."""
    return json.dumps(
        {
            "decision": decision.word,
            "exit_code": decision.exit_code,
            "headline": decision.headline,
            "warnings": list(decision.warnings),
            "key": json.loads(keys.to_json(orient="records")),
            "series": json.loads(table.to_json(orient="records")),
        },
        indent=1,
        ensure_ascii=False,
    )


def headline(decision: Decision) -> str:
    """The decision in one line."""
    warned = f" (to look at: {', '.join(decision.warnings)})" if decision.warnings else ""
    return f"{decision.word}: {decision.headline}{warned}"


def baseline_text(snapshot: Snapshot) -> str:
    """A baseline's origin, key and size, for the terminal."""
    key = compare_keys(snapshot, snapshot)
    lines = [origin(snapshot)]
    lines += [f"  {part}: {value}" for part, value in
              zip(key["part"], key["baseline"], strict=True)]  # fmt: skip
    if snapshot.suite.tolerance:
        lines.append(
            f"  a canary: {len(snapshot.numbers)} numbers, each within {snapshot.suite.tolerance:g}"
        )
    return "\n".join(lines)


def history_text(table: pd.DataFrame, steps: pd.DataFrame) -> str:
    """For each environment and variant a row a night, a column a series; then the steps."""
    lines = []
    for (env, variant), rows in table.groupby(["env", "variant"], sort=False):
        wide = rows.pivot(index=["started_at", "commit"], columns="series", values="value")
        wide = wide[list(dict.fromkeys(rows["series"]))].reset_index()
        wide.columns.name = None
        lines += [f"{env} {variant}", wide.to_string(index=False, na_rep="", float_format="%.4g")]
    lines.append("")
    for _, row in steps.iterrows():
        change = _change(row["difference"], row["scale"] == "ln ratio")
        lines.append(
            f"step: {row['env']} {row['variant']} {row['series']} {row['sign']} by {change} from "
            f"{row['started_at']} (commit {row['commit']}), p {row['p']:.2g}"
        )
    if steps.empty:
        lines.append(f"no step found in {table['started_at'].nunique()} nights")
    return "\n".join(lines)


def origin(snapshot: Snapshot) -> str:
    """Where a snapshot is from: commits, devices, torch, day, cells."""
    done = snapshot.cells[snapshot.cells["status"] == "done"]
    torch = sorted(set(torch_of(done["versions"])))
    commits = sorted({str(commit)[:12] for commit in done["git_commit"].dropna()})
    dirty = " with uncommitted changes" if (done["git_dirty"] == True).any() else ""  # noqa: E712
    day = str(done["started_at"].min())[:10] if len(done) else "never run"
    return (
        f"{snapshot.source}: {len(done)} of {len(snapshot.cells)} cells, "
        f"commit {', '.join(commits) or 'unknown'}{dirty}, {day}, "
        f"{', '.join(sorted(set(done['device_name'].dropna()))) or 'no device'}, "
        f"torch {', '.join(torch) or 'unknown'}"
    )


def version_origin(identity: dict[str, Any]) -> str:
    """Where one of two versions timed side by side is from."""
    versions = identity["versions"]
    dirty = " with uncommitted changes" if identity["git_dirty"] else ""
    return (
        f"{identity['package']}: benchbench {versions['benchbench']}, "
        f"commit {(identity['git_commit'] or 'unknown')[:12]}{dirty}, "
        f"{identity['device_name']}, torch {versions['torch']}"
    )


def _rows(table: pd.DataFrame) -> list[tuple[str, ...]]:
    order = table["sign"].map(list(SIGNS).index)
    return [_row(row) for _, row in table.iloc[order.argsort(kind="stable")].iterrows()]


def _row(row: pd.Series) -> tuple[str, ...]:
    ratio = row["scale"] == "ln ratio"
    ends = [_change(row[end], ratio) for end in ("lo", "hi")]
    margin = "" if pd.isna(row["margin"]) else _change(row["margin"], ratio).lstrip("+")
    return (
        SIGNS[row["sign"]],
        row["sign"],
        row["env"],
        row["variant"],
        row["series"],
        "" if pd.isna(row["n_pairs"]) else str(int(row["n_pairs"])),
        _number(row["baseline"]),
        _number(row["candidate"]),
        _change(row["difference"], ratio),
        f"{ends[0]} to {ends[1]}" if all(ends) else "",
        margin,
        row["note"],
    )


def _number(value: float) -> str:
    return "" if pd.isna(value) else f"{value:.4g}"


def _change(value: float, ratio: bool) -> str:
    if pd.isna(value):
        return ""
    if ratio:
        # The interval of two very different pairs may be too wide for a finite exponential.
        return f"{100 * math.expm1(min(value, 20.0)):+.1f} %"
    return f"{value:+.3g}"


def _key_lines(keys: pd.DataFrame) -> list[str]:
    return [
        f"{row['part']}: the baseline has {row['baseline']}, the candidate {row['candidate']}"
        for _, row in keys[~keys["equal"]].fillna("nothing").iterrows()
    ]


def _markdown_table(table: pd.DataFrame) -> list[str]:
    rows = [HEADER, tuple("---" for _ in HEADER), *_rows(table)]
    return ["| " + " | ".join(_plain(cell) for cell in row) + " |" for row in rows]


def _plain(text: str) -> str:
    """Escape what Markdown or HTML would interpret: names and errors are data."""
    for char in "\\`*_[]<>|":
        text = text.replace(char, f"&#{ord(char)};")
    return " ".join(text.split())

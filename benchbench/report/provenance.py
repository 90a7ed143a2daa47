"""What the results came from, and what of the plan is not in them."""

from __future__ import annotations

import json

import pandas as pd

from benchbench.report.gallery import Drawn
from benchbench.report.text import escape, listed, markdown_table
from benchbench.results import Results


def unfinished(results: Results, claims: pd.DataFrame, drawn: Drawn) -> str:
    """Failed and missing cells by name, aspects that were not measured, figures without data."""
    cells = results.cells
    missing = results.plan[~results.plan["key"].isin(cells["key"])]
    failed = cells[cells["status"] == "failed"]
    done = int((cells["status"] == "done").sum())
    lines = [f"{done} of {len(results.plan)} cells are done."]
    lines += [
        f"- failed: {label(cell)}: {escape(str(cell['error']))}" for _, cell in failed.iterrows()
    ]
    lines += [f"- missing: {label(cell)}" for _, cell in missing.iterrows()]
    absent = claims.loc[claims["verdict"] == "not measured", "measure"]
    lines += [f"- not measured: {measure}" for measure in absent]
    lines += [f"- no data for the figure: {title}" for title in drawn.without_data]
    return "\n".join([lines[0], "", *lines[1:]])


def label(cell: pd.Series) -> str:
    """How people name a cell."""
    return f"{cell['env']} seed {cell['seed']} {cell['variant']}"


def provenance(results: Results) -> str:
    """Versions, devices, data, commits and wall times of the finished cells."""
    done = results.cells[results.cells["status"] == "done"]
    if done.empty:
        return "No cell has finished."
    return "\n".join([_made_with(done), _data(done), _times(done)])


def _made_with(done: pd.DataFrame) -> str:
    versions: dict[str, set[str]] = {}
    for text in done["versions"].dropna().unique():
        for name, version in json.loads(text).items():
            versions.setdefault(name, set()).add(str(version))
    packages = [f"{name} {listed(sorted(found))}" for name, found in sorted(versions.items())]
    commits = sorted(done["git_commit"].dropna().unique())
    dirty = int(done["git_dirty"].fillna(False).astype(bool).sum())
    devices = done.groupby(["device", "device_name"], dropna=False)["threads"]
    where = [
        f"{device} ({escape(str(name))}), {listed(sorted({str(t) for t in threads.dropna()}))} "
        f"thread(s), {len(threads)} cells"
        for (device, name), threads in devices
    ]
    return "\n".join(
        [
            f"- versions: {escape(', '.join(packages)) or 'not recorded'}",
            f"- commit: {listed(commits) if commits else 'not recorded'}"
            + (f"; {dirty} cells ran with uncommitted changes" if dirty else ""),
            f"- devices: {'; '.join(where)}",
        ]
    )


def _data(done: pd.DataFrame) -> str:
    sets = done[["env", "data_key", "data_sha256"]].drop_duplicates().sort_values("env")
    rows = [[str(value) for value in row] for row in sets.itertuples(index=False)]
    return "\n" + markdown_table(["environment", "data set", "sha256"], rows)


def _times(done: pd.DataFrame) -> str:
    parts = ["train", "evaluate", "diagnose"]
    total = float(done["total_seconds"].sum())
    shares = [f"{part} {done[f'{part}_seconds'].sum() / total:.0%}" for part in parts if total > 0]
    medians = done.groupby("variant", sort=False)["update_ms"].median().dropna()
    updates = [f"{variant} {value:.3g} ms" for variant, value in medians.items()]
    lines = [
        f"- wall time: {total / 3600:.2f} h over {len(done)} cells; {', '.join(shares)}",
        f"- median update: {', '.join(updates) or 'not recorded'}",
    ]
    return "\n".join(lines)

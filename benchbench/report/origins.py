"""What the results came from, and what of the plan is not in them."""

from __future__ import annotations

import json

import pandas as pd

from benchbench.analysis.brief import ALL
from benchbench.report.document import (
    Block,
    Bullets,
    Code,
    Line,
    Paragraph,
    Span,
    Table,
    cell,
    foreign,
    marked,
    quoting,
)
from benchbench.report.gallery import Drawn
from benchbench.report.language import Words
from benchbench.results.tables import Results
from benchbench.suite.variants import OTHER_CODE


def unfinished(results: Results, claims: pd.DataFrame, drawn: Drawn, words: Words) -> list[Block]:
    """Failed and missing cells by name, aspects that were not measured, figures without data."""
    cells = results.cells
    missing = results.plan[~results.plan["key"].isin(cells["key"])]
    failed = cells[cells["status"] == "failed"]
    done = int((cells["status"] == "done").sum())
    colon = words(": ")
    lines: list[Line] = [
        (
            *quoting(words("failed: {cell}", cell="\0") + colon, label(row)),
            *foreign(str(row["error"])),
        )
        for _, row in failed.iterrows()
    ]
    for (env, variant), cells_of in missing.groupby(["env", "variant"], sort=False):
        planned = results.plan[(results.plan[["env", "variant"]] == [env, variant]).all(axis=1)]
        if len(cells_of) == len(planned) > 1:
            said = words("missing: {env} {variant}, all {n} seeds", env="\0", variant=variant,
                         n=len(planned))  # fmt: skip
            lines.append(quoting(said, str(env)))
        else:
            lines += [
                quoting(words("missing: {cell}", cell="\0"), label(row))
                for _, row in cells_of.iterrows()
            ]
    lines += [
        (*quoting(words("left out: {env}", env="\0") + colon, env), *foreign(why))
        for env, why in results.left_out.items()
    ]
    scored = cells[cells["status"] == "done"].groupby("env", sort=False)["final_score"].count()
    lines += [
        quoting(words("not scored: {env}, as there is no environment to play it in", env="\0"), env)
        for env in scored.index[~scored.astype(bool)]
    ]
    here = claims[(claims["verdict"] == "not measured") & (claims["env"] == ALL)]
    absent = dict.fromkeys(here["measure"])
    lines += [
        marked(words("not measured: {measure}", measure=words.measure(name))) for name in absent
    ]
    lines += [
        marked(words("no data for the figure: {title}", title=words(title)))
        for title in drawn.without_data
        if not of_other_code(results)
    ]
    count = words("{done} of {planned} cells are done.", done=done, planned=len(results.plan))
    if not lines and done == len(results.plan):
        return []
    return [Paragraph(marked(count)), *([Bullets(tuple(lines))] if lines else [])]


def of_other_code(results: Results) -> bool:
    """Whether the scores are not of benchbench's own runs: see ``benchbench judge``."""
    return all(getattr(env.data, "path", "") == OTHER_CODE for env in results.suite.envs)


def other_agents(results: Results, words: Words) -> list[Block]:
    """Which agents the cells trained, where it was not LAPO alone, and what is called VAE then."""
    settings = results.cells["settings"].dropna().unique()
    agents = sorted(
        {json.loads(text).get("agent", {}).get("algorithm", "lapo") for text in settings}
    )
    if agents in ([], ["lapo"]):
        return []
    told = words(
        "Agent: {names}. Where this report speaks of the VAE, it means the loss in the VAE's "
        "place: the one that imitates the data's actions.",
        names=words.listed([f"`{name}`" for name in agents]),
    )
    return [Paragraph(marked(told))]


def label(row: pd.Series) -> str:
    """How people name a cell."""
    return f"{row['env']} seed {row['seed']} {row['variant']}"


def provenance(results: Results, words: Words) -> list[Block]:
    """Versions, devices, data and commits of the finished cells."""
    done = results.cells[results.cells["status"] == "done"]
    if done.empty:
        return [Paragraph(marked(words("No cell has finished.")))]
    ids = {stratum.label: stratum.name for stratum in results.suite.strata}  # conditions share
    sets = done[["env", "data_key", "data_sha256"]]
    sets = sets.assign(env=sets["env"].map(ids)).drop_duplicates().sort_values("env", kind="stable")
    rows = tuple(
        tuple(cell(foreign(str(value))) for value in row) for row in sets.itertuples(index=False)
    )
    header = tuple(words(name) for name in ("environment", "data set", "sha256"))
    hours = float(done["total_seconds"].sum()) / 3600
    count = words("{done} of {planned} cells are done.", done=len(done), planned=len(results.plan))
    total = words("wall time: {hours} h over {n} cells", hours=f"{hours:.2f}", n=len(done))
    return [
        Bullets((marked(count), *_made_with(done, words), marked(total))),
        Table(words("Data"), header, rows),
    ]


def _made_with(done: pd.DataFrame, words: Words) -> list[Line]:
    versions: dict[str, set[str]] = {}
    for text in done["versions"].dropna().unique():
        for name, version in json.loads(text).items():
            versions.setdefault(name, set()).add(str(version))
    packages = [f"{name} {words.listed(sorted(found))}" for name, found in sorted(versions.items())]
    commits = sorted(done["git_commit"].dropna().unique())
    dirty = int(done["git_dirty"].fillna(False).astype(bool).sum())
    devices = done.groupby(["device", "device_name"], dropna=False)["threads"]
    where = [
        words("{device} ({name}), {threads} thread(s), {n} cells", device=device, name=name,
              threads=words.listed(sorted({f"{t:.0f}" for t in threads.dropna()})), n=len(threads))
        for (device, name), threads in devices
    ]  # fmt: skip
    unknown, colon = words("not recorded"), words(": ")
    lines = {
        "versions": ", ".join(packages) or unknown,
        "commit": words.listed(commits) if commits else unknown,
        "devices": "; ".join(where),
    }
    if dirty:
        lines["commit"] += words("; {n} cells ran with uncommitted changes", n=dirty)
    return [(*marked(words(name) + colon), *foreign(text)) for name, text in lines.items()]


FILES = (
    ("suite.json", "the suite, every setting"),
    ("claims.csv", "the verdicts, as a table"),
    ("pairs.csv", "every pair's values"),
    ("described.csv", "the other measures"),
    ("cells.parquet", "one row a cell"),
    ("evaluations.parquet", "one row an evaluation: scores, probes, errors"),
    ("training.parquet", "losses and gradient norms"),
    ("ledger.parquet", "what became of each gradient"),
)
"""Files beside the page, and what they hold."""


def files_and_citation(results: Results, words: Words) -> list[Block]:
    """Links to the files beside the page, and a BibTeX entry."""
    items = [(Span(name, "link", name), *marked(words(": ") + words(what))) for name, what in FILES]
    where = words("Figures are in `figures/`, also as SVG and, with `--format pdf`, as PDF.")
    return [Bullets((*items, marked(where))), Code(citation(results))]


def citation(results: Results) -> str:
    """A BibTeX entry that names the version, the suite and the commit."""
    done = results.cells[results.cells["status"] == "done"]
    versions = (json.loads(text).get("benchbench") for text in done["versions"].dropna())
    found = sorted({str(version) for version in versions if version})
    years = sorted(done["started_at"].dropna().str[:4].unique())
    commits = sorted(done["git_commit"].dropna().unique())
    note = f"Suite {results.suite.name}, {len(done)} runs"
    note += f", commit {', '.join(commit[:12] for commit in commits)}" if commits else ""
    entry = {
        "title": "{benchbench}: which loss should train the pixel encoder of an offline RL agent?",
        "author": "{benchbench developers}",
        **({"year": years[-1]} if years else {}),
        **({"version": ", ".join(found)} if found else {}),
        "note": note,
    }
    lines = ",\n".join(f"  {name} = {{{value}}}" for name, value in entry.items())
    safe = lines.replace("_", "\\_")
    return f"@software{{benchbench,\n{safe}\n}}"

"""What each task looks like and what its data are: pictures and cards beside the results.

``benchbench run`` and ``benchbench report`` put them there where the data set is at hand
(:mod:`benchbench.cell.task_cards`); the report only reads them.
"""

from __future__ import annotations

from pathlib import Path

from benchbench.core.text import number
from benchbench.report.document import Block, Photo, Table, cell, foreign, marked
from benchbench.report.language import Words
from benchbench.results.cards import films, laid_picture, read_cards
from benchbench.results.tables import Results


def tasks_section(folder: Path, results: Results, words: Words) -> list[Block]:
    """Frames of every task and film of its policies; the data sets in a table."""
    cards = read_cards(folder)
    planned = set(results.plan["env"])
    ids = dict.fromkeys(o.env.id for o in results.suite.strata if o.label in planned)
    order = {env: place for place, env in enumerate(ids)}
    known = sorted((c for c in cards if c.env in order), key=lambda c: order[c.env])
    blocks: list[Block] = []
    for card in known:
        if (folder / card.picture).is_file():
            caption = words("Frames of one episode of its data, from left to right.")
            blocks.append(Photo(card.picture, card.env, marked(caption)))
        for stratum in results.suite.strata:
            path = laid_picture(card.key, stratum.label)
            if stratum.env.id == card.env and (folder / path).is_file():
                caption = words("The same frames with the distractions laid over them.")
                blocks.append(Photo(path, stratum.label, marked(caption)))
    for path, env, seed, variants in films(folder):
        if env in planned:
            caption = words("{variants} from the same start, seed {seed}.",
                            variants=words.listed([f"`{v}`" for v in variants]),
                            seed=seed)  # fmt: skip
            blocks.append(Photo(path, env, marked(caption)))
    if known:
        rows = tuple(
            (cell(foreign(c.env)), cell(foreign(c.source)), cell(f"{c.rows:,}", float(c.rows)),
             cell(f"{c.episodes:,}", float(c.episodes)), cell(f"{c.actions}", float(c.actions)),
             cell(f"{c.size}×{c.size}", float(c.size)),
             cell(number(c.return_mean), c.return_mean))
            for c in known
        )  # fmt: skip
        header = ("environment", "data", "rows", "episodes", "action columns", "frame",
                  "return of an episode")  # fmt: skip
        blocks.append(Table(words("The tasks"), tuple(words(n) for n in header), rows))
    return blocks

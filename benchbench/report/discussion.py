"""A study's discussion: prose whose numbers are looked up in the tables when the report is built.

A results folder may hold ``DISCUSSION.md.j2``. In it a number is an expression, such as
``{{ here.claim("score", env="bullet-hopper-v0") }}``, never typed; the report writes
``DISCUSSION.md`` from it. ``here`` is the study of the folder, ``study("../other")`` another one.
An expression that names no cell of a table ends the report with the line it stands in.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from math import nan
from pathlib import Path

import pandas as pd
from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import SandboxedEnvironment

from benchbench.analysis.brief import ALL
from benchbench.analysis.chain import chain, correlations
from benchbench.analysis.claims import Family, families, judge, learned
from benchbench.analysis.conditions import dependence
from benchbench.analysis.pairing import Study, pair
from benchbench.analysis.secondary_measures import describe, final_scores
from benchbench.core.errors import UserError
from benchbench.core.files import write_text
from benchbench.core.text import difference, number, percent
from benchbench.results.tables import read_results
from benchbench.suite.model import Suite

TEMPLATE = "DISCUSSION.md.j2"


class Tables:
    """One study's numbers, each table made when it is first asked for, once.

    The methods give them formatted as the study's report formats them.
    """

    def __init__(self, study: Study) -> None:
        self._study = study

    @cached_property
    def all_claims(self) -> pd.DataFrame:
        """See :func:`judge`."""
        return judge(self._study)

    @cached_property
    def all_described(self) -> pd.DataFrame:
        """See :func:`describe`."""
        return describe(self._study)

    @cached_property
    def all_learned(self) -> pd.DataFrame:
        """See :func:`learned`."""
        return learned(self._study)

    @cached_property
    def _scores(self) -> pd.DataFrame:
        return final_scores(self._study)

    @property
    def suite(self) -> Suite:
        """The study's settings."""
        return self._study.results.suite

    def claim(
        self,
        claim: str,
        env: str = ALL,
        column: str = "difference",
        of: str = "after",
        against: str = "before",
    ) -> str:
        """A claim's difference with its interval, or another column of ``claims.csv``.

        ``size`` is the difference alone.
        """
        row = _row(self.all_claims, claim=claim, env=env, of=of, against=against)
        return _shown(row, column)

    def family(self, against: str = "before") -> Family:
        """The tests, claims × environments, that hold together."""
        return families(self._study, against)[1]

    def described(self, measure: str, column: str = "difference") -> str:
        """A difference, or another column, of the measure of ``described.csv`` that begins so."""
        rows = self.all_described[self.all_described["measure"].str.startswith(measure)]
        return _shown(_one(rows, f"measure {measure!r}"), column)

    def score(self, variant: str, env: str) -> str:
        """A variant's mean final score in an environment."""
        return number(float(_row(self._scores, variant=variant, env=env)["mean"]), "points")

    def learned(self, variant: str, env: str, column: str = "difference") -> str:
        """A variant's gain over its untrained self, or its share of ``failed`` seeds."""
        row = _row(self.all_learned, variant=variant, env=env)
        if column == "failed":
            return percent(row["failed"])
        return difference(row["difference"], row["lo"], row["hi"], "points", "difference")

    def link(self, cause: str, effect: str, of: str = "after", against: str = "before") -> str:
        """How two claims' differences go together over pairs, see :mod:`~.analysis.chain`."""
        contrasts = {(p.contrast.of, p.contrast.against): p for p in self._study.pairings}
        frame = correlations(chain(contrasts[of, against]))
        row = _row(frame, cause=cause, effect=effect)
        return f"ρ {number(row['rho'], 'R²')}, p {number(row['p'])}"

    def depends(self, claim: str, of: str = "after", against: str = "before") -> str:
        """The adjusted p of whether a claim's difference depends on the condition."""
        row = _row(dependence(self._study), claim=claim, of=of, against=against)
        return f"p {number(row['p_holm'])}"

    def only_score(self, env: str) -> str:
        """The mean final score of a study with one variant."""
        return self.score(self._only(), env)

    def only_gain(self, env: str) -> str:
        """The gain of a study with one variant over its untrained self."""
        return self.learned(self._only(), env)

    def _only(self) -> str:
        return _one(self._scores[["variant"]].drop_duplicates(), "its only variant")["variant"]

    def extremes(self, variants: list[str], env: str) -> tuple[str, str]:
        """The lowest and the highest mean final score of some variants."""
        chosen = self._scores["variant"].isin(variants) & (self._scores["env"] == env)
        if chosen.sum() != len(variants):
            raise LookupError(f"not all of {', '.join(variants)} have a score in {env}")
        found = self._scores.loc[chosen, "mean"]
        return number(float(found.min()), "points"), number(float(found.max()), "points")


def write_discussion(folder: Path, here: Tables) -> None:
    """Write ``DISCUSSION.md`` from the folder's template; nothing where there is none.

    Raises :class:`UserError` for an expression that cannot be answered, with its line.
    """
    template = folder / TEMPLATE
    if not template.is_file():
        return

    def study(name: str) -> Tables:
        return Tables(pair(read_results(folder / name)))

    text = render(template.read_text(encoding="utf-8"), here, study, where=str(template))
    target = template.with_suffix("")
    write_text(target, text)


def render(text: str, here: Tables, study: Callable[[str], Tables], where: str) -> str:
    """The template's text with its expressions answered; ``study(name)`` finds other tables."""
    environment = SandboxedEnvironment(
        undefined=StrictUndefined, keep_trailing_newline=True, trim_blocks=True
    )
    try:
        template = environment.from_string(text)
        return template.render(here=here, study=study)
    except (TemplateError, LookupError, AttributeError, TypeError, ValueError) as error:
        raise UserError(f"{where}{_line_of(error)}: {error}") from error


def _line_of(error: BaseException) -> str:
    line = getattr(error, "lineno", None)
    frame = error.__traceback__
    while frame is not None:
        if frame.tb_frame.f_code.co_filename == "<template>":
            line = frame.tb_lineno
        frame = frame.tb_next
    return "" if line is None else f":{line}"


def _row(frame: pd.DataFrame, **keys: str) -> pd.Series:
    chosen = pd.Series(True, index=frame.index)
    for name, value in keys.items():
        chosen &= frame[name] == value
    return _one(frame[chosen], ", ".join(f"{name} {value!r}" for name, value in keys.items()))


def _one(rows: pd.DataFrame, asked: str) -> pd.Series:
    if len(rows) != 1:
        raise LookupError(f"{len(rows)} rows for {asked}, where one is meant")
    return rows.iloc[0]


def _shown(row: pd.Series, column: str) -> str:
    """A cell as the report prints it."""
    unit = row["unit"]
    if column == "difference":
        return difference(row["difference"], row["lo"], row["hi"], unit, row["scale"])
    if column == "size":
        return difference(row["difference"], nan, nan, unit, row["scale"])
    if column in ("against", "of"):
        return number(row[f"{column}_mean"], unit)
    if column in ("n_pairs", "pairs_for_delta", "seeds"):
        return f"{int(row[column]):,}"
    value = row[column]
    return value if isinstance(value, str) else f"{value:.3g}"

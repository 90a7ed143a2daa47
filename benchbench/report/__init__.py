"""From a results folder to a report: statistics, claims, figures, page.

The report knows the parquet tables and the suite, never the runner. :func:`write_report` is the
way in; :func:`judge`, :func:`describe` and :func:`learned` give the same numbers as frames.
"""

from benchbench.report.claims import judge, learned
from benchbench.report.described import describe
from benchbench.report.page import write_report

__all__ = ["describe", "judge", "learned", "write_report"]

"""From a results folder to a report: statistics, claims, figures, pages.

The report knows the parquet tables and the suite, never the runner. :func:`write_report` is the
way in; :func:`judge`, :func:`describe` and :func:`pairs`, each of ``pair(results)``, and
:func:`learned` give the same numbers as frames.
"""

from benchbench.analysis.claims import judge, learned
from benchbench.analysis.pairing import pair
from benchbench.analysis.secondary_measures import describe, pairs
from benchbench.report.page import report_files, write_report

__all__ = ["describe", "judge", "learned", "pair", "pairs", "report_files", "write_report"]

"""Reports without the drawing: all figures are saved by the same lines, and it takes seconds."""

import contextlib
from unittest import mock

from benchbench.report import gallery


@contextlib.contextmanager
def few_figures(*names):
    """Reports draw the figures of these names only; without names, their first."""
    made = gallery.made

    def few(*arguments):
        for one in made(*arguments):
            if not names or one[0].name in names:
                yield one
            if not names:
                return

    with mock.patch.object(gallery, "made", few):
        yield

"""Reports without the drawing, which takes seconds: all figures are saved by the same lines."""

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


@contextlib.contextmanager
def undrawn():
    """Reports have all their figures, but the files hold nothing."""

    def save(figure, folder, name, pdf=False):
        for kind in ("png", "svg", "pdf")[: 3 if pdf else 2]:
            (folder / f"{name}.{kind}").write_bytes(b"<svg/>")

    with mock.patch.object(gallery, "save", save):
        yield

"""Puts the suites and a readme for package pages into the wheel; the rest is pyproject.toml's.

The folder ``suites/`` is their one source. A wheel has a copy in ``benchbench/shipped_suites``,
read by :mod:`benchbench.suite.shipped`; a checkout and an editable installation have none and read
the folder itself.

A package page shows README.md alone: a relative link leads nowhere there and a relative picture is
broken. It gets the text without such pictures, and with such links as plain text.
"""

import re
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
SUITES = ROOT / "suites"

PICTURE = re.compile(r"^!\[[^\]]*\]\((?!https?://)[^)]*\)\n+", re.MULTILINE)
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!https?://|#)[^)]*\)")
FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)


def page(readme: str) -> str:
    """The readme for a package page; what stands in fenced code stays as it is."""
    parts = FENCE.split(readme)
    parts[::2] = [LINK.sub(r"\1", PICTURE.sub("", part)) for part in parts[::2]]
    return "".join(parts)


class BuildWithSuites(build_py):
    """Builds the package and copies the suites beside its modules."""

    def run(self) -> None:
        """Build, then copy."""
        super().run()
        if self.editable_mode:
            return
        for source, target in self._suites():
            self.mkpath(str(target.parent))
            self.copy_file(str(source), str(target))

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """All files that are built, the suites among them."""
        suites = [] if self.editable_mode else [str(target) for _, target in self._suites()]
        return [*super().get_outputs(include_bytecode), *suites]

    def _suites(self) -> list[tuple[Path, Path]]:
        folder = Path(self.build_lib) / "benchbench" / "shipped_suites"
        found = [*SUITES.glob("*.yaml"), *SUITES.glob("*.json")]
        return [(path, folder / path.name) for path in sorted(found)]


setup(
    cmdclass={"build_py": BuildWithSuites},
    long_description=page((ROOT / "README.md").read_text(encoding="utf-8")),
    long_description_content_type="text/markdown",
)

"""setuptools' build backend, and what a wheel and a source archive of benchbench hold besides.

The folder ``suites/`` is the one source of the suites. A wheel has a copy in
``benchbench/shipped_suites``, read by :mod:`benchbench.suite.file`; a checkout and an editable
installation have none and read the folder itself.

A package page shows README.md alone: a relative link leads nowhere there and a relative picture is
broken. It gets the text without such pictures, and with such links as plain text.

pyproject.toml names this file as the build backend and its two classes under
``tool.setuptools.cmdclass``.
"""

import re
from pathlib import Path

from setuptools.build_meta import *  # noqa: F403 - the backend's hooks are setuptools' own
from setuptools.command.build_py import build_py
from setuptools.command.egg_info import egg_info

HERE = Path(__file__).parent.name
PICTURE = re.compile(r"^!\[[^\]]*\]\((?!https?://)[^)]*\)\n+", re.MULTILINE)
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!https?://|#)[^)]*\)")
FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)


def page(readme: str) -> str:
    """The readme for a package page; what stands in fenced code stays as it is."""
    parts = FENCE.split(readme)
    parts[::2] = [LINK.sub(r"\1", PICTURE.sub("", part)) for part in parts[::2]]
    return "".join(parts)


class Metadata(egg_info):
    """The package's metadata, its readme fit for a package page."""

    def finalize_options(self) -> None:
        """Finish setuptools' own options, then the readme."""
        super().finalize_options()
        told = self.distribution.metadata
        told.long_description = page(told.long_description)


class Package(build_py):
    """The package with the suites beside its modules; a source archive gets the tests too."""

    def run(self) -> None:
        """Build, then copy the suites, except into an editable installation."""
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

    def get_source_files(self) -> list[str]:
        """What a source archive holds: enough to build the package and to test it."""
        found = [path for room in ("suites", "tests", HERE) for path in Path(room).rglob("*.*")]
        found += Path("results").glob("*.md")
        kept = [path for path in found if path.is_file() and "__pycache__" not in path.parts]
        return [*super().get_source_files(), *map(str, sorted(kept))]

    def _suites(self) -> list[tuple[Path, Path]]:
        folder = Path(self.build_lib) / "benchbench" / "shipped_suites"
        found = [*Path("suites").glob("*.yaml"), *Path("suites").glob("*.json")]
        return [(path, folder / path.name) for path in sorted(found)]

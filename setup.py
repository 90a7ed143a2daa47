"""Puts the suites into the wheel; everything else stands in pyproject.toml.

The folder ``suites/`` is their one source. A wheel has a copy in ``benchbench/shipped_suites``,
read by :mod:`benchbench.suite.shipped`; a checkout and an editable installation have none and read
the folder itself.
"""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SUITES = Path(__file__).parent / "suites"


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


setup(cmdclass={"build_py": BuildWithSuites})

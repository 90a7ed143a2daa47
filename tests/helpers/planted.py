"""Regressions to plant into a copy of the package, each a small edit of its source.

``tests/gate/test_planted.py`` runs the canary's `after` with each;
``tests/tools/planted_regressions.py`` lets the whole gate find them.
"""

from __future__ import annotations

import shutil
import types
from pathlib import Path

import benchbench
from benchbench.agent.lapo import LAPO

PACKAGE = Path(benchbench.__file__).parent
LAPO_FILE = "agent/lapo.py"

SLOWER = '''\
    def update(self, batch: Batch) -> Info:
        """An update, and then as much idle work as makes it 15 % slower."""
        import time

        start = time.perf_counter()
        info = self._update(batch)
        until = start + 1.15 * (time.perf_counter() - start)
        while time.perf_counter() < until:
            pass
        return info

    def _update(self, batch: Batch) -> Info:
'''

PLANTS: dict[str, tuple[str, str, str]] = {
    "encoder_lr x 0.1": (
        LAPO_FILE,
        "encoder_lr=settings.encoder_lr,",
        "encoder_lr=0.1 * settings.encoder_lr,",
    ),
    "target update dropped": (LAPO_FILE, "        self._move_targets()\n", ""),
    "advantage's sign": (
        LAPO_FILE,
        "advantage_B = q_B - self.critic.v(features.critic)",
        "advantage_B = self.critic.v(features.critic) - q_B",
    ),
    "after routed as before, by the agent": (
        LAPO_FILE,
        "        self.spec, self.settings, self.routing,",
        "        from benchbench.routing import REGISTRY\n"
        '        routing = REGISTRY["before"] if routing.name == "after" else routing\n'
        "        self.spec, self.settings, self.routing,",
    ),
    "after routed as before, by the registry": (
        "routing.py",
        '"after", ("critic",), critic="applied", vae="detached"',
        '"after", ("vae",), critic="dropped", vae="applied"',
    ),
    "update 15 % slower": (
        LAPO_FILE,
        "    def update(self, batch: Batch) -> Info:\n",
        SLOWER,
    ),
}
"""Name -> file, what stands there once, what is planted in its place."""


def planted_source(name: str) -> str:
    """The text of the plant's file with the plant in it."""
    file, sound, planted = PLANTS[name]
    text = (PACKAGE / file).read_text(encoding="utf-8")
    assert text.count(sound) == 1, f"{file}: where is '{sound}'?"
    return text.replace(sound, planted)


def planted_agent(name: str) -> type[LAPO]:
    """The agent with the plant in it; for plants in its own file."""
    assert PLANTS[name][0] == LAPO_FILE
    module = types.ModuleType("benchbench.agent.lapo")
    exec(compile(planted_source(name), f"<{name}>", "exec"), module.__dict__)
    agent: type[LAPO] = module.LAPO
    return agent


def planted_package(name: str | None, folder: Path) -> Path:
    """A copy of the package in ``folder``, with the plant in it or sound; returns its parent."""
    shutil.rmtree(folder, ignore_errors=True)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, folder / PACKAGE.name, ignore=ignored)
    if name:
        (folder / PACKAGE.name / PLANTS[name][0]).write_text(planted_source(name), encoding="utf-8")
    return folder

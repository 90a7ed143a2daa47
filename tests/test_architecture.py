"""Who may know whom: the arrows between the rooms, held by the import statements."""

import ast
import sys
from pathlib import Path

import pytest

import benchbench

PACKAGE = Path(benchbench.__file__).parent
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
DATA, SETTINGS = {"data"}, {"suite", "settings", "sources", "routing", "errors", "own_code"}
MAY_KNOW = {
    "__init__": {"diagnostics.audit"},
    "__main__": {"cli"},
    "errors": set(),
    "routing": set(),
    "settings": set(),
    "processes": set(),
    "sources": {"settings"},
    "own_code": {"settings", "errors"},
    "agent_settings": {"own_code", "routing", "settings"},
    "suite": {"agent_settings", "settings", "sources", "routing", "errors"},
    "suite_file": {"suite", "settings", "errors"},
    "grid": {"suite", "routing", "errors", "own_code", "data.identity"},
    "results": {"suite", "errors"},
    "agent": {"routing", "agent_settings", "own_code", "errors", "data.batch"},
    "data": DATA | {"envs", "sources", "errors"},
    "envs": {"data.d4rl", "settings", "sources", "errors", "processes"},
    "diagnostics": {"routing", "agent", "data.batch"},
    "run": DATA
    | SETTINGS
    | {"agent", "envs", "diagnostics", "grid", "results", "agent_settings", "processes"}
    | {"report.look", "report.text"},
    "report": {"results", "suite", "routing", "errors"},
    "gate": {"results", "suite", "routing", "errors", "report.statistics"},
    "verbs": SETTINGS | {"suite_file", "data", "grid", "run", "report", "results", "gate"},
    "cli": SETTINGS | {"verbs", "suite_file", "grid", "run", "report", "results", "gate", ""},
}
"""Each room, and the rooms (or modules of rooms) that it may import; itself it always may."""

OUTSIDE = {
    "routing": {"torch"},
    "agent": {"torch"},
    "errors": {"click"},
    "settings": {"pydantic"},
    "sources": {"pydantic"},
    "processes": set(),
    "own_code": set(),
    "agent_settings": {"pydantic"},
    "suite": {"pydantic"},
    "suite_file": {"yaml", "pydantic"},
    "grid": set(),
    "results": {"pandas", "pyarrow"},
}
"""Rooms that may know few libraries beside the standard one."""


def imports(path):
    """All that a module imports, at its top or anywhere inside, as dotted names."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def known_modules(path):
    """The modules of benchbench that a module imports, '' for the package itself."""
    for name in imports(path):
        if name.split(".")[0] == "benchbench":
            inner = name.split(".")[1:]
            while inner and ".".join(inner) not in MODULES:
                inner = inner[:-1]
            yield ".".join(inner)


def allowed(room, target):
    if target.split(".")[0] == room:
        return True
    return any(target == may or (may and target.startswith(f"{may}.")) for may in MAY_KNOW[room])


@pytest.mark.parametrize("module", MODULES)
def test_each_module_knows_only_whom_its_room_may_know(module):
    room = module.split(".")[0]
    assert room in MAY_KNOW, f"{room} is a new room; say in MAY_KNOW whom it may know"
    strangers = {target for target in known_modules(MODULES[module]) if not allowed(room, target)}
    assert strangers == set()


def test_the_check_sees_what_is_imported():
    """The parser above finds arrows that are known to be there."""
    assert {"agent.protocol", "data.store", "grid"} <= set(known_modules(MODULES["run.cell"]))
    assert "run.runner" in set(known_modules(MODULES["cli"]))  # inside a function
    assert not allowed("report", "run.store")
    assert not allowed("agent", "data.sampler")
    assert not allowed("grid", "data.store")


@pytest.mark.parametrize("module", [m for m in MODULES if m.split(".")[0] in OUTSIDE])
def test_the_inner_rooms_know_few_libraries(module):
    found = {name.split(".")[0] for name in imports(MODULES[module])}
    found -= set(sys.stdlib_module_names) | {"benchbench"}
    assert found <= OUTSIDE[module.split(".")[0]]


@pytest.mark.parametrize("module", MODULES)
def test_every_module_says_what_it_is_for(module):
    text = ast.get_docstring(ast.parse(MODULES[module].read_text(encoding="utf-8")))
    assert text, module
    assert len(text.splitlines()[0]) > 20, module

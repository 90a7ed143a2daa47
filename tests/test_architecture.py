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
MAY_KNOW = {
    "__init__": {"api", "gradients"},
    "api": {"core", "suite", "results", "cell", "launch", "analysis"},
    "__main__": {"cli"},
    "core": set(),
    "routing": set(),
    "gradients": set(),
    "suite": {"core", "routing"},
    "results": {"core", "suite"},
    "envs": {"core", "suite"},
    "data": {"core", "suite", "envs"},
    "agent": {"core", "suite", "routing", "data.batch"},
    "diagnostics": {"core", "suite", "routing", "agent", "data", "envs", "gradients"},
    "cell": {"core", "suite", "routing", "agent", "data", "envs", "diagnostics", "results"},
    "launch": {"core", "suite", "agent", "data", "envs", "diagnostics", "results", "cell"},
    "analysis": {"core", "suite", "results"},
    "report": {"core", "suite", "routing", "results", "analysis"},
    "gate": {"core", "suite", "results"},
    "perf": {
        "core",
        "suite",
        "routing",
        "data",
        "envs",
        "results",
        "cell",
        "launch",
        "report",
        "gate",
    },
    "cli": None,
}
"""Each room, and the rooms (or modules of rooms) that it may import; itself it always may, and
``cli`` may import all."""

OUTSIDE = {
    "routing": {"torch"},
    "agent": {"torch"},
    "gradients": {"torch"},
    "suite": {"pydantic", "yaml"},
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
    may_know = MAY_KNOW[room]
    if target.split(".")[0] == room or may_know is None:
        return True
    return any(target == may or target.startswith(f"{may}.") for may in may_know)


def test_each_module_knows_only_whom_its_room_may_know():
    new = {module.split(".")[0] for module in MODULES} - set(MAY_KNOW)
    assert not new, "new rooms; say in MAY_KNOW whom they may know"
    strangers = {
        f"{module} imports {target}"
        for module, path in MODULES.items()
        for target in known_modules(path)
        if not allowed(module.split(".")[0], target)
    }
    assert not strangers


def test_the_check_sees_what_is_imported():
    """The parser above finds arrows that are known to be there."""
    known = set(known_modules(MODULES["cell.train"]))
    assert {"agent.protocol", "data.store", "suite.grid"} <= known
    assert "launch.run" in set(known_modules(MODULES["api"]))  # inside a function
    assert not allowed("report", "launch.run")
    assert not allowed("agent", "data.sampler")
    assert not allowed("suite", "data.store")


@pytest.mark.parametrize("room", OUTSIDE)
def test_the_inner_rooms_know_few_libraries(room):
    inside = [path for module, path in MODULES.items() if module.split(".")[0] == room]
    found = {name.split(".")[0] for path in inside for name in imports(path)}
    assert found - set(sys.stdlib_module_names) - {"benchbench"} == OUTSIDE[room]


def test_every_module_says_what_it_is_for():
    texts = {
        module: ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        for module, path in MODULES.items()
    }
    assert not [module for module, text in texts.items() if len((text or "").split("\n")[0]) <= 20]

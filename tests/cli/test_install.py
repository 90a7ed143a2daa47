"""The wheel: what is in it, what it asks for on each Python, and a run from an empty folder."""

import email
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PYTHONS = ("3.11", "3.12", "3.13", "3.14", "3.15")
LINUX = {"sys_platform": "linux", "platform_machine": "x86_64", "platform_system": "Linux"}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The wheel and the source distribution, built without network from a copy of the checkout."""
    source = tmp_path_factory.mktemp("source")
    for name in ("benchbench", "suites", "tests", "results", ".build"):
        ignored = shutil.ignore_patterns("__pycache__", "*.parquet", "*.png", "*.svg", "*.html")
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    code = (
        "import sys; sys.path.insert(0, '.build'); import backend; out = sys.argv[1]\n"
        "backend.build_wheel(out); backend.build_sdist(out)"
    )
    out = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, "-c", code, str(out)], cwd=source, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return next(out.glob("*.whl")), next(out.glob("*.tar.gz"))


def metadata_of(wheel):
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(archive.read(name))


def requirements_of(wheel, python, extra=""):
    """The names that a Python on Linux would install, by the markers."""
    environment = LINUX | {"python_version": python, "python_full_version": f"{python}.0"}
    wanted = map(Requirement, metadata_of(wheel).get_all("Requires-Dist"))
    return {
        one.name
        for one in wanted
        if one.marker is None or one.marker.evaluate(environment | {"extra": extra})
    }


def test_the_wheel_holds_the_suites_and_nothing_of_the_checkout_beside_the_package(built):
    with zipfile.ZipFile(built[0]) as archive:
        names = set(archive.namelist())
    for path in (*(ROOT / "suites").glob("*.yaml"), ROOT / "suites" / "suite.schema.json"):
        assert f"benchbench/shipped_suites/{path.name}" in names
    assert {"benchbench/py.typed", "benchbench/report/templates"} <= names | {
        str(Path(name).parent) for name in names
    }
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"benchbench"}


def test_the_source_distribution_builds_and_tests_itself(built):
    with tarfile.open(built[1]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {".build/backend.py", "suites/quickstart.yaml", "results/METHODS.md", "LICENSE",
            "tests/helpers/suites.py", "tests/conftest.py"} <= names  # fmt: skip
    assert not [name for name in names if name.endswith(".pyc")]


def test_the_metadata_are_complete(built):
    told = metadata_of(built[0])
    assert told["Author"] == "benchbench developers"
    assert told["Requires-Python"] == ">=3.11"
    assert told["License-Expression"] == "MIT"
    assert told["Keywords"]
    assert told["Summary"]
    classifiers = told.get_all("Classifier")
    for python in PYTHONS[:4]:
        assert f"Programming Language :: Python :: {python}" in classifiers
    assert "Typing :: Typed" in classifiers


def test_the_readme_has_no_relative_picture_or_link_on_a_package_page(built):
    told = metadata_of(built[0])
    assert told["Description-Content-Type"] == "text/markdown"
    page, source = (
        told.get_payload(decode=True).decode(),
        (ROOT / "README.md").read_text(encoding="utf-8"),
    )
    assert page.startswith("# benchbench")
    code = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
    assert code.findall(page) == code.findall(source)
    prose = code.sub("", page)
    for target in re.findall(r"\]\(([^)]*)\)", prose):
        assert target.startswith(("https://", "http://", "#")), target


@pytest.mark.parametrize("python", PYTHONS)
def test_each_python_is_asked_only_for_simulators_that_have_wheels_there(built, python):
    asked = requirements_of(built[0], python)
    assert {"torch", "mujoco", "gymnasium", "imageio", "numpy"} <= asked
    extras = {"pybullet", "d4rl", "gym", "setuptools", "dm_control"}
    assert asked & extras == (extras if Version(python) < Version("3.12") else set())
    bullet = requirements_of(built[0], python, "bullet") - asked
    assert "d4rl" not in bullet  # it asks for the 'pybullet' that has no wheels
    assert ("pybullet-arm64" in bullet) == (python in ("3.12", "3.13"))
    assert "dm_control" in requirements_of(built[0], python, "vd4rl")


def test_the_markers_of_pybullets_packages_are_one(built):
    found = {
        one.name: str(one.marker)
        for one in map(Requirement, metadata_of(built[0]).get_all("Requires-Dist"))
        if one.name in ("pybullet", "d4rl", "gym", "setuptools") and "extra" not in str(one.marker)
    }
    assert len(found) == 4
    assert len(set(found.values())) == 1


@pytest.mark.slow
def test_the_installed_wheel_runs_the_quickstart_by_name_in_an_empty_folder(built, tmp_path):
    """Its dependencies are this environment's; benchbench itself is the wheel's."""
    site, work = tmp_path / "site", tmp_path / "work"
    work.mkdir()
    install = ["pip", "install", "--no-deps", "--no-index", "--target", str(site), str(built[0])]
    subprocess.run([sys.executable, "-m", *install], check=True, capture_output=True)
    env = os.environ | {"PYTHONPATH": str(site), "BENCHBENCH_DATA": str(tmp_path / "data")}

    def run(*arguments):
        command = [sys.executable, *map(str, arguments)]
        done = subprocess.run(command, cwd=work, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = run("-c", "import benchbench; print(benchbench.__file__)").strip()
    assert Path(where).is_relative_to(site)
    assert run("-m", "benchbench", "suites").startswith("quickstart ")
    small = ("seeds=1", "train.updates=20", "evaluate.every=10", "evaluate.episodes=1",
             "envs.0.data.transitions=3000", "diagnose.probe_frames=200", "diagnose.q_pairs=0",
             "diagnose.oracle_updates=0", "diagnose.signals_every=10")  # fmt: skip
    overrides = [word for one in small for word in ("--set", one)]
    run("-m", "benchbench", "run", "quickstart", "--device", "cpu", *overrides)
    assert (work / "results" / "quickstart" / "REPORT.md").is_file()
    run("-m", "benchbench", "suites", "copy", "quickstart")
    assert (work / "quickstart.yaml").is_file()

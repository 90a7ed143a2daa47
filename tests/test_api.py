"""benchbench from Python: the same as the command line, and every docstring's example runs."""

import copy
import doctest
import logging

import pytest
import yaml
from helpers import faulty
from helpers.suites import TINY

import benchbench
from benchbench import api
from benchbench.core.errors import UserError
from benchbench.suite.model import Suite

pytestmark = pytest.mark.usefixtures("tiny_data")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder in which TINY is the quickstart."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "suites").mkdir()
    text = yaml.safe_dump(TINY | {"name": "quickstart"})
    (tmp_path / "suites" / "quickstart.yaml").write_text(text)
    return tmp_path


def test_the_examples_run_in_the_order_in_which_one_would_try_them(folder):
    examples = {test.name: test.examples for test in doctest.DocTestFinder().find(api)}
    names = {}
    for name in ("plan", "run", "load"):
        found = examples[f"benchbench.api.{name}"]
        assert found, name
        for example in found:
            source = example.source.replace("reference_cpu", "quickstart")
            exec(compile(source, name, "single"), names)
    assert list(names["done"].load().cells["variant"]) == TINY["variants"]
    assert names["done"].failures == ()
    assert len(names["plan"].grid.cells) == 3


def test_a_suite_is_a_path_a_mapping_or_a_suite(folder):
    plans = [
        benchbench.plan(suite, device="cpu")
        for suite in ("suites/quickstart.yaml", TINY | {"name": "quickstart"},
                      Suite.model_validate(TINY | {"name": "quickstart"}))
    ]  # fmt: skip
    assert len({plan.grid.keys for plan in plans}) == 1
    with pytest.raises(UserError, match=r"the suite is not valid: .*variants"):
        benchbench.plan(TINY | {"variants": ["never"]})
    with pytest.raises(UserError, match="overrides: are for a suite's file"):
        benchbench.plan(TINY, overrides=["train.updates=1"])


def test_debug_runs_cells_in_this_process(folder, monkeypatch):
    seen = []
    monkeypatch.setattr("benchbench.cell.train.check_routing", lambda *_: seen.append("here"))
    told = copy.deepcopy(TINY) | {"variants": ["after"]}
    done = benchbench.run(told, executor="debug", device="cpu")
    assert seen
    assert done.failures == ()
    assert list(done.load().cells["status"]) == ["done"]


def test_an_executor_of_ones_own_is_taken(folder):
    from benchbench.cell.devices import Device
    from benchbench.launch.debug import Debug

    told = copy.deepcopy(TINY) | {"variants": ["after"]}
    fault = faulty.Faulty(faulty.refuse, folder / "marks", at=5)
    done = benchbench.run(told, executor=Debug(Device("cpu"), 1, fault))
    ((cell, failure, _),) = done.failures
    assert (cell.variant, failure.kind) == ("after", "refused")
    assert list(done.load().cells["status"]) == ["failed"]


def test_what_is_not_for_an_executor_is_refused(folder):
    for arguments, words in (
        ({"executor": "nowhere"}, "unknown executor 'nowhere'; choose one of local, debug"),
        ({"executor": "debug", "jobs": 2}, "debug runs one cell at a time"),
        ({"address": "auto"}, "--address: is for --executor ray"),
    ):
        with pytest.raises(UserError, match=words):
            benchbench.run(TINY, **arguments)


def test_a_warning_goes_to_the_log_and_not_to_the_screen(folder, caplog):
    told = copy.deepcopy(TINY) | {"variants": ["after"]}
    told["train"] = told["train"] | {"updates": 2}
    benchbench.run(told, executor="debug", device="cpu")
    told["train"]["updates"] = 3
    with caplog.at_level(logging.WARNING, logger="benchbench"):
        benchbench.plan(told, device="cpu")
    assert "1 finished cell of an earlier version of this suite" in caplog.text

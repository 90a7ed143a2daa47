"""The command line: runs, interruptions, failures, exit codes."""

import json
import os
import re
import shutil
import signal
from pathlib import Path

import pytest
from click.testing import CliRunner
from filelock import FileLock
from helpers.commands import COMMON, Bench
from helpers.waiting import HANGS, family, wait_for

from benchbench.cli.main import main
from benchbench.results.failures import Failure
from benchbench.results.tables import read_results
from benchbench.suite.load import suite_schema

OPEN, UMAZE = "maze2d-open-v0", "maze2d-umaze-v1"
LINUX = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")


def ended(process, word):
    """The labels of the cells that ended so, by the progress's lines."""
    return re.findall(rf"{word}\s+(maze2d\S+ seed \d+ [a-z-]+):", process.err)


@pytest.fixture
def bench(tmp_path, data_home):
    return Bench(tmp_path, data_home)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, data_home):
    """The tiny suite, run once from beginning to end; not to be written to."""
    bench = Bench(tmp_path_factory.mktemp("undisturbed"), data_home)
    bench.first = bench.end(bench.start("run", *COMMON))
    return bench


@pytest.fixture
def finished(bench, undisturbed):
    """A copy of the undisturbed run, to go on with."""
    shutil.copytree(undisturbed.store.folder, bench.store.folder)
    return bench


# ------------------------------------------------------------ a run, and the same again


@pytest.mark.slow
def test_a_run_makes_results_and_a_report(undisturbed):
    cells = undisturbed.cells
    assert sorted(ended(undisturbed.first, "done")) == sorted(cell.label for cell in cells)
    folder = undisturbed.store.folder
    tables = undisturbed.tables()
    assert list(tables["cells"]["key"]) == [cell.key for cell in cells]
    assert set(tables["cells"]["status"]) == {"done"}
    assert "Final performance" in undisturbed.first.out
    assert "results/tiny/REPORT.md" in undisturbed.first.out
    assert (folder / "REPORT.md").read_text().startswith("# tiny")
    assert list((folder / "figures").glob("*.png"))
    weights = tables["cells"].set_index("variant")["final_weights"]
    assert weights["before"] == weights["vae-only"] != weights["after"]


@pytest.mark.slow
def test_the_same_again_runs_nothing_and_an_edited_suite_what_it_changed(finished):
    published = finished.published()
    again = finished.run()
    assert ended(again, "done") == []
    assert "stay there" not in again.err
    assert finished.published() == published

    finished.told["variants"] = ["after", "frozen"]
    finished.told["description"] = "another text changes no cell"
    finished.write()
    left = len(published) - 1
    edited = finished.run()
    assert ended(edited, "done") == [f"{OPEN} seed 0 frozen"]
    assert f"tiny: {left} finished cells of an earlier version of this suite, or of" in edited.err
    assert set(finished.tables()["cells"]["variant"]) == {"after", "frozen"}
    kept = finished.published()
    assert {key: kept[key] for key in published} == published  # before's results are still there


def test_plan_says_what_is_done_and_what_is_missing_and_runs_nothing(finished):
    finished.told |= {"seeds": 2, "variants": ["before", "after"]}
    finished.write()
    shutil.rmtree(finished.store.cell_folder(finished.cells[1].key))
    finished.store.record_failure(finished.cells[2], Failure("diverged", "nan"))
    published = finished.published()

    def told(*arguments):
        shown = finished.call(*arguments).out
        return re.sub(r"about .*? (s|min|h) of training", "TIME", shown)

    shown = told("plan", *COMMON)
    assert told("run", "--dry-run", *COMMON) == shown
    lines = [line.split() for line in shown.splitlines()]
    assert ["env", "seed", "before", "after"] in lines
    assert [OPEN, "0", "done", "-"] in lines
    assert [OPEN, "1", "failed", "-"] in lines
    assert "4: 1 done, 3 to run" in shown
    assert "maze2d-open-v0: here" in shown
    assert "TIME" in shown
    assert finished.published() == published


@pytest.mark.slow
def test_only_a_part_of_the_grid_is_run_and_the_rest_stays_wanted(bench):
    done = bench.run("--only", "variant=after", "--only", "seed=0", "--set", "train.updates=6")
    assert ended(done, "done") == [f"{OPEN} seed 0 after"]
    results = read_results(bench.store.folder)
    assert list(results.cells["updates"]) == [6]
    assert len(results.plan) == 3
    assert "missing" in (bench.store.folder / "REPORT.md").read_text()


# ------------------------------------------------------------ mistakes


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "none.yaml"], "none.yaml: cannot be read"),
        (["run", "tiny.yaml", "--set", "train.updats=1"], "did you mean 'updates'"),
        (["plan", "tiny.yaml", "--set", "train"], "write it as key=value"),
        (["run", "tiny.yaml", "--only", "variant=aftr"], "the grid has no such variant; it has be"),
        (["run", "tiny.yaml", "--only", "colour=red"], "choose env, condition, variant, seed"),
        (["run", "tiny.yaml", "--only", "variant"], "write it as NAME=VALUE"),
        (["run", "tiny.yaml", "--device", "tpu"], "choose auto, cpu, cuda, or cuda:0,2"),
        (["run", "tiny.yaml", "--device", "cuda:99"], "--device cuda:99: there"),
        (["run", "tiny.yaml", "--jobs", "0"], "--jobs"),
        (["run", "tiny.yaml", "--eval-processes", "0"], "--eval-processes 0: choose auto, or a"),
        (["report"], "results: holds no results; make some with 'benchbench run SUITE'"),
        (["report", "tiny"], "tiny: holds no results; make some"),
        (["report", "tiny.yaml", "--results", "elsewhere"], "elsewhere/tiny: holds no results"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(bench, arguments, words):
    done = bench.call(*arguments, code=2)
    assert words in done.err
    assert done.out == ""
    assert not bench.store.folder.exists()  # nothing was begun


def test_a_second_run_on_the_same_folder_is_refused(finished):
    with FileLock(finished.store.folder / ".lock"):
        done = finished.run("--set", "seeds=2", code=2)
    assert "another 'benchbench run' is writing there; wait for it, or choose" in done.err
    assert len(finished.tables()["cells"]) == 3


@pytest.mark.slow
def test_a_damaged_result_is_named_and_its_cure_works(finished):
    folder = finished.store.cell_folder(finished.cells[0].key)
    (folder / "training.parquet").write_bytes(b"PAR1")
    done = finished.run(code=2)
    assert done.err.count("\n") == 1
    assert f"move results/tiny/cells/{folder.name} away and run again" in done.err
    shutil.move(folder, finished.folder / "away")
    assert ended(finished.run(), "done") == [finished.cells[0].label]


# ------------------------------------------------------------ failures and interruptions


@pytest.mark.slow
def test_a_failing_cell_is_named_with_its_log_and_takes_nothing_along(bench):
    bench.told["variants"] = ["after", "frozen"]
    mad = {"critic_lr": 1e30}  # no critic survives this
    bench.told["envs"].insert(0, bench.told["envs"][0] | {"id": UMAZE, "agent": mad})
    bench.told["envs"][0]["data"] = {"source": "waypoint", "transitions": 3000}
    bench.write()
    done = bench.end(bench.start("run", *COMMON), code=1)
    failing = [cell for cell in bench.cells if cell.env == UMAZE]
    assert sorted(ended(done, "FAILED")) == sorted(cell.label for cell in failing)
    assert sorted(ended(done, "done")) == [f"{OPEN} seed 0 {v}" for v in ("after", "frozen")]
    for cell in failing:
        line = next(x for x in done.err.splitlines() if x.startswith(f"failed: {cell.label}: "))
        assert "Diverged: " in line
        log = bench.folder / re.search(r"\(log: (.*)\)", line).group(1)
        assert "Traceback" in log.read_text()
    cells = bench.tables()["cells"].set_index("env")["status"]
    assert set(cells[OPEN]) == {"done"}
    assert set(cells[UMAZE]) == {"failed"}
    page = (bench.store.folder / "REPORT.md").read_text()
    assert "Diverged" in page

    del bench.told["envs"][0]["agent"]  # mended: only the failed cells are run
    bench.write()
    again = bench.run()
    assert sorted(ended(again, "done")) == sorted(cell.label for cell in failing)


@LINUX
def test_ctrl_c_while_the_fork_server_comes_up_is_quiet(bench):
    process = bench.start("run", *COMMON)

    def importing():
        maps = [Path(f"/proc/{pid}/maps") for pid in family(process.pid) if pid != process.pid]
        return any("libtorch" in path.read_text() for path in maps)

    wait_for(importing)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=HANGS)
    assert process.returncode == 130, (out, err)
    assert "Traceback" not in out + err


def test_ctrl_c_ends_any_verb_with_130(bench, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("benchbench.report.write_report", stopped)
    done = CliRunner().invoke(main, ["report", "tiny"])
    assert done.exit_code == 130
    assert "Stopped." in done.output


def test_a_terminal_that_lacks_a_sign_gets_the_report_all_the_same(monkeypatch):
    monkeypatch.setattr("benchbench.report.write_report", lambda *_: "R² −0.02 差")
    done = CliRunner(charset="latin-1").invoke(main, ["report", "tiny"])
    assert done.exit_code == 0
    assert "R² \\u22120.02 \\u5dee" in done.output


# ------------------------------------------------------------ the other verbs


@pytest.mark.slow
def test_report_by_name_by_file_and_of_everything(finished):
    report = finished.store.folder / "REPORT.md"
    pages, shown = [], []
    for arguments in (["tiny", "tiny.yaml"], []):
        report.unlink()
        shown.append(finished.call("report", *arguments).out)
        pages.append(report.read_bytes())
    assert pages[0] == pages[1]  # the same tables give the same page
    assert shown[0] == 2 * shown[1]
    assert "Final performance" in shown[1]


def test_schema_is_the_models_json_schema(bench):
    text = bench.call("schema").out
    assert text == suite_schema()
    assert json.loads(text)["additionalProperties"] is False


def test_help_names_the_verbs(bench):
    assert {"plan", "run", "report", "schema"} <= set(bench.call("--help").out.split())

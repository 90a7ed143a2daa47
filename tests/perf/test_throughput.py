"""Two versions timed side by side: what is called slower, and what cannot be timed."""

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner
from helpers.suites import TINY

from benchbench.cli.main import main
from benchbench.perf.throughput import TURNS, find_python, gate_throughput, judge

ENV = TINY["envs"][0]["id"]
WORKS = [(ENV, "before"), (ENV, "after")]
SAME = {"device_name": "a GPU", "versions": {"torch": "2.9.0"}}

FAKE = """#!{python} -S
import json, random, sys
told = {told}
random.seed({name!r})
for line in sys.stdin:
    request = json.loads(line)
    with open({log!r}, "a") as log:
        print(json.dumps([{name!r}, *request]), file=log)
    if "suite" in request:
        print("a library's greeting")
        print(json.dumps(told["identity"]), flush=True)
    else:
        seconds = request.get("updates", 15) / told["speed"]
        print(json.dumps(dict(seconds=seconds * random.uniform(0.97, 1.03))), flush=True)
"""


@pytest.fixture
def environment(tmp_path):
    """Makes an environment whose Python only says how long updates took, in no time."""

    def make(name, speed=100.0, **identity):
        folder = tmp_path / name
        (folder / "bin").mkdir(parents=True)
        python = folder / "bin" / "python"
        told = {"speed": speed, "identity": {
            "package": name, "git_commit": name * 10, "git_dirty": False, "device_name": "a GPU",
            "versions": {"benchbench": "0.1.0", "torch": "2.9.0"}, **identity}}  # fmt: skip
        script = FAKE.format(python=sys.executable, told=told, name=name, log=str(tmp_path / "log"))
        python.write_text(script, encoding="utf-8")
        python.chmod(0o755)
        return folder

    return make


@pytest.fixture
def throughput(tmp_path, monkeypatch):
    """Runs the verb on a suite of two variants."""
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    suite = tmp_path / "tiny.yaml"
    suite.write_text(yaml.safe_dump(TINY | {"variants": ["before", "after"]}), encoding="utf-8")

    def run(*arguments):
        words = ["throughput", suite, *arguments, "--device", "cpu", "--gate"]
        return CliRunner().invoke(main, [str(word) for word in words])

    return run


def asked(tmp_path, what):
    lines = (tmp_path / "log").read_text(encoding="utf-8").splitlines()
    return [name for name, *request in map(json.loads, lines) if what in request]


class TestTheVerb:
    def test_the_same_speed_passes_and_nothing_is_measured_twice(
        self, environment, throughput, tmp_path
    ):
        done = throughput(environment("a"), environment("b"))
        assert done.exit_code == 0, done.output
        assert "pass: none of 2 series is worse" in done.output
        assert len(asked(tmp_path, "build")) == 12 * 2 * len(WORKS)

    def test_fifteen_percent_slower_is_measured_twice_and_fails(
        self, environment, throughput, tmp_path
    ):
        done = throughput(environment("a"), environment("b", 100 / 1.15), "--json")
        assert done.exit_code == 1, done.output
        found = json.loads(done.stdout)
        assert found["decision"] == "regression"
        for row in found["series"]:
            assert row["sign"] == "worse"
            assert row["baseline"] == pytest.approx(100, rel=0.02)
            assert row["difference"] == pytest.approx(-np.log(1.15), abs=0.02)
            assert row["lo"] <= row["difference"] <= row["hi"] < np.log(0.95)
            assert "a first time ratio 0.8" in row["note"]
        assert len(asked(tmp_path, "build")) == 2 * 12 * 2 * len(WORKS)

    def test_three_percent_slower_is_no_regression_and_faster_is_better(
        self, environment, throughput
    ):
        done = throughput(environment("a"), environment("b", 97.0), "--only", "variant=after")
        assert (done.exit_code, "=  no change" in done.output) == (0, True)
        done = throughput(environment("c"), environment("d", 120.0), "--markdown")
        assert (done.exit_code, "| ✓ | better |" in done.output) == (0, True)

    def test_the_sides_take_turns_and_each_begins_half_of_the_rounds(
        self, environment, throughput, tmp_path
    ):
        throughput(environment("a"), environment("b"), "--only", "variant=after", "--rounds", "6")
        turns = np.reshape([name == "a" for name in asked(tmp_path, "updates")], (6, len(TURNS)))
        assert (turns.sum(axis=1) == len(TURNS) / 2).all()
        assert (turns[:, ::2] != turns[:, 1::2]).all(), "neighbours are one of each side"
        assert (turns[::2] == turns[0]).all()
        assert (turns[1::2] != turns[0]).all()

    @pytest.mark.parametrize(
        ("identity", "part"),
        [({"device_name": "another GPU"}, "device"), ({"versions": {"benchbench": "0.1.0",
         "torch": "2.10.0"}}, "torch")],
    )  # fmt: skip
    def test_what_differs_beside_the_code_cannot_be_compared(
        self, environment, throughput, tmp_path, identity, part
    ):
        done = throughput(environment("a"), environment("b", **identity))
        assert done.exit_code == 2
        assert f"cannot compare: not the baseline's {part}" in done.output
        assert asked(tmp_path, "build") == []

    def test_two_environments_of_one_package_are_refused(self, environment, throughput):
        done = throughput(environment("a"), environment("b", package="a"))
        assert done.exit_code == 2
        assert "import the same benchbench, a; install each version" in done.output

    def test_one_environment_twice_is_a_comparison_with_itself(self, environment, throughput):
        one = environment("a")
        assert throughput(one, one).exit_code == 0

    def test_a_version_without_the_entry_point_is_told_so(self, environment, throughput, tmp_path):
        bare = tmp_path / "bare"
        bare.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n', encoding="utf-8")
        bare.chmod(0o755)
        done = throughput(bare, environment("b"))
        assert done.exit_code == 2
        assert f"the old version ({bare}): has no benchbench.perf.timing" in done.output

    def test_a_version_that_dies_is_told_with_its_last_words(
        self, environment, throughput, tmp_path
    ):
        dying = tmp_path / "dying"
        dying.write_text("#!/bin/sh\necho out of luck >&2\nexit 3\n", encoding="utf-8")
        dying.chmod(0o755)
        done = throughput(environment("a"), dying)
        assert done.exit_code == 2
        assert "the new version" in done.output
        assert "ended before it answered (out of luck)" in done.output

    def test_what_a_version_refuses_is_passed_on(self, environment, throughput):
        done = throughput(environment("a", error="its suites have no such setting"), "nowhere")
        assert (done.exit_code, "nowhere: is neither a virtual" in done.output) == (2, True)
        refusing = environment("c")
        text = (refusing / "bin" / "python").read_text(encoding="utf-8")
        text = text.replace('told["identity"]', '{"error": "its suites have no such setting"}')
        (refusing / "bin" / "python").write_text(text, encoding="utf-8")
        done = throughput(refusing, environment("d"))
        assert done.exit_code == 2
        assert "bin/python): its suites have no such setting" in done.output


def blocks(d, spread=0.01, seed=0):
    """Blocks of both variants whose rounds differ by ``d``, ln(new / old)."""
    rng = np.random.default_rng(seed)
    rows = [
        {"round": number, "turn": turn, "env": env, "variant": variant,
         "side": ("old", "new")[whose], "updates": 50,
         "seconds": np.exp(-whose * by + spread * rng.normal())}
        for number, by in enumerate(d) for env, variant in WORKS for turn, whose in enumerate(TURNS)
    ]  # fmt: skip
    return pd.DataFrame(rows)


class TestTheVerdict:
    def test_the_interval_is_between_order_statistics(self):
        """By hand: of 12 rounds, the 3rd and the 10th hold the median at 1 - 2 · 79/4096."""
        d = np.linspace(-0.12, -0.01, 12)
        row = judge(blocks(d, spread=0.0), members=1).iloc[0]
        assert row["difference"] == pytest.approx(np.median(d))
        assert (row["lo"], row["hi"]) == pytest.approx((d[2], d[9]))
        assert row["n_pairs"] == 12

    @pytest.mark.parametrize(("d", "sign"), [(-0.06, "worse"), (-0.05, "no change"),
                                             (0.05, "no change"), (0.06, "better")])  # fmt: skip
    def test_the_limit_is_a_ratio_of_095(self, d, sign):
        assert set(judge(blocks([d] * 12, spread=0.0), 2)["sign"]) == {sign}

    def test_blocks_and_rounds_in_a_storm_change_nothing(self):
        """Of each round two blocks, and one round in all of its blocks, take ten times as long."""
        found = blocks([-0.15] * 12)
        storm = found["turn"].isin([3, 8]) | ((found["round"] == 5) & (found["side"] == "old"))
        found.loc[storm, "seconds"] *= 10
        assert set(judge(found, 2)["sign"]) == {"worse"}

    def test_slow_only_once_is_undecided_and_warned_of(self):
        measured = []

        def measure(works):
            measured.append(list(works))
            return blocks([-0.1, 0.0][len(measured) - 1 :][:1] * 12)

        table, _, decision = gate_throughput((SAME, SAME), WORKS, measure)
        assert measured == [WORKS, WORKS]
        assert set(table["sign"]) == {"undecided"}
        assert all("slower only a first time" in note for note in table["note"])
        assert (decision.exit_code, decision.warnings) == (0, ("2 undecided",))

    def test_too_few_rounds_for_the_family_are_undecided(self):
        table = judge(blocks([-0.2] * 7), members=14)
        assert set(table["sign"]) == {"undecided"}
        assert set(table["note"]) == {"7 rounds; 10 needed"}

    def test_the_same_code_is_never_called_slower_even_once(self):
        """As measured on a shared machine of two cores: rounds of 2 %, and storms."""
        rng = np.random.default_rng(1)
        for number in range(60):
            d = 0.025 * rng.standard_t(2, size=12)
            assert "worse" not in set(judge(blocks(d, 0.03, number), 2)["sign"])


def test_a_python_is_taken_as_it_is_and_a_link_is_not_followed(tmp_path):
    link = tmp_path / "bin" / "python"
    link.parent.mkdir()
    link.symlink_to(sys.executable)
    assert find_python(tmp_path) == link
    assert find_python(link) == link


def test_the_entry_point_times_updates_of_a_cell(tiny_data):
    """The protocol that later versions keep to."""
    requests = [
        {"suite": TINY, "device": "cpu", "threads": 1},
        {"build": [ENV, "after"], "warm_up": 4},
        {"updates": 3},
        {"build": [ENV, "before"], "warm_up": 4},
        {"updates": 200},
    ]
    found = timing(requests)
    assert set(found[0]) == {"package", "git_commit", "git_dirty", "device_name", "versions"}
    assert {"torch", "benchbench"} <= set(found[0]["versions"])
    assert all(0 < answer["seconds"] < 30 for answer in found[1:])
    assert found[4]["seconds"] > found[2]["seconds"]


def test_the_entry_point_refuses_a_suite_that_it_does_not_know():
    (answer,) = timing([{"suite": TINY | {"later": 1}, "device": "cpu", "threads": 1}])
    assert answer["error"].startswith("its suites have no such later")


def timing(requests):
    done = subprocess.run(
        [sys.executable, "-m", "benchbench.perf.timing"], env=os.environ, capture_output=True,
        input="".join(json.dumps(request) + "\n" for request in requests), text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]

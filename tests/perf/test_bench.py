"""The benchmark of benchbench itself: are its figures what they say they are?"""

import json
import time
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from helpers.suites import TINY

from benchbench.cell.devices import Device
from benchbench.cli.main import main
from benchbench.data.sampler import Sampler
from benchbench.perf.bench import DEFAULT, choose
from benchbench.perf.parts import Updates, _Enough, _Watched, update_flops
from benchbench.perf.rounds import Figure, Work, take_turns
from benchbench.perf.timing import TimedCell
from benchbench.routing import REGISTRY
from benchbench.suite.grid import expand
from benchbench.suite.load import load_suite
from benchbench.suite.model import Suite

CPU = Device("cpu")
SUITES = Path(__file__).parents[2] / "suites"


@pytest.fixture
def cell(tiny_data):
    return expand(Suite.model_validate(TINY))[0].under(REGISTRY["after"])


@pytest.fixture
def suite(tiny_data, tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY), encoding="utf-8")
    return str(path)


def test_what_a_trained_encoder_costs_in_operations_by_hand(cell):
    """'after' against 'frozen': a pass more, and the critic's gradient back to the pixels."""
    b, hidden, features, actions, proprio = 16, 16, 8, 2, 2
    convolutions = [  # a map's places x kernel x channels in x channels out
        8 * 8 * 9 * 6 * 16,
        4 * 4 * 9 * 16 * 32,
        2 * 2 * 9 * 32 * 32,
    ]
    encode = sum(convolutions) + 2 * 2 * 32 * features
    again = encode
    to_weights, to_inputs = encode, encode - convolutions[0]  # nobody asks for the pixels' own
    read = features + proprio
    into_features = hidden * (2 * (read + actions) + read)  # through Q1's, Q2's and V's first layer
    expected = 2 * b * (again + to_weights + to_inputs + into_features)
    after, frozen = (
        update_flops(TimedCell(cell.under(REGISTRY[name]), CPU)) for name in ("after", "frozen")
    )
    assert after - frozen == expected


def figures_of(cell, rounds=1):
    updates = Updates(cell, [cell.routing], CPU)
    take_turns(updates.works, rounds)
    return {(figure.what, figure.name): figure for figure in updates.figures()}


def test_a_slower_sampler_shows_as_a_larger_share_of_an_update(cell, monkeypatch):
    states = {**TINY, "observation": "state", "variants": ["frozen"]}  # no encoders to compare
    states["envs"] = [{**TINY["envs"][0], "proprio": []}]
    cell, routings = choose(Suite.model_validate(states), {})
    assert routings == [REGISTRY["frozen"]]
    share = ("sampler", "of an update, frozen")
    before = figures_of(cell)[share].value
    sample = Sampler.sample

    def slow(self):
        time.sleep(0.3)
        return sample(self)

    monkeypatch.setattr(Sampler, "sample", slow)
    slowed = figures_of(cell)
    assert before < 0.3
    assert 0.7 < slowed[share].value <= 1.1
    assert slowed["sampler", "batches"].value < 4
    batch = (2 * 16 * 4 + 16 * 2 + 2 * 16) * 4  # states, actions, rewards and discounts in bytes
    per_batch = slowed["sampler", "bytes"].value / slowed["sampler", "batches"].value
    assert per_batch == pytest.approx(batch / 1e6)


def test_works_take_turns_and_a_figure_is_the_median_of_its_rounds():
    clock, order = {"a": iter([9, 0.1, 2, 4, 8]), "b": iter([9, 9, 1, 1, 1])}, []

    def work(name):
        def seconds(count):
            order.append((name, count))
            return next(clock[name])

        return Work(name, seconds)

    a, b = work("a"), work("b")
    take_turns([a, b], 3)
    assert (a.pieces, b.pieces) == (2, 1)  # 0.15 s of pieces of 0.1 s and of 9 s
    assert [name for name, _ in order[4:]] == ["b", "a", "a", "b", "b", "a"]
    assert a.each == [1, 2, 4]
    figure = Figure.of("", "", "1/s", a.rates)
    assert (figure.value, figure.low, figure.high, figure.rounds) == (0.5, 0.25, 1, 3)


def test_steps_of_an_evaluation_are_counted_between_two_calls_of_the_policy():
    policy = _Watched(lambda frames, states, proprio: states, 5)
    policy([], [0] * 3, [])
    policy([], [0] * 2, [])  # an episode has ended
    with pytest.raises(_Enough):
        policy([], [0] * 2, [])
    assert policy.steps == 5  # what the third call asks for is not played yet


def bench(*arguments):
    return CliRunner().invoke(main, ["bench", *arguments, "--device", "cpu", "--threads", "1"])


@pytest.mark.slow
def test_the_verb_measures_every_part_and_says_where(suite):
    done = bench(suite, "--rounds", "2", "--json", "--only", "variant=leak")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["suite"], found["threads"], found["rounds"]) == ("tiny", 1, 2)
    assert {"torch", "python", "benchbench"} <= found["versions"].keys()
    by_what = {}
    for figure in found["figures"]:
        by_what.setdefault(figure["what"], []).append(figure)
        if figure["rounds"]:
            assert 0 < figure["low"] <= figure["value"] <= figure["high"], figure
        else:
            assert figure["value"] is None
            assert figure["note"]
    assert [f["name"] for f in by_what["updates by variant"]] == ["leak"]
    assert {f["name"] for f in by_what["updates by encoder"]} == {"small", "drqv2", "resnet18"}
    for part in ("share of peak by variant", "peak", "sampler", "evaluation", "frames", "memory"):
        assert by_what[part], part
    first, later = by_what["start of a cell"]
    assert later["value"] < 30
    assert first["rounds"] == 1


def test_unknown_choices_are_refused_with_the_cure(suite):
    for arguments, cure in (
        (["--only", "variant=afterr"], "choose among before, after"),
        (["--only", "seed=1"], "choose env or variant"),
        (["--only", "env=nowhere"], "it has maze2d-open-v0"),
    ):
        done = bench(suite, *arguments)
        assert done.exit_code == 2
        assert cure in done.output


def test_without_a_suite_it_is_quickstart():
    mine, theirs = (expand(load_suite(path)) for path in (DEFAULT, SUITES / "quickstart.yaml"))
    assert [cell.key for cell in mine] == [cell.key for cell in theirs]
    cell, routings = choose(load_suite(DEFAULT), {})
    assert cell.variant == "after"
    assert [routing.name for routing in routings] == list(REGISTRY)

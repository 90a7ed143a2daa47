"""The grid: its size, and keys that stand for exactly what a cell is."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchbench.core.errors import UserError
from benchbench.routing import REGISTRY
from benchbench.suite.environments import KNOWN_ENVS
from benchbench.suite.grid import expand, select
from benchbench.suite.load import load_suite
from benchbench.suite.model import Suite

ROOT = Path(__file__).parents[2]
ENVS = st.lists(st.sampled_from(KNOWN_ENVS), min_size=1, unique=True)
SEEDS = st.integers(1, 5) | st.lists(st.integers(0, 99), min_size=1, max_size=5, unique=True)
VARIANTS = st.lists(st.sampled_from(list(REGISTRY)), min_size=1, unique=True)


def suite(envs=KNOWN_ENVS[:2], seeds=2, variants=("before", "after"), **more):
    return Suite.model_validate(
        {"name": "x", "seeds": seeds, "variants": list(variants),
         "envs": [env if isinstance(env, dict) else {"id": env} for env in envs], **more}
    )  # fmt: skip


@given(ENVS, SEEDS, VARIANTS)
def test_every_combination_is_one_cell_with_a_key_of_its_own(envs, seeds, variants):
    seed_list = list(range(seeds)) if isinstance(seeds, int) else seeds
    cells = expand(suite(envs, seeds, variants))
    combinations = [(cell.env, cell.seed, cell.variant) for cell in cells]
    assert combinations == [(e, s, v) for e in envs for s in seed_list for v in variants]
    assert len({cell.key for cell in cells}) == len(cells)


@given(ENVS, SEEDS, VARIANTS, st.text(max_size=30))
def test_streams_differ_by_env_seed_and_purpose_and_never_by_variant(envs, seeds, variants, why):
    streams = {}
    for cell in expand(suite(envs, seeds, variants)):
        streams.setdefault((cell.env, cell.seed), set()).add(cell.stream(why))
        assert cell.stream(why) != cell.stream(why + "'")
        assert 0 <= cell.stream(why) < 2**31
    assert all(len(values) == 1 for values in streams.values())
    assert len(set.union(*streams.values())) == len(streams)


def test_streams_do_not_depend_on_other_settings():
    """An edited suite keeps its pairs: the same (env, seed) starts from the same weights."""
    one = expand(suite())[0]
    other = expand(suite(agent={"tau": 0.5}, train={"updates": 3}, pixels={"size": 32}))[0]
    assert one.key != other.key
    assert one.stream("weights") == other.stream("weights")


def leaves(node, at=()):
    if isinstance(node, dict):
        for key, value in node.items():
            yield from leaves(value, (*at, key))
    else:
        yield at, node


# Another value for each key of a suite that decides what a cell does.
OTHER = {
    ("pixels", "size"): 32, ("pixels", "stack"): 2, ("pixels", "spacing"): 2,
    ("pixels", "centre"): True, ("agent", "encoder"): "resnet18",
    ("agent", "algorithm"): "drq-bc",
    ("agent", "precision"): "bf16", ("agent", "hidden"): [5],
    ("agent", "discount"): 0.5, ("agent", "expectile"): 0.5, ("agent", "doubleq_min"): 0.5,
    ("diagnose", "probe_on"): "held-out",
    ("train", "augmentation"): "random-shift", ("diagnose", "holdout"): 0.2,
    ("pixels", "distract"): {"tint": {"strength": 0.4}},
    ("evaluate", "distract"): {"preset": "easy"},
}  # fmt: skip


def test_the_key_changes_with_every_setting():
    base = suite([KNOWN_ENVS[0]])
    parts = ("pixels", "agent", "train", "evaluate", "diagnose")
    settings_ = {part: getattr(base, part).model_dump(mode="json") for part in parts}
    keys = {expand(base)[0].key}
    changed = 0
    for (part, name), value in leaves(settings_):
        if (part, name) in OTHER:
            other = OTHER[part, name]
        elif isinstance(value, int) and not isinstance(value, bool):
            other = value + 1
        else:
            other = value * 2 if value != 1.0 else 0.5
        keys.add(expand(suite([KNOWN_ENVS[0]], **{part: {name: other}}))[0].key)
        changed += 1
    for env in (
        {"data": {"transitions": 777}}, {"data": {"noise": 0.1}}, {"data": {"seed": 5}},
        {"action_repeat": 2}, {"proprio": ["velocity"]}, {"proprio": ["position"]},
    ):  # fmt: skip
        keys.add(expand(suite([{"id": KNOWN_ENVS[0], **env}]))[0].key)
        changed += 1
    keys.add(expand(suite([KNOWN_ENVS[0]], variants=["frozen"], observation="state"))[0].key)
    assert changed > 30
    assert len(keys) == changed + 2


AS_BEFORE = ("evaluate.final_episodes=0", "diagnose.probe_on=training")
OLDER_QUICKSTART = ("train.updates=2500", "evaluate.episodes=16", "diagnose.q_pairs=12")


@pytest.mark.parametrize(
    ("file", "overrides", "key"),
    [
        ("suites/canary", (), "5570ce24c8032b11"),
        ("tests/helpers/bullet_quickstart", (), "01a0bff870c52555"),
        ("tests/helpers/bullet_quickstart", OLDER_QUICKSTART, "f655adfcec962b24"),
        ("suites/nightly", (), "8c36a28e80edcc56"),
        ("suites/pixel_d4rl", AS_BEFORE, "e2886d5e981ab55c"),
        ("suites/reference_cloning", (), "094f6d08e3b050e4"),
        ("suites/reference_cpu", (), "b2bcdc0d57acf50b"),
        ("suites/reference_drq", (), "0e7980016bb4b9ea"),
        ("suites/reference_shift", (), "d08c6ea87120ad4c"),
        ("suites/reference_states", (), "3e50959b107173d5"),
        ("suites/reference_umaze", (), "c363810f47c9ba05"),
        ("suites/vd4rl", AS_BEFORE, "224d2dce360068f7"),
    ],
)
def test_cells_of_stored_results_keep_their_keys(file, overrides, key):
    """Baselines refer to these; a setting that came later is in the key only where it is used."""
    assert expand(load_suite(ROOT / f"{file}.yaml", overrides))[0].key == key


@pytest.mark.parametrize(
    "change",
    [{"encoder_in": ["own"]}, {"vae": "detached"}, {"name": "other"}],
)
def test_the_key_changes_with_the_routing(change):
    mine = {"name": "mine", "encoder_in": ["critic", "vae"], "critic": "applied", "vae": "applied"}
    other = mine | change
    if "vae" in change:
        other |= {"encoder_in": ["critic"]}
    one, two = (expand(suite(variants=[variant]))[0] for variant in (mine, other))
    assert one.key != two.key


def test_every_leaf_of_the_settings_is_in_the_key():
    cell = expand(suite(envs=[{"id": KNOWN_ENVS[0], "proprio": ["velocity"]}]))[0]
    twin = copy.copy(cell)
    assert twin.key == cell.key
    for at, _ in leaves(cell.settings()):
        told = cell.settings()
        node = told
        for part in at[:-1]:
            node = node[part]
        node[at[-1]] = "another value"
        changed = copy.copy(cell)
        changed.__dict__.pop("key", None)
        object.__setattr__(changed, "settings", lambda told=told: told)
        assert changed.key != cell.key, at


def test_the_key_does_not_change_with_words():
    mine = {"name": "mine", "encoder_in": ["own"], "critic": "applied", "vae": "applied"}
    plain = expand(suite(variants=[mine]))
    told = expand(suite(variants=[mine | {"why": "because"}], description="words"))
    assert [cell.key for cell in plain] == [cell.key for cell in told]
    # Nor with the order of the file, nor with what else is in the grid, nor with stated defaults.
    few = expand(suite(seeds=[1], variants=["after"], agent={"tau": 0.005}, deltas={"score": 1}))
    many = expand(suite(seeds=[3, 1], variants=["frozen", "after"]))
    assert {cell.key for cell in few} < {cell.key for cell in many}


def test_keys_are_the_same_in_every_process():
    program = (
        "import sys, json\nfrom benchbench.suite.model import Suite\n"
        "from benchbench.suite.grid import expand\n"
        "suite = Suite.model_validate(json.loads(sys.argv[1]))\n"
        "print(*[cell.key for cell in expand(suite)], *[c.stream('x') for c in expand(suite)])"
    )
    told = json.dumps(suite().model_dump(mode="json", exclude_unset=True))
    seen = {
        subprocess.run(
            [sys.executable, "-c", program, told], capture_output=True, text=True, check=True,
            env=os.environ | {"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("0", "1")
    }  # fmt: skip
    cells = expand(suite())
    assert seen == {
        " ".join([*(c.key for c in cells), *(str(c.stream("x")) for c in cells)]) + "\n"
    }


@settings(max_examples=50)
@given(ENVS, SEEDS, VARIANTS, st.data())
def test_select_keeps_what_matches_every_name(envs, seeds, variants, data):
    cells = expand(suite(envs, seeds, variants))
    there = {"env": envs, "variant": variants, "seed": sorted({str(c.seed) for c in cells})}
    only = {
        name: data.draw(st.sets(st.sampled_from(values), min_size=1))
        for name, values in there.items()
        if data.draw(st.booleans())
    }
    chosen = select(cells, only)
    matches = [
        c for c in cells
        if c.env in only.get("env", envs) and c.variant in only.get("variant", variants)
        and str(c.seed) in only.get("seed", there["seed"])
    ]  # fmt: skip
    assert chosen == matches
    assert chosen


@pytest.mark.parametrize(
    ("only", "words"),
    [
        ({"variant": {"aftr"}}, "--only variant=aftr: the grid has no such variant; it has before"),
        ({"variant": {"after", "frozen"}}, "--only variant=frozen: the grid has no such variant"),
        ({"seed": {"7"}}, "the grid has no such seed; it has 0, 1"),
        ({"env": {"open"}}, "the grid has no such env; it has maze2d-open-v0"),
        ({"colour": {"red"}}, "choose env, condition, variant, seed"),
    ],
)
def test_select_refuses_what_is_not_there(only, words):
    with pytest.raises(UserError, match=words):
        select(expand(suite()), only)


def test_a_data_set_may_follow_the_pair():
    """One set a seed, shared by its variants; seed 0's is the set that a plain suite has."""
    env = {"id": KNOWN_ENVS[0], "data": {"seed": "pair"}}
    cells = expand(suite([env], seeds=[0, 4]))
    assert {(cell.seed, cell.data.source.seed) for cell in cells} == {(0, 0), (4, 4)}
    assert len({cell.data.key for cell in cells}) == 2
    plain = expand(suite([KNOWN_ENVS[0]], seeds=[0, 4]))
    assert [cell.key for cell in cells[:2]] == [cell.key for cell in plain[:2]]
    assert {cell.key for cell in cells[2:]}.isdisjoint(cell.key for cell in plain)
    stored = suite([env]).model_dump(mode="json", exclude_unset=True)
    assert Suite.model_validate(stored).envs[0].data.seed == "pair"

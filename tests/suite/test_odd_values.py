"""What people write and YAML 1.1 or a table takes for something else: refused, with the cure."""

import copy

import pytest
import yaml
from helpers.suites import TINY

from benchbench.core.errors import UserError
from benchbench.suite.load import load_suite


def told_of(tmp_path, key, text, overrides=()):
    """What is said of the tiny suite with this text as the value of a key."""
    rest = yaml.safe_dump({k: v for k, v in copy.deepcopy(TINY).items() if k != key})
    (tmp_path / "s.yaml").write_text(f"{key}: {text}\n{rest}", encoding="utf-8")
    with pytest.raises(UserError) as told:
        load_suite(tmp_path / "s.yaml", overrides)
    return str(told.value).removeprefix(str(tmp_path / "s.yaml"))


@pytest.mark.parametrize(
    ("text", "cure"),
    [
        ("010", "reads 010 as 8, because a leading zero makes it octal; write 10"),
        ("[3, -011]", "reads -011 as -9, because a leading zero makes it octal; write -11"),
        ("[1:30]", "reads 1:30 as 90, because of the colon"),
        ("1:30:00", "reads 1:30:00 as 5400"),
        ("08", "not '08'; write 8"),
        ("1e1", "not '1e1'; write 10"),
        ("3.0", "not 3.0; write 3"),
        ('"3"', "not '3'; write 3, without quotes"),
        ("1,000", "write 1000"),
        ("[340282366920938463463374607431768211455]", "does not fit into 64 bits; write a smaller"),
        (str(2**63), "does not fit into 64 bits"),
        ("123456789", "is a count, of seeds 0, 1, …, and above 10,000; for that one seed write ["),
        ("yes", "not True"),
        ("10k", "not '10k'; write 10000"),
        ("0o10", "write a whole number, such as 5"),
        ("", "it is empty, or YAML's null; write a value, or take the key out"),
    ],
)
def test_odd_integers(tmp_path, text, cure):
    told = told_of(tmp_path, "seeds", text)
    assert told.startswith(":1: seeds")
    assert cure in told


def test_the_same_through_set(tmp_path):
    told = told_of(tmp_path, "name", "tiny", ("train.updates=0100",))
    assert told.startswith("--set train.updates=0100: ")
    assert "reads 0100 as 64" in told
    assert "a base is read before any --set" in told_of(tmp_path, "name", "tiny", ("base=canary",))


@pytest.mark.parametrize(
    ("text", "cure"),
    [
        ("on", "YAML reads yes, on and true as true; put it in quotes"),
        ("no", "YAML reads no, off and false as false; put it in quotes"),
        ("2001-01-01", "YAML reads it as a date; put it in quotes"),
        ("12", "YAML reads it as a number; put it in quotes"),
        ("", "it is empty, or YAML's null"),
        ("my suite", "should be letters, digits, '.', '_' and '-'"),
        ("my suite", "write my-suite"),
        ("..", "not '..'"),
        ('"a\\nb"', "write a-b"),
        ("../x", "write x"),
        ("été", "write ete"),
        ("[mine]", "write mine"),
        ("baselines", "holds other things than a suite's results; choose another name"),
        ("Images", "holds other things"),
        ("a" * 300, "at most 100 characters"),
    ],
)
def test_odd_names(tmp_path, text, cure):
    told = told_of(tmp_path, "name", text)
    assert told.startswith(":1: name: ")
    assert cure in told


@pytest.mark.parametrize(
    ("id_", "cure"),
    [
        ("..", "path to another folder"),
        ("a/../../b", "path to another folder"),
        ("dmc:..", "path to another folder"),
        ("", "is empty"),
        ("  ", "is empty"),
        ("a\nb", "line break"),
        ("a\\nb", "a backslash"),
        ("a\u200bb", "a character that is not seen"),
        ("a ", "a space at an end"),
        ("x" * 300, "has 300 characters; give it a shorter name"),
        ("all", "stands for all environments"),
    ],
)
def test_odd_ids(tmp_path, id_, cure):
    envs = [{"id": id_, "data": {"source": "file", "path": "x.npz"}}]
    told = told_of(tmp_path, "envs", yaml.safe_dump(envs, default_flow_style=True))
    assert cure in told


def test_odd_variants_and_lists(tmp_path):
    assert "put it in quotes" in told_of(tmp_path, "variants", "[before, on]")
    assert "write [before]" in told_of(tmp_path, "variants", "before")
    assert "it is empty" in told_of(tmp_path, "variants", "")
    assert "write [before, after]" in told_of(tmp_path, "variants", "{before: , after: }")
    assert "did you mean 'before'?" in told_of(tmp_path, "variants", "[BEFORE]")
    one = "{of: after, against: before}"
    assert "write [{against: before, of: after}]" in told_of(tmp_path, "contrasts", one)
    assert "its keys are of, against" in told_of(tmp_path, "contrasts", "[before, after]")
    assert "should hold keys and values" in told_of(tmp_path, "conditions", "[a, b]")
    assert "write 16" in told_of(tmp_path, "pixels", "{size: [16, 16]}")
    assert "write 16" in told_of(tmp_path, "pixels", "{size: 16x16}")
    assert "keep.policies: " in (told := told_of(tmp_path, "keep", "{policies: 'no'}"))
    assert "write false, without quotes" in told
    assert "write 0.1" in told_of(tmp_path, "diagnose", "{holdout: 10%}")
    assert "write a value, or take the key out" in told_of(tmp_path, "train", "")


@pytest.mark.parametrize(
    "text", ["&a [*a]", "{a: &x [1], b: {<<: *x}}", "\x00", "!!python/name:os"]
)
def test_hostile_yaml_ends_in_a_sentence(tmp_path, text):
    assert "Traceback" not in told_of(tmp_path, "envs", text)


def test_aliases_that_unfold_to_millions_are_refused(tmp_path):
    bomb = "a0: &a0 [x, x]\n" + "".join(
        f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40)
    )
    (tmp_path / "s.yaml").write_text(bomb)
    with pytest.raises(UserError, match="holds more than"):
        load_suite(tmp_path / "s.yaml")


@pytest.mark.parametrize("value", ["[]", "[null]", "[easy]", "{}", "3", "2020-01-01"])
@pytest.mark.parametrize("key", ["evaluate.distract", "envs.0.pixels.distract", "pixels.distract"])
def test_a_preset_that_is_no_name_is_refused(tmp_path, key, value):
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(TINY))
    with pytest.raises(UserError, match="distract"):
        load_suite(tmp_path / "s.yaml", [f"{key}.preset={value}"])


@pytest.mark.parametrize(
    "over", ["agent.hidden=[16, 2147483648]", "agent.feature_dim=8193", "pixels.size=1025",
             "pixels.stack=65"],
)  # fmt: skip
def test_networks_and_pictures_beyond_any_memory_are_refused(tmp_path, over):
    """Before 'plan' makes one for its estimate."""
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(TINY))
    with pytest.raises(UserError, match="less than or equal to"):
        load_suite(tmp_path / "s.yaml", [over])


def test_a_long_override_is_not_repeated_in_each_line(tmp_path):
    told = told_of(tmp_path, "name", "tiny", (f"contrasts={list(range(500))}",))
    assert len(told.splitlines()) == 11
    assert len(told) < 4000


def test_the_first_of_many_mistakes_are_told_and_the_rest_counted(tmp_path):
    told = told_of(tmp_path, "variants", str(list(range(500)))).splitlines()
    assert len(told) == 11
    assert "variants.0: " in told[0]
    assert told[-1] == "and 490 more like these"


@pytest.mark.parametrize(
    ("content", "cure"),
    [
        (b"seeds: 1\ntrain:\n\tupdates: 5\n", ":3: .*put spaces in the tab's place"),
        (b"name:tiny\nseeds: 1\n", "a space belongs behind each colon"),
        (b"seeds: 1\n---\nseeds: 2\n", "take out what follows '---'"),
        ("description: é\n".encode("latin-1"), "save it as UTF-8"),
        ("seeds: 1\n".encode("utf-16"), "save it as UTF-8"),
    ],
)
def test_files_that_editors_write_so_get_their_cure(tmp_path, content, cure):
    (tmp_path / "s.yaml").write_bytes(content)
    with pytest.raises(UserError, match=cure):
        load_suite(tmp_path / "s.yaml")

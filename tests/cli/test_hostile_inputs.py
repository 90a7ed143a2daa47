"""Damaged, hostile and odd inputs through the command line; ``tests/tools/fuzz.py`` tries more."""

import json
import zipfile

import pytest
from helpers.hostile import World
from helpers.hostile_kinds import KINDS

from benchbench.core.errors import UserError
from benchbench.results import pack

INPUTS, FIRST = 21, 196
"""Of each kind; numbers as the script gives them, some of which it found faults with."""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("world").resolve())


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.filterwarnings("ignore")
def test_every_input_ends_well_or_in_a_sentence(world, kind):
    first = FIRST + KINDS.index(kind)
    numbers = range(first, first + INPUTS * len(KINDS), len(KINDS))
    found = {number: world.tried(kind, number) for number in numbers}
    assert not {number: wrong for number, wrong in found.items() if wrong}


def test_the_whole_files_are_read(world):
    """So that what the others are refused for is their damage."""
    world.restore()
    with world.inside():
        for command in (
            ("plan", "tiny.yaml", "--device", "cpu"), ("data", "prepare", "own.yaml"),
            ("merge", "out/tiny", "tiny.zip"), ("compare", "baselines/tiny", "results/tiny"),
            ("judge", "scores.csv", "--delta", "1", "--out", "out/scores"), ("data", "verify"),
        ):  # fmt: skip
            code, text = world.call(command)
            assert code == 0, text
        (policy,) = list(world.work.glob("results/tiny/cells/*/policy.safetensors"))[:1]
        out = ("--format", "torchscript", "--out", "out/x.pt")
        code, text = world.call(("export", str(policy.parent), *out))
        assert code == 0, text


def archive(path, folder="tiny", **members):
    manifest = {"format": 1, "folder": folder, "files": dict.fromkeys(members, "0" * 64)}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("MANIFEST.json", json.dumps(manifest))
        for name, content in members.items():
            file.writestr(name, content)
    return path


def refusal(path):
    with pytest.raises(UserError) as told, pack.unpacked(path):
        pass
    assert str(told.value).startswith(f"{path}: ")
    return str(told.value)


@pytest.mark.parametrize("folder", ["..", "", ".", "../../evil", "/evil", "a/b", "..\\evil"])
def test_an_archives_folder_is_a_name(tmp_path, monkeypatch, folder):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    assert "is no archive" in refusal(archive(tmp_path / "x.zip", folder, evil=b"x"))
    assert not list((tmp_path / "temporary").iterdir())


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(pack, "MOST_UNPACKED", 2**20)
    told = refusal(archive(tmp_path / "x.zip", bomb=bytes(2**22)))
    assert "over 100 times its own size" in told


def test_a_manifest_that_is_none_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(pack, "MOST_MANIFEST", 10)
    assert "is no manifest" in refusal(archive(tmp_path / "x.zip", a=b"x"))

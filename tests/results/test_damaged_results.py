"""Damaged suites, results, policies, checkpoints, baselines and archives, drawn at random.

Each is read, or refused in one sentence and exit code 2, and nothing is written outside.
``FUZZ_ROUNDS=2000`` draws more of them than a test run has time for.
"""

import json
import random
import shutil
import zipfile
import zlib

import pytest
import yaml
from click.testing import CliRunner
from helpers.damage import FIRST, ROUNDS, damaged_bytes
from helpers.suites import TINY

import benchbench
from benchbench.cli.main import main
from benchbench.core.errors import UserError
from benchbench.results.checkpoints import About, Unusable, read_checkpoint, write_checkpoint
from benchbench.results.pack import MANIFEST, pack

NUMBERS = range(FIRST, FIRST + ROUNDS)


@pytest.fixture(scope="module")
def whole(data_home, tmp_path_factory):
    """The results of two cells, with their policies."""
    results = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCHBENCH_DATA", str(data_home))
        suite = TINY | {"variants": ["before", "after"]}
        assert not benchbench.run(suite, results=results, executor="debug", device="cpu").failures
    return results / "tiny"


@pytest.fixture
def folder(whole, tmp_path, monkeypatch):
    """A copy of it to damage, two folders down; everything else under tmp_path stays empty."""
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(whole, tmp_path / "results" / "tiny")


def call(*arguments, codes=(0, 2)):
    """The verb's output; code 2 comes with one line, and nothing ends in a traceback."""
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    told = f"{arguments}: {done.output[-600:]}"
    assert done.exit_code in codes, f"{told}\n{done.exception!r}"
    assert done.exception is None or isinstance(done.exception, SystemExit), told
    if done.exit_code == 2:
        last = done.output.splitlines()[-1]
        errors = [last] if last.startswith(("Error: ", "cannot compare: ")) else []
        assert len(errors) == 1, told
        assert len(errors[0]) < 900, told
    return done


TEXTS = [
    *("null", "[]", "{}", "-1", "1e999", ".nan", "'x'", "on", "010", "[[[]]]", "*no", "&a [*a]"),
    *("!!python/name:os", "\x00", "\u202e", "2001-01-01", "'" + "x" * 5000 + "'"),
]


def odd_suite(rng):
    """The text of a suite with a value, a key or some bytes changed."""
    lines = yaml.safe_dump(TINY, sort_keys=False).splitlines()
    for _ in range(rng.randint(1, 2)):
        at = rng.randrange(len(lines))
        key, colon, _ = lines[at].partition(":")
        change = rng.randrange(4)
        if change == 0 and colon:
            lines[at] = f"{key}: {rng.choice(TEXTS)}"
        elif change == 1:
            del lines[at]
        elif change == 2:
            lines.insert(at, rng.choice(lines))
        else:
            lines[at] = damaged_bytes(lines[at].encode() or b"x", rng).decode("utf-8", "replace")
    return "\n".join(lines)


def test_suites(tmp_path, tiny_data, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("benchbench.launch.plan.TRIAL_SECONDS", 0.0)
    path = tmp_path / "odd.yaml"
    refused = 0
    for number in range(FIRST, FIRST + 2 * ROUNDS):
        path.write_text(odd_suite(random.Random(number)), encoding="utf-8")
        refused += call("audit", path, codes=(0, 1, 2)).exit_code == 2 if number % 10 == 0 else 0
        try:
            benchbench.plan(path, device="cpu")
        except UserError as error:
            refused += 1
            lines = error.message.splitlines()
            assert all(line.startswith(str(path)) and len(line) < 900 for line in lines), lines
    assert refused > ROUNDS // 2
    assert {found.name for found in tmp_path.iterdir()} <= {"odd.yaml"}


def test_tables_and_their_suite(folder):
    files = sorted(path for path in folder.glob("*") if path.suffix in (".parquet", ".json"))
    assert len(files) > 4
    for number in NUMBERS:
        rng = random.Random(number)
        path = rng.choice(files)
        kept = path.read_bytes()
        path.write_bytes(damaged_bytes(kept, rng))
        call("status", "results/tiny")
        call("compare", "results/tiny", "results/tiny")
        if number % 15 == 0:
            call("report", "tiny")
        path.write_bytes(kept)


def test_published_cells(folder, tiny_data):
    files = sorted((folder / "cells").rglob("*.parquet"))
    assert len(files) > 8
    for number in NUMBERS:
        rng = random.Random(number)
        path = rng.choice(files)
        kept = path.read_bytes()
        path.write_bytes(damaged_bytes(kept, rng))
        call("merge", f"merged-{number}", "results/tiny")
        call("clean", "tiny", "--yes")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(kept)


def test_policies(folder):
    path = next((folder / "cells").rglob("policy.safetensors"))
    kept = path.read_bytes()
    for number in NUMBERS:
        path.write_bytes(damaged_bytes(kept, random.Random(number)))
        call("export", path.parent, "--format", "torchscript", "--out", "policy.pt")


def test_checkpoints(tmp_path):
    about = About("k", 3, 1, "cpu", "{}", "c", "d", "w")
    write_checkpoint(tmp_path / "c", about, {"numbers": list(range(500))})
    kept = (tmp_path / "c").read_bytes()
    for number in NUMBERS:
        (tmp_path / "c").write_bytes(damaged_bytes(kept, random.Random(number)))
        try:
            found, state = read_checkpoint(tmp_path / "c", "cpu")
        except Unusable:
            continue
        assert state == {"numbers": list(range(500))}, "its hash covers the state"
        assert found.key


def test_baselines(folder):
    baseline = folder.parent / "stored"
    baseline.mkdir()
    for path in folder.glob("*.json"):
        shutil.copy(path, baseline)
    for path in folder.glob("*.parquet"):
        shutil.copy(path, baseline)
    files = sorted(baseline.iterdir())
    for number in NUMBERS:
        rng = random.Random(number)
        path = rng.choice(files)
        kept = path.read_bytes()
        path.write_bytes(damaged_bytes(kept, rng))
        call("compare", "results/stored", "results/tiny", "--gate")
        path.write_bytes(kept)


class TestArchives:
    @pytest.fixture
    def archive(self, folder):
        pack(folder, folder.parent / "tiny.zip")
        shutil.rmtree(folder)
        return folder.parent / "tiny.zip"

    def test_damaged_bytes(self, archive, tmp_path):
        kept = archive.read_bytes()
        for number in NUMBERS:
            archive.write_bytes(damaged_bytes(kept, random.Random(number)))
            call("merge", f"merged-{number}", archive)
        assert {path.name.split("-")[0] for path in tmp_path.iterdir()} <= {"results", "merged"}

    @pytest.mark.parametrize(
        "name",
        ["../out.txt", "/out.txt", "a/../../out.txt", "..\\out.txt", "C:/out.txt", "./x/../../o"],
    )
    def test_names_that_lead_outside(self, archive, tmp_path, name):
        with zipfile.ZipFile(archive) as old:
            manifest = json.loads(old.read(MANIFEST))
        manifest["files"] |= {name: "0" * 64}
        with zipfile.ZipFile(archive, "w") as new:
            new.writestr(MANIFEST, json.dumps(manifest))
            for member in manifest["files"]:
                new.writestr(member, b"x")
        assert call("merge", "merged", archive).exit_code == 2
        assert not list(tmp_path.parent.rglob("out.txt"))

    def test_a_bomb_is_not_unpacked(self, archive, tmp_path):
        """A quarter of a megabyte that unpacks to a thousand times as much."""
        zeros = bytes(2**20)
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as new:
            new.writestr(MANIFEST, json.dumps(
                {"format": 1, "suite": "tiny", "folder": "tiny", "files": {"cells.parquet": "0"}}
            ))  # fmt: skip
            with new.open("cells.parquet", "w", force_zip64=True) as member:
                for _ in range(256):
                    member.write(zeros)
        assert archive.stat().st_size < 2**21
        assert "unpacks to" in call("merge", "merged", archive).output

    def test_a_manifest_that_is_a_bomb(self, archive):
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as new:
            new.writestr(MANIFEST, b"[" * 2**25)
        assert call("merge", "merged", archive).exit_code == 2

    def test_ways_of_compression_that_are_not_ours(self, archive):
        with zipfile.ZipFile(archive) as old:
            content = {name: old.read(name) for name in old.namelist()}
        whole = archive.read_bytes()
        for broken in (whole.replace(b"\x08\x00", b"\x63\x00"), zlib.compress(whole), b"PK"):
            archive.write_bytes(broken)
            assert call("merge", "merged", archive).exit_code == 2
        assert content

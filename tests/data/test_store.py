"""Data sets on disk: made once, whole or not there, and damage is named."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import namedtuple

import numpy as np
import pytest
from helpers.waiting import HANGS

from benchbench.core.errors import UserError
from benchbench.data import store
from benchbench.data.catalogue import sets_here
from benchbench.suite.dataset_identity import DataIdentity
from benchbench.suite.environments import WaypointData

OPEN = "maze2d-open-v0"


def identity(transitions=400):
    return DataIdentity.of(OPEN, WaypointData(transitions=transitions), 16, action_repeat=1)


def silent(done, total):
    pass


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCHBENCH_DATA", str(tmp_path))
    return tmp_path


PROGRAM = """
import sys
from benchbench.data import store
from benchbench.suite.dataset_identity import DataIdentity
from benchbench.suite.environments import WaypointData
source = WaypointData(transitions=int(sys.argv[1]))
identity = DataIdentity.of("maze2d-open-v0", source, 16, 1)
calls = []
def progress(done, total):
    if not calls:
        print("making", flush=True)
    calls.append(done)
print("asking", flush=True)
store.prepare(identity, progress)
print(store.open_dataset(identity).sha256, flush=True)
"""


def start(transitions):
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(transitions)], stdout=subprocess.PIPE, text=True
    )


def hear(maker, word):
    """Wait until it says so."""
    assert word in iter(lambda: maker.stdout.readline().strip(), "")


def test_of_two_processes_one_makes_the_set_and_both_get_it(monkeypatch, tmp_path):
    makers = [start(3000), start(3000)]
    said = [maker.communicate(timeout=HANGS)[0].split() for maker in makers]
    assert [maker.returncode for maker in makers] == [0, 0]
    assert sum("making" in words for words in said) == 1
    assert said[0][-1] == said[1][-1] == store.open_dataset(identity(3000)).sha256
    # Made again by a third process, elsewhere: the same bytes.
    monkeypatch.setenv("BENCHBENCH_DATA", str(tmp_path / "elsewhere"))
    store.prepare(identity(3000), silent)
    assert store.open_dataset(identity(3000)).sha256 == said[0][-1]


def test_a_killed_maker_leaves_nothing_that_looks_whole_and_the_next_one_cleans_up(cache):
    maker = start(200_000)
    hear(maker, "making")
    maker.send_signal(signal.SIGKILL)
    maker.wait(timeout=HANGS)
    maker.stdout.close()
    folder = cache / OPEN
    killed = identity(200_000)
    assert not store.is_here(killed)
    with pytest.raises(UserError, match="is not here; prepare it first"):
        store.open_dataset(killed)
    drafts = list(folder.glob(".*-draft"))
    assert len(drafts) == 1
    # The next maker of the same set, though it too is stopped at once.
    with pytest.raises(KeyboardInterrupt):
        store.prepare(killed, _interrupt)
    assert list(folder.glob(".*-draft")) == []
    assert not store.is_here(killed)


def test_who_waits_takes_over_from_a_killed_maker(cache):
    first = start(3000)
    hear(first, "making")
    first.send_signal(signal.SIGSTOP)  # it keeps the lock
    second = start(3000)
    hear(second, "asking")
    first.kill()
    first.wait(timeout=HANGS)
    first.stdout.close()
    said = second.communicate(timeout=HANGS)[0].split()
    assert second.returncode == 0
    assert said == ["making", store.open_dataset(identity(3000), verify=True).sha256]
    assert list((cache / OPEN).glob(".*-draft")) == []


def _interrupt(done, total):
    raise KeyboardInterrupt


def test_a_set_is_made_once_and_opened_as_it_was_made():
    made = []
    folder = store.prepare(identity(), lambda done, total: made.append((done, total)))
    assert made[-1] == (400, 400)
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert store.prepare(identity(), _interrupt) == folder
    dataset = store.open_dataset(identity())
    assert {n: t for n, t in _times(folder).items() if n in before} == before
    assert len(dataset) == 400
    assert dataset.frames.shape == (400, 16, 16, 3)
    assert dataset.states.shape == (400, 4)
    assert dataset.state_names == ("x", "y", "vx", "vy")
    assert np.bincount(dataset.episode).tolist() == [150, 150, 100]
    assert dataset.step_in_episode[[0, 149, 150, 399]].tolist() == [0, 149, 0, 99]
    assert dataset.sha256 == json.loads((folder / "card.json").read_text())["sha256"]


def _times(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def flip_a_byte(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["frames.npy", "transitions.hdf5"])
def test_damage_is_named_with_its_cure(name):
    folder = store.prepare(identity(), silent)
    flip_a_byte(folder / name)
    for _ in range(2):  # a first opening that failed does not count as a check
        with pytest.raises(UserError, match=f"{name}: has other bytes .* delete the folder"):
            store.open_dataset(identity())


def test_later_damage_is_seen_by_size_always_and_by_hash_on_request():
    folder = store.prepare(identity(), silent)
    store.open_dataset(identity())
    flip_a_byte(folder / "frames.npy")
    with pytest.raises(UserError, match=r"frames\.npy: has other bytes"):
        store.open_dataset(identity(), verify=True)
    os.truncate(folder / "frames.npy", 1000)
    with pytest.raises(UserError, match=r"frames\.npy: has another size"):
        store.open_dataset(identity())
    (folder / "frames.npy").unlink()
    with pytest.raises(UserError, match=r"frames\.npy: is missing"):
        store.open_dataset(identity())


def test_a_card_of_another_set_is_refused():
    folder = store.prepare(identity(), silent)
    card = json.loads((folder / "card.json").read_text())
    card["identity"]["source"]["noise"] = 0.1
    (folder / "card.json").write_text(json.dumps(card))
    with pytest.raises(UserError, match=r"card\.json: describes another data set"):
        store.open_dataset(identity())
    (folder / "card.json").write_text("{")
    with pytest.raises(UserError, match=r"card\.json: .*cannot be read"):
        store.open_dataset(identity())


@pytest.mark.parametrize("source", [{}, {"source": None}, {"source": ["file"]}, "file"])
def test_a_card_without_its_source_is_listed_as_damaged(source):
    folder = store.prepare(identity(), silent)
    card = json.loads((folder / "card.json").read_text())
    card["identity"]["source"] = source
    (folder / "card.json").write_text(json.dumps(card))
    (found,) = [one for one in sets_here() if one.folder == folder]
    assert not found.is_readable


def test_a_full_disk_is_said_before_anything_is_made(monkeypatch, cache):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(store.shutil, "disk_usage", lambda path: usage(10**9, 10**9, 1000))
    with pytest.raises(UserError, match=r"needs 0\.0 GB and 0\.0 GB are free|make room"):
        store.prepare(identity(), _interrupt)
    assert not list((cache / OPEN).glob("*draft*"))


def test_a_dataset_cannot_be_changed_through_its_frames():
    folder = store.prepare(identity(), silent)
    before = (folder / "frames.npy").read_bytes()
    frames = store.open_dataset(identity()).frames
    with pytest.raises(ValueError, match="read-only"):
        frames[0] = 7
    assert (folder / "frames.npy").read_bytes() == before


def test_the_default_folder_is_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.delenv("BENCHBENCH_DATA")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert store.cache_folder() == tmp_path / "xdg" / "benchbench"


def test_whole_episodes_are_held_out_the_same_ones_for_the_same_seed():
    store.prepare(identity(1500), silent)  # ten episodes
    dataset = store.open_dataset(identity(1500))
    train, held = store.split_episodes(dataset, 0.2, seed=3)
    assert sorted([*train, *held]) == list(range(1500))
    assert len(np.unique(dataset.episode[held])) == 2
    assert not set(dataset.episode[train]) & set(dataset.episode[held])
    again = store.split_episodes(dataset, 0.2, seed=3)
    assert np.array_equal(train, again[0])
    assert np.array_equal(held, again[1])
    assert any(
        not np.array_equal(held, store.split_episodes(dataset, 0.2, seed=s)[1]) for s in range(5)
    )


def test_a_single_episode_cannot_be_split():
    store.prepare(identity(120), silent)
    with pytest.raises(UserError, match="single episode"):
        store.split_episodes(store.open_dataset(identity(120)), 0.1, seed=0)


def test_waiting_does_not_hang_on_a_lock_file_that_a_dead_process_left(cache):
    folder = cache / OPEN
    folder.mkdir()
    (folder / f".{identity().key}.lock").touch()
    began = time.monotonic()
    store.prepare(identity(), silent)
    assert time.monotonic() - began < 20

"""Damaged files, drawn at random: each is read right or refused in one sentence that names it.

``FUZZ_ROUNDS=2000`` draws more of them than a test run has time for.
"""

import random
import shutil
import warnings

import h5py
import numpy as np
import pytest
from helpers.damage import FIRST, ROUNDS, check_sentence, damaged_bytes
from helpers.mujoco_files import record, write_d4rl
from helpers.own_data import write_own

from benchbench.core.errors import UserError
from benchbench.data import store
from benchbench.data.sources import d4rl_files, own_file, vd4rl
from benchbench.suite.dataset_identity import DataIdentity
from benchbench.suite.environments import FileData

# ------------------------------------------------------------------ damage


def put(values, rng, what):
    values = np.array(values, np.float64)
    values.reshape(-1)[rng.randrange(values.size)] = what
    return values


CHANGES = {
    "shorter": lambda v, rng: v[: -rng.randint(1, len(v))],
    "longer": lambda v, rng: np.concatenate([v, v[: rng.randint(1, len(v))]]),
    "no rows": lambda v, rng: v[:0],
    "a single value": lambda v, rng: np.float32(1),
    "one axis more": lambda v, rng: v[..., None].repeat(rng.randint(1, 3), -1),
    "one axis less": lambda v, rng: v.reshape(len(v), -1)[:, 0],
    "no columns": lambda v, rng: v.reshape(len(v), -1)[:, :0],
    "transposed": lambda v, rng: np.ascontiguousarray(np.asarray(v).T),
    "not a number": lambda v, rng: put(v, rng, np.nan),
    "infinite": lambda v, rng: put(v, rng, -np.inf),
    "beyond float32": lambda v, rng: put(v, rng, 1e300),
    "a half": lambda v, rng: put(v, rng, 0.5),
    "text": lambda v, rng: np.full(len(v), b"x"),
    "complex": lambda v, rng: np.asarray(v).astype(complex),
    "all true": lambda v, rng: np.ones_like(v),
    "all zero": lambda v, rng: np.zeros_like(v),
}


def damaged_columns(columns, rng):
    """One or two keys changed, taken out, or all of them cut to a row or to none."""
    columns = dict(columns)
    if rng.random() < 0.1:
        rows = rng.choice((0, 1, 2))
        return {key: v[:rows] if np.ndim(v) else v for key, v in columns.items()}
    for key in rng.sample(sorted(columns), rng.randint(1, 2)):
        if rng.random() < 0.15:
            del columns[key]
        else:
            columns[key] = CHANGES[rng.choice(sorted(CHANGES))](columns[key], rng)
    return columns


# ------------------------------------------------------------------ readers


class Reader:
    """A kind of file: how it is written whole, and what reading it gives."""

    name = ""

    def __init__(self, folder):
        self.folder = folder
        self.path = folder / self.name
        self.columns = self.make()
        self.write(self.columns)
        self.whole = self.path.read_bytes()

    def make(self):
        """The columns of a whole file."""
        return write_own(self.folder / "own.npz", rows=120, episode=20)

    def write(self, columns):
        np.savez_compressed(self.path, **columns)

    def read(self):
        """The rows by D4RL's keys, as they are handed on."""
        identity = DataIdentity.of("mine", FileData(path=str(self.path)), 16, 1)
        made = self.folder / "made"
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir()
        own_file.count(identity)
        own_file.make(identity, made, lambda done, total: None)
        with h5py.File(made / "transitions.hdf5") as file:
            rows = {key: file[key][:] for key in ("actions", "rewards", "terminals", "timeouts")}
            return rows | {"observations": file["observations"][:]}


class Npz(Reader):
    name = "mine.npz"


class PlainNpz(Npz):
    name = "plain.npz"

    def write(self, columns):
        np.savez(self.path, **columns)


class Hdf5(Reader):
    name = "mine.hdf5"

    def write(self, columns):
        write_d4rl(self.path, columns)


class D4RL(Hdf5):
    name = "hopper.hdf5"

    def make(self):
        return record("hopper", 130, seed=1)[0]

    def read(self):
        return d4rl_files.read(self.path, "hopper")[0]


class VD4RL64(Npz):
    name = "shard.npz"
    size = 64

    def make(self):
        rows = np.arange(vd4rl.LENGTH)
        rng = np.random.default_rng(0)
        return {
            "image": np.zeros((len(rows), 64, 64, 3), np.uint8),
            "action": rng.uniform(-1, 1, (len(rows), 6)).astype(np.float32),
            "reward": rng.uniform(0, 1, len(rows)).astype(np.float32),
            "discount": np.ones(len(rows), np.float32),
            "is_first": rows == 0,
            "is_last": rows == len(rows) - 1,
        }

    def read(self):
        rows = vd4rl.read(self.path, self.size)
        kept = rows.pop("kept")
        assert sum(len(piece) for piece in vd4rl.pictures(self.path, self.size)) == len(kept)
        return rows


class VD4RL84(VD4RL64):
    name = "shard.hdf5"
    size = 84

    def make(self):
        columns = super().make()
        step_type = np.where(columns.pop("is_first"), 0, np.where(columns.pop("is_last"), 2, 1))
        columns["observation"] = np.zeros((vd4rl.LENGTH, 3, 84, 84), np.uint8)
        del columns["image"]
        return columns | {"step_type": step_type}

    def write(self, columns):
        write_d4rl(self.path, columns)


READERS = (Npz, PlainNpz, Hdf5, D4RL, VD4RL64, VD4RL84)


@pytest.fixture(scope="module", params=READERS, ids=lambda reader: reader.__name__)
def reader(request, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCHBENCH_DATA", str(tmp_path_factory.mktemp("data")))
        yield request.param(tmp_path_factory.mktemp("files"))


def rows_or_sentence(reader):
    """What a reader gives: whole rows, or None where it refuses, in a sentence with the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            rows, told = reader.read(), None
    except UserError as error:
        rows, told = None, error.message
    if rows is None:
        check_sentence(told, reader.path)
        return None
    assert len({len(values) for values in rows.values()}) == 1
    for key, values in rows.items():
        assert values.dtype == (bool if key in ("terminals", "timeouts") else np.float32), key
        assert np.isfinite(values).all(), key
    ends = rows["terminals"] | rows["timeouts"]
    assert ends[-1]
    assert not ends[:-1].all()
    assert rows["actions"].shape[1] > 0
    return rows


def test_whole_files_are_read(reader):
    reader.path.write_bytes(reader.whole)
    assert rows_or_sentence(reader) is not None


def test_damaged_bytes(reader):
    for number in range(FIRST, FIRST + ROUNDS):
        reader.path.write_bytes(damaged_bytes(reader.whole, random.Random(number)))
        rows_or_sentence(reader)


def test_damaged_structure(reader):
    for number in range(FIRST, FIRST + ROUNDS):
        reader.write(damaged_columns(reader.columns, random.Random(number)))
        rows_or_sentence(reader)


def test_a_damaged_set_of_ones_own_store(tmp_path, monkeypatch):
    """Also behind the marker that says its hashes were right once."""
    monkeypatch.setenv("BENCHBENCH_DATA", str(tmp_path / "data"))
    write_own(tmp_path / "mine.npz", rows=120, episode=20)
    identity = DataIdentity.of("mine", FileData(path=str(tmp_path / "mine.npz")), 16, 1)
    folder = store.prepare(identity, lambda done, total: None)
    store.open_dataset(identity)
    for number in range(FIRST, FIRST + 3 * ROUNDS):
        rng = random.Random(number)
        path = folder / rng.choice(("transitions.hdf5", "frames.npy", "card.json"))
        whole = path.read_bytes()
        path.write_bytes(damaged_bytes(whole, rng))
        for verify in (False, True):
            told = f"{folder}: delete the folder"
            try:
                dataset = store.open_folder(folder, verify)
                assert len(dataset.frames) == len(dataset.actions) == len(dataset)
            except UserError as error:
                told = error.message
            assert "delete the folder" in told
            check_sentence(told, folder)
        path.write_bytes(whole)

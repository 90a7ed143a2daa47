"""D4RL's files: what they say is kept, the frames are those of the live run, damage is named."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers.mujoco_files import record, write_d4rl
from helpers.simulators import needs_renderer
from helpers.waiting import HANGS, wait_for
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchbench.core.errors import UserError
from benchbench.core.files import DRAFT
from benchbench.data import download, store
from benchbench.data.catalogue import CARD, FILES
from benchbench.data.sources import d4rl_files
from benchbench.envs import d4rl_reference
from benchbench.envs.mujoco import TASKS, MujocoPixelEnv, state_names
from benchbench.suite.dataset_identity import DataIdentity

ROWS = 130
IDS = {body: f"{body}-medium-v2" for body in TASKS}


@pytest.fixture(scope="session")
def recorded():
    return {body: record(body, ROWS, seed=1) for body in TASKS}


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCHBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "d4rl"))
    return tmp_path


def silent(done, total):
    pass


def identity(body="hopper", size=32):
    return DataIdentity.of(IDS[body], None, size)


def make(body, folder, columns, size=32):
    write_d4rl(d4rl_files.file_path(IDS[body]), columns)
    folder.mkdir(exist_ok=True)
    d4rl_files.make(identity(body, size), folder, silent)
    with h5py.File(folder / "transitions.hdf5") as file:
        stored = {key: file[key][:] for key in columns if key in file}
    return stored, np.load(folder / "frames.npy"), json.loads((folder / "card.json").read_text())


@pytest.mark.parametrize("body", TASKS)
def test_a_frame_from_the_file_is_the_frame_drawn_live(body, recorded, tmp_path):
    """Byte for byte, though the file holds the positions in half the precision."""
    columns, _ = recorded[body]
    _, frames, _ = make(body, tmp_path / "set", columns)
    env = MujocoPixelEnv(IDS[body], 32)
    env.reset(1)  # the recording's first episode
    ends = columns["terminals"] | columns["timeouts"]
    for row in range(int(ends.argmax()) + 1):
        assert np.array_equal(frames[row], env.frame()), row
        assert np.array_equal(columns["observations"][row][: len(env.state())], env.state())
        assert env.step(columns["actions"][row])[0] == pytest.approx(
            columns["rewards"][row], abs=1e-5
        )
    env.close()


def test_columns_cuts_and_card_are_the_files(recorded, tmp_path):
    columns, _ = recorded["hopper"]
    stored, frames, card = make("hopper", tmp_path / "set", columns)
    for key in ("observations", "actions", "rewards", "terminals", "infos/qpos", "infos/qvel"):
        assert np.array_equal(stored[key], columns[key]), key
    assert np.array_equal(stored["timeouts"][:-1], columns["timeouts"][:-1])
    assert stored["timeouts"][-1]  # broken off there, as D4RL's files are
    assert frames.shape == (ROWS, 32, 32, 3)
    assert card["state_names"] == list(state_names("hopper"))
    ends = np.flatnonzero(columns["terminals"] | columns["timeouts"])
    assert card["episodes"] == len(ends) + 1
    first = columns["rewards"][: ends[0] + 1].sum(dtype=float)
    assert card["return"]["min"] <= first <= card["return"]["max"]
    assert card["replay"]["max"] < 1e-6
    assert not (tmp_path / "set" / "drawn.json").exists()


def test_the_ants_contact_forces_are_left_out(recorded, tmp_path):
    columns, _ = recorded["ant"]
    assert columns["observations"].shape[1] == 111
    stored, _, _ = make("ant", tmp_path / "set", columns)
    assert np.array_equal(stored["observations"], columns["observations"][:, :27])


def test_a_killed_maker_is_gone_on_from_and_only_with_the_same_positions(recorded, tmp_path):
    columns, _ = recorded["hopper"]
    _, whole, _ = make("hopper", tmp_path / "whole", columns)
    of = hashlib.sha256(columns["infos/qpos"].tobytes()).hexdigest()
    for told, kept in ((of, True), ("other positions", False)):
        folder = tmp_path / str(kept)
        folder.mkdir()
        left = np.full((ROWS, 32, 32, 3), 7, np.uint8)
        np.save(folder / "frames.npy", left)
        (folder / "drawn.json").write_text(json.dumps({"rows": 50, "of": told}))
        (folder / f"{DRAFT}drawn.json-1").write_text("")  # killed as it wrote the next
        d4rl_files.make(identity(), folder, silent)
        frames = np.load(folder / "frames.npy")
        assert np.array_equal(frames[50:], whole[50:])
        assert np.array_equal(frames[:50], left[:50] if kept else whole[:50])
        assert {path.name for path in folder.iterdir()} == {*FILES, CARD}


PROGRAM = """
from benchbench.data import store
from benchbench.suite.dataset_identity import DataIdentity
if __name__ == "__main__":
    identity = DataIdentity.of("hopper-medium-v2", None, 64)
    store.prepare(identity, lambda done, total: print(done, flush=True))
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="children are listed in /proc")
@needs_renderer
def test_a_killed_maker_leaves_no_worker_and_what_it_drew(recorded, tmp_path):
    columns = {key: np.concatenate([v] * 40) for key, v in recorded["hopper"][0].items()}
    write_d4rl(d4rl_files.file_path(IDS["hopper"]), columns)
    (tmp_path / "maker.py").write_text(PROGRAM)
    maker = subprocess.Popen(
        [sys.executable, "maker.py"], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    first = int(maker.stdout.readline())
    children = Path(f"/proc/{maker.pid}/task/{maker.pid}/children").read_text().split()
    maker.kill()
    maker.wait(timeout=HANGS)
    maker.stdout.close()
    wait_for(lambda: not any(Path(f"/proc/{child}").exists() for child in children))
    assert not store.is_here(identity(size=64))
    (record_file,) = (tmp_path / "data").glob("*/.*-draft/drawn.json")
    drawn = json.loads(record_file.read_text())["rows"]
    assert first <= drawn < len(columns["rewards"])
    told = []
    store.prepare(identity(size=64), lambda *row: told.append(row))
    assert told[0][0] == drawn + 500
    frames = store.open_dataset(identity(size=64), verify=True).frames
    assert np.array_equal(frames[:ROWS], frames[-ROWS:])
    assert frames[:ROWS].any(axis=(1, 2, 3)).all()


def damaged(recorded, tmp_path, change):
    columns = {key: values.copy() for key, values in recorded["hopper"][0].items()}
    change(columns)
    path = write_d4rl(tmp_path / "damaged.hdf5", columns)
    with pytest.raises(UserError) as told:
        d4rl_files.read(path, "hopper")
    assert str(path) in told.value.message
    assert "\n" not in told.value.message
    return told.value.message


NEEDED = ("observations", "actions", "rewards", "terminals", "timeouts", "infos/qpos", "infos/qvel")


@pytest.mark.parametrize("key", NEEDED)
def test_a_missing_key_is_named(key, recorded, tmp_path):
    assert f"no key '{key}'" in damaged(recorded, tmp_path, lambda c: c.pop(key))


@pytest.mark.parametrize("key", NEEDED)
def test_a_key_of_another_length_is_named(key, recorded, tmp_path):
    told = damaged(recorded, tmp_path, lambda c: c.update({key: c[key][:-3]}))
    assert "rows" in told
    assert f"'{key}'" in told


@pytest.mark.parametrize("key", NEEDED)
def test_a_key_that_is_no_column_is_named(key, recorded, tmp_path):
    assert f"'{key}'" in damaged(recorded, tmp_path, lambda c: c.update({key: np.float32(1)}))
    three = np.zeros((ROWS, 2, 2), np.float32)
    assert f"'{key}' has the shape" in damaged(recorded, tmp_path, lambda c: c.update({key: three}))


@pytest.mark.parametrize("key", ["observations", "actions", "rewards", "infos/qpos", "infos/qvel"])
def test_what_is_not_a_number_is_named_with_its_row(key, recorded, tmp_path):
    for bad in (np.nan, np.inf):
        told = damaged(recorded, tmp_path, lambda c, bad=bad: c[key].__setitem__(5, bad))
        assert f"'{key}'" in told
        assert "row 5" in told


def test_another_bodys_file_is_refused(recorded, tmp_path):
    path = write_d4rl(tmp_path / "walker.hdf5", recorded["walker2d"][0])
    with pytest.raises(UserError, match=r"'observations' has the shape .* should have N x 11"):
        d4rl_files.read(path, "hopper")


def test_files_without_episodes_are_refused(recorded, tmp_path):
    def empty(columns):
        for key in columns:
            columns[key] = columns[key][:0]

    def endless(columns):
        columns["terminals"][:] = columns["timeouts"][:] = False

    def single_steps(columns):
        columns["terminals"][:] = True

    assert "holds no episode" in damaged(recorded, tmp_path, empty)
    assert "no episode ends" in damaged(recorded, tmp_path, endless)
    assert "one row long" in damaged(recorded, tmp_path, single_steps)


def test_flags_that_are_neither_true_nor_false_are_refused(recorded, tmp_path):
    told = damaged(recorded, tmp_path, lambda c: c.update(timeouts=np.full(ROWS, 0.5)))
    assert "'timeouts' is neither true nor false in row 0" in told


def test_positions_of_other_rows_are_refused(recorded, tmp_path):
    """Else every frame would show the state of the row before, and nothing would look wrong."""
    told = damaged(
        recorded, tmp_path, lambda c: c.update({"infos/qpos": np.roll(c["infos/qpos"], 1, axis=0)})
    )
    assert "do not belong to 'observations'" in told


@pytest.fixture(scope="session")
def hopper_file(recorded, tmp_path_factory):
    return write_d4rl(
        tmp_path_factory.mktemp("files") / "x.hdf5", recorded["hopper"][0]
    ).read_bytes()


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(cut=st.floats(0, 1), flips=st.lists(st.floats(0, 1), max_size=3), seed=st.integers(0, 255))
def test_a_file_cut_short_or_with_flipped_bytes_is_read_right_or_refused(
    cut, flips, seed, hopper_file, folders
):
    path = folders / "fuzzed.hdf5"
    data = bytearray(hopper_file)
    if not flips:
        del data[int(cut * (len(data) - 1)) :]
    for place in flips:
        data[int(place * (len(data) - 1))] ^= seed or 1
    path.write_bytes(data)
    told, read = "", {}
    try:
        read, _ = d4rl_files.read(path, "hopper")
    except UserError as error:
        told = error.message
    if told:
        assert str(path) in told
        assert "\n" not in told
    else:
        assert set(read) == set(NEEDED)
        assert {len(values) for values in read.values()} == {ROWS}


def test_gzip_damage_is_named_with_its_key(recorded, tmp_path):
    path = write_d4rl(tmp_path / "damaged.hdf5", recorded["hopper"][0])
    with h5py.File(path) as file:
        chunk = file["infos/qpos"].id.get_chunk_info(0)
    data = bytearray(path.read_bytes())
    middle = chunk.byte_offset + chunk.size // 2
    data[middle : middle + 40] = bytes(40)
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"damaged\.hdf5: the key 'infos/qpos' is damaged"):
        d4rl_files.read(path, "hopper")


def test_a_file_that_is_not_here_says_where_to_put_it(folders):
    told = d4rl_files.lacking(identity())
    assert str(folders / "d4rl" / "hopper_medium-v2.hdf5") in told
    assert "D4RL_DATASET_DIR" in told
    (folders / "d4rl").mkdir()
    (folders / "d4rl" / "hopper_medium-v2.hdf5").touch()
    assert d4rl_files.lacking(identity()) is None


def test_without_the_variable_the_file_is_where_d4rl_keeps_it(monkeypatch, tmp_path):
    monkeypatch.delenv("D4RL_DATASET_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    expected = tmp_path / ".d4rl" / "datasets" / "walker2d_medium_replay-v2.hdf5"
    assert d4rl_files.file_path("walker2d-medium-replay-v2") == expected


class Server(BaseHTTPRequestHandler):
    """Serves ``content``, breaking off once after ``breaks`` bytes; notes the ranges asked for."""

    def do_GET(self):
        server, asked = self.server, self.headers.get("Range")
        server.asked.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        body = server.content[start:]
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if server.breaks:
            body, server.breaks = body[: server.breaks], 0
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    running = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    running.content, running.breaks, running.asked = os.urandom(50_000), 0, []
    threading.Thread(target=running.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{running.server_port}/hopper_medium-v2.hdf5"
    monkeypatch.setattr(d4rl_reference, "dataset_url", lambda env_id: url)
    yield running
    running.shutdown()
    running.server_close()


def test_a_download_goes_on_where_it_broke_off(server, folders):
    path = d4rl_files.file_path(IDS["hopper"])
    server.breaks, told = 20_000, []
    with pytest.raises(UserError, match=r"cannot be downloaded .* put hopper_medium-v2\.hdf5 into"):
        d4rl_files.fetch(identity(), silent)
    assert not path.exists()
    d4rl_files.fetch(identity(), lambda *row: told.append(row))
    assert path.read_bytes() == server.content
    assert server.asked == [None, "bytes=16384-"]  # in pieces of 16 KiB
    assert told[-1] == (50_000, 50_000)
    d4rl_files.fetch(identity(), silent)  # it is here: nothing is asked for
    assert len(server.asked) == 2


def test_a_file_that_changed_since_it_was_first_read_is_refused(server, folders):
    path = d4rl_files.file_path(IDS["hopper"])
    d4rl_files.fetch(identity(), silent)
    digest = download.check_first_sight(path)
    assert (path.parent / f"{path.name}.sha256").read_text() == f"{digest}  {path.name}\n"
    path.write_bytes(b"something else")
    with pytest.raises(UserError, match="other bytes than when it was first read"):
        download.check_first_sight(path)
    path.unlink()
    server.content = b"yet another file"
    with pytest.raises(UserError, match=r"has other bytes than the SHA-256 in .* says"):
        d4rl_files.fetch(identity(), silent)
    assert not path.exists()


def test_no_network_is_one_sentence(monkeypatch, folders):
    url = "http://127.0.0.1:9/x/hopper_medium-v2.hdf5"  # nothing listens there
    monkeypatch.setattr(d4rl_reference, "dataset_url", lambda env_id: url)
    with pytest.raises(UserError) as told:
        d4rl_files.fetch(identity(), silent)
    assert told.value.message.count("\n") == 0
    assert told.value.message.endswith(
        f"put hopper_medium-v2.hdf5 into {folders / 'd4rl'}, or set D4RL_DATASET_DIR to the folder "
        "that has it"
    )
    assert "Connection refused" in told.value.message

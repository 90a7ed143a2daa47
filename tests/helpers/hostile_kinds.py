"""The kinds of hostile inputs: see :mod:`helpers.hostile`."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.torch
import yaml
from helpers.damage import damaged_bytes
from helpers.hostile import ODD, Commands, Kind, changed, odd_array

PACK = ("pack", "results/tiny", "--out", "out/x.zip")
EVIL = (
    "../../evil", "/tmp/evil-benchbench", "..\\evil", "a/../../../evil", "C:evil", "./evil", "",
    "results/../../../evil", "evil\x00.json", "a//b", "x" * 300, "suite.json/evil", "EVIL",
)  # fmt: skip
"""Names in an archive that would be files outside of it, or none."""


def _rewritten(path: str, rng: random.Random) -> None:
    file = Path(path)
    file.write_bytes(damaged_bytes(file.read_bytes(), rng))


def _suite_values(rng: random.Random) -> Commands:
    raw = changed(yaml.safe_load(Path("tiny.yaml").read_text()), rng)
    try:
        Path("s.yaml").write_text(yaml.safe_dump(raw, allow_unicode=rng.random() < 0.5))
    except yaml.YAMLError:
        Path("s.yaml").write_text("\t")
    return [("plan", "s.yaml", "--device", "cpu"), ("status", "s.yaml")]


def _suite_bytes(rng: random.Random) -> Commands:
    _rewritten("tiny.yaml", rng)
    return [("plan", "tiny.yaml", "--show"), ("power", "tiny.yaml")]


def _overrides(rng: random.Random) -> Commands:
    keys = ["seeds", "train.updates", "envs.0.id", "envs.0.pixels.size", "agent.hidden", "name",
            "variants", "envs.9.id", "a..b", "", ".", "conditions.x.train.updates", "keep", "-1",
            "envs.0.data.path", "evaluate.distract.preset", "base", "contrasts"]  # fmt: skip
    value = rng.choice(ODD)
    text = value if isinstance(value, str) else json.dumps(value)
    words = [f"{rng.choice(keys)}={text}", text, f"={text}"]
    told = rng.choice(words).replace("\x00", "\\0")
    name = str(rng.choice([o for o in ODD if isinstance(o, str)]))
    return [
        ("plan", "tiny.yaml", "--show", "--set", told),
        ("plan", "tiny.yaml", "--device", "cpu", "--only", told),
        ("status", name),
        ("data", "prepare", f"{name}"),
        ("report", name),
    ]


def _own_npz(rng: random.Random) -> Commands:
    if rng.random() < 0.4:
        _rewritten("mine.npz", rng)
    else:
        with np.load("mine.npz") as file:
            columns = {key: file[key] for key in file.files}
        for key in rng.sample(sorted(columns), rng.randint(1, 2)):
            if rng.random() < 0.3:
                columns[rng.choice(["x", "action", "obs", "images"])] = columns.pop(key)
            else:
                columns[key] = odd_array(columns[key], rng)
        np.savez_compressed("mine.npz", **columns)
    return [("data", "prepare", "own.yaml"), ("plan", "own.yaml", "--device", "cpu")]


def _own_hdf5(rng: random.Random) -> Commands:
    suite = Path("own.yaml")
    suite.write_text(suite.read_text().replace("mine.npz", "mine.hdf5"))
    if rng.random() < 0.5:
        _rewritten("mine.hdf5", rng)
    else:
        with h5py.File("mine.hdf5", "r+") as file:
            for key in rng.sample(sorted(file), rng.randint(1, 2)):
                values = file[key][:]
                del file[key]
                match rng.randrange(5):
                    case 0:
                        file[f"data/demo_{rng.randrange(3)}/{key}"] = values
                    case 1:
                        file[key] = h5py.SoftLink("/nowhere")
                    case 2:
                        file[key] = h5py.ExternalLink("evil.h5", "/x")
                    case 3:  # a bomb: a large array of which the file holds nothing
                        shape = (10**7, *values.shape[1:])
                        file.create_dataset(key, shape, values.dtype, chunks=(1, *values.shape[1:]))
                    case _:
                        odd = odd_array(values, rng)
                        if np.asarray(odd).dtype.kind not in "OU":
                            file[key] = odd
    return [("data", "prepare", "own.yaml"), ("data", "list", "own.yaml")]


def _npz_bomb(rng: random.Random) -> Commands:
    """A few bytes that say they are terabytes, or unfold to as much."""
    key = rng.choice(["frames", "actions", "rewards", "terminals"])
    count = rng.choice([2**20, 2**34, 2**62, -1])
    with zipfile.ZipFile("mine.npz") as file:
        members = {name: file.read(name) for name in file.namelist()}
    head = str({"descr": "|u1", "fortran_order": False, "shape": (count, 16, 16, 3)})
    text = head.encode().ljust(118)[:117] + b"\n"
    members[f"{key}.npy"] = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text
    if rng.random() < 0.3:
        members[f"{key}.npy"] += bytes(2**24)
    with zipfile.ZipFile("mine.npz", "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return [("data", "prepare", "own.yaml")]


def _tables(rng: random.Random) -> Commands:
    name = rng.choice(["cells", "evaluations", "training", "ledger", "features"])
    cell = next(Path("results/tiny/cells").iterdir())
    path = rng.choice([f"results/tiny/{name}.parquet", f"{cell}/{name}.parquet"])
    if rng.random() < 0.5:
        _rewritten(path, rng)
    else:
        table = pq.read_table(path)
        frame = table.to_pandas()
        column = rng.choice(list(frame.columns))
        match rng.randrange(5):
            case 0:
                frame = frame.drop(columns=[column])
            case 1:
                frame = frame.head(0)
            case 2:
                frame = pd.concat([frame, frame])
            case 3:
                odd = rng.choice(ODD)
                frame[column] = [odd if not isinstance(odd, int) else float(odd)] * len(frame)
            case _:
                frame[column] = frame[column].map(str)
        try:
            new = pa.Table.from_pandas(frame, preserve_index=False)
        except (pa.ArrowException, ValueError, OverflowError, UnicodeError):
            new = table.slice(0, 0)
        metadata = table.schema.metadata if rng.random() < 0.8 else {b"benchbench_format": b"99"}
        pq.write_table(new.replace_schema_metadata(metadata), path)
    return [
        ("status", "tiny"), PACK,
        ("compare", "baselines/tiny", "results/tiny", "--json"), ("history", "results/tiny"),
        ("merge", "out/tiny", "results/tiny"), ("power", "tiny.yaml"),
        ("plan", "tiny.yaml", "--device", "cpu"),
    ]  # fmt: skip


def _suite_json(rng: random.Random) -> Commands:
    path = Path("results/tiny/suite.json")
    if rng.random() < 0.3:
        _rewritten(str(path), rng)
    else:
        text = json.dumps(changed(json.loads(path.read_text()), rng))
        if rng.random() < 0.1:
            text = "[" * 100_000 + "]" * 100_000
        path.write_text(text)
    return [
        ("status", "tiny"), PACK, ("clean", "tiny", "--yes"),
        ("compare", "baselines/tiny", "results/tiny"), ("merge", "out/tiny", "results/tiny"),
    ]  # fmt: skip


def _policy(rng: random.Random) -> Commands:
    path = next(Path("results/tiny/cells").glob("*/policy.safetensors"))
    if rng.random() < 0.4:
        _rewritten(str(path), rng)
    else:
        with safetensors.safe_open(path, "pt") as file:
            about = dict(file.metadata())
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        card = changed(json.loads(about["benchbench"]), rng)
        about["benchbench"] = json.dumps(card) if rng.random() < 0.9 else "{"
        if rng.random() < 0.3:
            del tensors[rng.choice(sorted(tensors))]
        path.write_bytes(safetensors.torch.save(tensors, about))
    return [("export", str(path.parent), "--format", "torchscript", "--out", "out/x.pt")]


def _checkpoint(rng: random.Random) -> Commands:
    folder = Path("results/tiny")
    (folder / "checkpoints").mkdir(exist_ok=True)
    _rewritten("one.ckpt", rng)
    cell = sorted((folder / "cells").iterdir())[0]
    shutil.move("one.ckpt", folder / "checkpoints" / f"{cell.name}.ckpt")
    shutil.rmtree(cell)
    for room in ("running", "failed"):
        (folder / room).mkdir(exist_ok=True)
        (folder / room / f"{cell.name}.json").write_text(json.dumps(changed(
            {"kind": "error", "error": "x", "attempts": 1} if room == "failed" else
            {"key": cell.name, "pid": 1, "host": "x", "born": "", "device": "cpu", "since": 1.0,
             "first": 0, "updates": 3, "wanted": 5, "seen": 2.0}, rng)))  # fmt: skip
    return [("status", "tiny"), ("status", "tiny", "--json"), ("clean", "tiny", "--yes")]


def _baseline(rng: random.Random) -> Commands:
    path = "baselines/tiny/cells.parquet"
    if rng.random() < 0.6:
        _rewritten(path, rng)
    else:
        table = pq.read_table(path)
        about = {k.decode(): v.decode() for k, v in table.schema.metadata.items()}
        about["suite"] = json.dumps(changed(json.loads(about["suite"]), rng))
        columns = rng.sample(table.column_names, len(table.column_names) - rng.randrange(2))
        pq.write_table(table.select(columns).replace_schema_metadata(about), path)
    return [("baseline", "show", "--baselines", "baselines"),
            ("compare", "baselines/tiny", "results/tiny", "--gate")]  # fmt: skip


def _archive(rng: random.Random) -> Commands:
    with zipfile.ZipFile("tiny.zip") as file:
        members = {name: file.read(name) for name in file.namelist()}
    manifest = json.loads(members["MANIFEST.json"])
    names = [name for name in members if name != "MANIFEST.json"]
    evil = rng.choice(EVIL)
    mode, link = zipfile.ZIP_DEFLATED, False
    match rng.randrange(9):
        case 0:
            _rewritten("tiny.zip", rng)
            return _readers()
        case 1:  # named in the manifest too, as whoever means harm would
            members[evil] = b"evil"
            manifest["files"][evil] = "0" * 64
        case 2:
            manifest["folder"] = rng.choice(["../evil", "/tmp/evil-benchbench", "", "..", 3, None])
        case 3:
            manifest = changed(manifest, rng)
        case 4:  # a bomb
            bomb = bytes(rng.choice([2**20, 2**28]))
            members["bomb"] = bomb
            manifest["files"]["bomb"] = hashlib.sha256(bomb).hexdigest()
        case 5:
            members.pop(rng.choice(names))
        case 6:
            mode = rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
        case 7:
            link = True
        case _:
            members["MANIFEST.json"] = b"{"
    if members["MANIFEST.json"] != b"{":
        members["MANIFEST.json"] = json.dumps(manifest).encode()
    with zipfile.ZipFile("tiny.zip", "w", mode) as file:
        for name, content in members.items():
            about = zipfile.ZipInfo(name)
            about.compress_type = mode
            if link and name == "suite.json":
                about.external_attr, content = 0o120777 << 16, b"/etc/passwd"
            file.writestr(about, content)
    return _readers()


def _readers() -> Commands:
    return [("merge", "out/tiny", "tiny.zip"), ("compare", "tiny.zip", "results/tiny"),
            ("compare", "results/tiny", "tiny.zip", "--json")]  # fmt: skip


def _scores(rng: random.Random) -> Commands:
    path = Path("scores.csv")
    if rng.random() < 0.4:
        _rewritten("scores.csv", rng)
    else:
        lines = [line.split(",") for line in path.read_text().splitlines()]
        for _ in range(rng.randint(1, 4)):
            row = rng.choice(lines)
            row[rng.randrange(len(row))] = str(rng.choice(ODD)).replace("\n", " ")
        path.write_text("\n".join(",".join(line) for line in lines), errors="surrogateescape")
    return [("judge", "scores.csv", "--delta", "1", "--out", "out/scores")]


def _data_set(rng: random.Random) -> Commands:
    card = next(Path("data").glob("*/*/card.json"))
    if rng.random() < 0.5:
        files = [p for p in card.parent.iterdir() if p.is_file() and p.stat().st_size]
        _rewritten(str(rng.choice(sorted(files))), rng)
    else:
        card.write_text(json.dumps(changed(json.loads(card.read_text()), rng)))
    return [("data", "list"), ("data", "verify"), ("data", "rate", "own.yaml"),
            ("plan", "tiny.yaml", "--device", "cpu"), ("data", "list", "tiny.yaml")]  # fmt: skip


KINDS = (
    Kind("suite values", _suite_values),
    Kind("suite bytes", _suite_bytes),
    Kind("overrides and names", _overrides),
    Kind("npz", _own_npz),
    Kind("hdf5", _own_hdf5),
    Kind("npz bomb", _npz_bomb),
    Kind("tables", _tables),
    Kind("suite.json", _suite_json),
    Kind("policy", _policy),
    Kind("checkpoint and notes", _checkpoint),
    Kind("baseline", _baseline, codes=(1,)),
    Kind("archive", _archive),
    Kind("scores", _scores),
    Kind("data set", _data_set, codes=(1,)),
)

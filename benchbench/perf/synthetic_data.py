"""A data set of any number of rows and any size of frame, for measuring what these cost.

Its columns are another set's, over and over; its frames are black and lie in a file that takes no
room, as nothing is written into it. It says of itself that its source is no real one.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np

from benchbench.data.card import CARD, FILES
from benchbench.data.store import VERIFIED, columns_of, open_dataset, set_folder
from benchbench.suite.dataset_identity import DataIdentity
from benchbench.suite.environments import FileData


@contextmanager
def stretched(identity: DataIdentity, rows: int, size: int) -> Iterator[DataIdentity]:
    """A data set of any size, repeated from one that exists; it is removed after the block."""
    dataset = open_dataset(identity)
    source = FileData(path=f"{identity.env} over and over, {rows} rows")
    new = replace(identity, source=source, size=size, content="black")
    folder = set_folder(new)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        table, frames = (folder / name for name in FILES)
        again = np.arange(rows) % len(dataset)
        with h5py.File(table, "w") as file:
            for name, values in columns_of(set_folder(identity)).items():
                file.create_dataset(name, data=values[again], track_times=False)
        _take_no_room(frames, (rows, size, size, 3))
        files = {
            path.name: {"sha256": "", "bytes": path.stat().st_size} for path in folder.iterdir()
        }
        card = dataset.card | {"identity": new.settings(), "transitions": rows, "files": files}
        (folder / CARD).write_text(json.dumps(card), encoding="utf-8")
        (folder / VERIFIED).touch()  # its bytes are not checked
        yield new
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _take_no_room(path: Path, shape: tuple[int, ...]) -> None:
    """An array of zeros whose bytes are a hole in the file."""
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + int(np.prod(shape)))

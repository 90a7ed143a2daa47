"""Reading arrays out of files from elsewhere: a piece at a time, and never without a check.

Whatever is wrong with a file is one sentence with the file, the key and what to do.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import IO

import h5py
import numpy as np

from benchbench.core.errors import UserError

PIECE_BYTES = 2**26
"""Arrays are copied in pieces of about this size."""

PIECE_CHUNKS = 2**16
"""And of at most so many of HDF5's chunks."""

Shape = tuple[int | None, ...]
"""The expected shape of an array; None for any size. The first axis counts the rows."""


class ArrayFile:
    """An HDF5 or NPZ file whose arrays are read by key.

    Raises :class:`UserError` where the file is missing, damaged or neither of the two.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open: h5py.File | zipfile.ZipFile
        with self._telling("is neither HDF5 nor NPZ, or is cut short"):
            if not path.is_file():
                raise UserError(f"{path}: does not exist; check the path")
            is_zip = zipfile.is_zipfile(path)
            self._open = zipfile.ZipFile(path) if is_zip else h5py.File(path, "r")

    def __enter__(self) -> ArrayFile:
        return self

    def __exit__(self, *reason: object) -> None:
        self._open.close()

    @cached_property
    def names(self) -> set[str]:
        """The keys of all arrays in the file."""
        if isinstance(self._open, zipfile.ZipFile):
            return {name.removesuffix(".npy") for name in self._open.namelist()}
        names: set[str] = set()
        with self._telling("its list of keys is damaged"):
            self._open.visititems(
                lambda name, item: names.add(str(name)) if isinstance(item, h5py.Dataset) else None
            )
        return names

    def shape(self, key: str) -> tuple[tuple[int, ...], np.dtype]:
        """An array's shape and type, without reading it. Raises :class:`UserError`."""
        self._require(key)
        with self._telling(f"the key '{key}' cannot be read"):
            if isinstance(self._open, zipfile.ZipFile):
                with self._open.open(f"{key}.npy") as member:
                    return _header(member)
            found = self._open[key]
            return tuple(found.shape), found.dtype

    def pieces(self, key: str) -> Iterator[np.ndarray]:
        """The array in pieces along its first axis. Raises :class:`UserError`."""
        shape, dtype = self.shape(key)
        if not shape:
            raise UserError(f"{self.path}: the key '{key}' holds a single value, not a row a step")
        row_bytes = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
        rows = max(1, PIECE_BYTES // max(1, row_bytes))
        with self._telling(f"the key '{key}' is damaged"):
            if isinstance(self._open, zipfile.ZipFile):
                with self._open.open(f"{key}.npy") as member:
                    _header(member)
                    for start in range(0, shape[0], rows):
                        count = min(rows, shape[0] - start)
                        read = member.read(count * row_bytes)
                        yield np.frombuffer(read, dtype).reshape(count, *shape[1:])
                    if member.read(1):  # at the end, where the archive's checksum is looked at
                        raise ValueError("longer than its head says")
            else:
                array = self._open[key]
                if array.chunks:  # HDF5 takes memory for every chunk that a piece touches
                    rows = min(rows, array.chunks[0] * PIECE_CHUNKS)
                for start in range(0, shape[0], rows):
                    yield np.asarray(array[start : start + rows])

    def read(self, key: str) -> np.ndarray:
        """The whole array. Raises :class:`UserError`."""
        pieces, (shape, dtype) = self.pieces(key), self.shape(key)
        with self._telling(f"the key '{key}' is damaged"):
            values, done = np.empty(shape, dtype), 0
        for piece in pieces:
            values[done : done + len(piece)] = piece
            done += len(piece)
        return values

    def _require(self, key: str) -> None:
        if key not in self.names:
            there = " ".join(", ".join(sorted(self.names)).split())[:300] or "nothing"
            raise UserError(f"{self.path}: has no key '{key}'; it holds {there}")

    @contextmanager
    def _telling(self, what: str) -> Iterator[None]:
        """Report any exception that h5py, zipfile or numpy raise on corrupt bytes."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise UserError(f"{self.path}: {what} ({reason}); get or write it again") from None


def check_columns(
    path: Path,
    columns: Mapping[str, np.ndarray],
    shapes: Mapping[str, Shape],
    rows: str = "rewards",
) -> None:
    """Refuse columns of unequal length or wrong shape, or with values that are not finite.

    ``shapes`` are checked where a key has one; the key ``rows`` says how many rows there should be.
    Raises :class:`UserError` naming the file and key.
    """
    count = len(columns[rows])
    if count == 0:
        raise UserError(f"{path}: the key '{rows}' is empty; the file holds no episode")
    for key, values in columns.items():
        wanted = shapes.get(key)
        if wanted is not None and (
            values.ndim != len(wanted)
            or any(
                n == 0 or w not in (None, n)
                for w, n in zip(wanted[1:], values.shape[1:], strict=True)
            )
        ):
            names = iter("NMKL")
            told = " x ".join(next(names) if n is None else str(n) for n in wanted)
            cure = ""
            if values.ndim == 1 and len(wanted) == 2:
                cure = f"; one number a row is {key.split('/')[-1]}[:, None]"
            elif values.ndim == len(wanted) + 1 and values.shape[1] == 1:
                cure = f"; drop its second axis: {key.split('/')[-1]}[:, 0]"
            raise UserError(
                f"{path}: the key '{key}' has the shape {values.shape}, and should have {told}"
                f"{cure}"
            )
        if len(values) != count:
            raise _other_length(path, key, len(values), rows, count)
        if values.dtype.kind not in "fiub":
            name = key.split("/")[-1]
            raise UserError(
                f"{path}: the key '{key}' holds {values.dtype}, not numbers; write "
                f"{name} = {name}.astype(np.float32) if they can be so read"
            )
        with np.errstate(over="ignore"):  # what float32 cannot hold is infinite once it is stored
            finite = np.isfinite(values.astype(np.float32, copy=False))
        bad = np.flatnonzero(~finite.reshape(count, -1).all(axis=1))
        if len(bad):
            raise UserError(
                f"{path}: the key '{key}' is not a finite number in row {bad[0]}"
                f"{f' and {len(bad) - 1} others' if len(bad) > 1 else ''}; take those episodes out"
            )


def check_rows(file: ArrayFile, keys: Sequence[str], rows: str) -> None:
    """Refuse arrays of other lengths than that of the key ``rows``, before one is read.

    A small file can hold a huge array of zeros. Raises :class:`UserError`.
    """
    lengths = {key: shape[0] for key in (*keys, rows) if (shape := file.shape(key)[0])}
    for key, length in lengths.items():
        if length != lengths.get(rows, length):
            raise _other_length(file.path, key, length, rows, lengths[rows])


def _other_length(path: Path, key: str, length: int, rows: str, count: int) -> UserError:
    cure = ""
    if length == count + 1:
        cure = f"; what follows the last action is left out: {key.split('/')[-1]}[:-1]"
    elif key in ("terminals", "timeouts"):
        cure = f"; if they are numbers of rows, write {key} = np.isin(np.arange({count}), {key})"
    return UserError(
        f"{path}: the key '{key}' has {length} rows and '{rows}' {count}; "
        f"a row is one step, and every key has all of them{cure}"
    )


def refuse_other_length(file: ArrayFile, key: str, rows: str, count: int) -> None:
    """Refuse an array whose rows are not ``count``, those of the key ``rows``."""
    if (length := file.shape(key)[0][0]) != count:
        raise _other_length(file.path, key, length, rows, count)


def check_flags(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    """Refuse ``terminals`` and ``timeouts`` that are neither true nor false."""
    for key in ("terminals", "timeouts"):
        if (bad := np.flatnonzero(~np.isin(columns[key], (0, 1)))).size:
            raise UserError(
                f"{path}: the key '{key}' is neither true nor false in row {bad[0]}; "
                "get or write the file again"
            )


def check_episodes(path: Path, terminals: np.ndarray, timeouts: np.ndarray) -> None:
    """Refuse a set without transitions, in which every episode has a single row."""
    ends = terminals | timeouts
    if len(ends) < 2 or ends[:-1].all():
        raise UserError(
            f"{path}: every episode is one row long by 'terminals' and 'timeouts', so there is no "
            "transition; they should be true on the last row of an episode only"
        )


def _header(member: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type from the header of an ``.npy`` stream, which is left just after it."""
    version = np.lib.format.read_magic(member)
    read = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else (np.lib.format.read_array_header_2_0)
    )
    shape, fortran, dtype = read(member)
    if dtype.hasobject:
        raise ValueError("it holds Python objects; save it as numbers: np.asarray(…, np.float32)")
    if fortran and len(shape) > 1:
        raise ValueError("it is in Fortran's order; save np.ascontiguousarray(…) of it")
    return shape, dtype

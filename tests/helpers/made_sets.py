"""Data sets that tests make, read back from their files."""

import hashlib

import h5py


def columns_of(folder):
    """All columns of a set's ``transitions.hdf5``, by name."""
    with h5py.File(folder / "transitions.hdf5") as file:
        names = []
        file.visititems(lambda n, x: names.append(n) if isinstance(x, h5py.Dataset) else None)
        return {name: file[name][:] for name in names}


def hashes(folder):
    """The SHA-256 of every file of a set."""
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}

"""Grids that tests disturb, and their undisturbed results."""

import copy
import re

import pandas as pd
from helpers.suites import TIMES, TINY

from benchbench.cell.devices import Device
from benchbench.launch.executor import RunOptions
from benchbench.launch.local import Local
from benchbench.launch.resources import Slots
from benchbench.launch.run import run_suite
from benchbench.results.tables import TABLES, read_results
from benchbench.suite.grid import Grid, expand
from benchbench.suite.model import Suite

TOLD = copy.deepcopy(TINY) | {"variants": ["after", "frozen"]}
TOLD["train"] |= {"updates": 60}
TOLD["evaluate"] |= {"every": 40}
TOLD["diagnose"] |= {"signals_every": 12}
SUITE = Suite.model_validate(TOLD)
CELLS = expand(SUITE)
AFTER, FROZEN = CELLS
PATIENT = RunOptions(checkpoint_every=0.0)


def run(store, fault=None, options=PATIENT, suite=SUITE):
    """Run the grid in this process; returns the failures."""
    slots = Slots((Device("cpu"),), jobs=2, threads=1)
    return run_suite(Grid.of(suite), store, Local(slots, fault), options)


def tables(store):
    results = read_results(store.folder)
    frames = {name: getattr(results, name) for name in TABLES}
    return {n: f.drop(columns=[c for c in TIMES if c in f]) for n, f in frames.items()}


def assert_same(store, undisturbed):
    mine, theirs = tables(store), tables(undisturbed)
    for name in TABLES:
        pd.testing.assert_frame_equal(mine[name], theirs[name], check_exact=True)


def log_of(store, cell=AFTER):
    return store.log_path(cell.key).read_text()


def resumed(store, cell=AFTER):
    """The updates after which a cell went on, each time it did."""
    return [int(n) for n in re.findall(r"going on after update (\d+)", log_of(store, cell))]

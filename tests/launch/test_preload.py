"""The fork server holds what a cell imports: each import left to the cell is paid a cell."""

import os
import subprocess
import sys
from pathlib import Path

IN_A_CELL = """
import sys
import benchbench.launch.preload, torch
before = set(sys.modules)
from pathlib import Path
from benchbench.cell.devices import Device
from benchbench.launch.worker import work
from benchbench.results.store import Store
from helpers.suites import tiny_cell
held = set(sys.modules)
store, said = Store(Path(sys.argv[1]), "tiny"), []
work(tiny_cell(), Device("cpu"), 1, 1, store, 3600, lambda *told: said.append(told), to_log=False)
assert said[-1][0] == "done", said
assert not torch.cuda.is_initialized()
print(*sorted({name.partition(".")[0] for name in held - before}))
print(*sorted(name for name in set(sys.modules) - held if "benchbench.envs." not in name))
"""


def test_a_cell_imports_nothing_of_weight_that_the_fork_server_does_not_hold(tmp_path, tiny_data):
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", IN_A_CELL, tmp_path]
    told = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    first, while_at_work = told.stdout.splitlines()[-2:]
    assert set(first.split()) <= {"helpers"}
    assert len(while_at_work.split()) < 10, while_at_work

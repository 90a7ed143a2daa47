"""Threads that wait do not spin, unless the user wants them to."""

import os
import subprocess
import sys

import pytest

ASK = "import benchbench.cli, os, sys; print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"


@pytest.mark.parametrize(("stated", "used"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_the_command_line_says_so_before_torch_is_there(stated, used):
    env = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    env |= {} if stated is None else {"OMP_WAIT_POLICY": stated}
    told = subprocess.run([sys.executable, "-c", ASK], env=env, capture_output=True, text=True)
    assert told.stdout.split() == [used, "False"]

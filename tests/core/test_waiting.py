"""Nobody waits in vain: threads sleep while they wait, and the command line answers at once."""

import os
import subprocess
import sys

import pytest

ASK = (
    "import benchbench.cli.main, os, sys\n"
    "print(os.environ['OMP_WAIT_POLICY'], {'torch', 'pandas', 'matplotlib'} & set(sys.modules))"
)


@pytest.mark.parametrize(("stated", "used"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_the_command_line_says_so_and_leaves_slow_imports_to_the_verbs(stated, used):
    env = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    env |= {} if stated is None else {"OMP_WAIT_POLICY": stated}
    told = subprocess.run([sys.executable, "-c", ASK], env=env, capture_output=True, text=True)
    assert told.stdout.split() == [used, "set()"]

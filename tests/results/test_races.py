"""Two commands on one folder at once, a round of a pair; more: ``tests/tools/races.py``."""

import subprocess
import sys
from pathlib import Path

import pytest

CHOSEN = ("data and data", "run and run", "run and clean", "run and merge here")
"""The pairs that people start most; the script takes all of them."""

SCRIPT = Path(__file__).parents[1] / "tools" / "races.py"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_two_at_once_end_well_and_in_the_folder_of_one_after_the_other():
    """Whoever comes first, and however far it is: the verdict is on what is left behind."""
    chosen = [word for name in CHOSEN for word in ("--race", name)]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--rounds", "1", *chosen],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(CHOSEN)} rounds, 0 with a fault" in done.stdout

"""Two commands on one folder at once, a round of each pair; more: ``tests/tools/races.py``."""

import subprocess
import sys
from pathlib import Path

import pytest
from helpers.racing import RACES

CHOSEN = [
    race.name for race in RACES if race.name not in ("merge here and report", "clean and report")
]
"""All but the two that take longest beside 'report and report'."""

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

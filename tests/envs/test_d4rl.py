"""The door to d4rl: it opens anywhere, in silence, and nothing else opens it."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.simulators import needs_bullet

import benchbench
from benchbench.envs import d4rl, make_pixel_env

pytestmark = needs_bullet

PACKAGE = Path(benchbench.__file__).parent


def test_only_one_room_imports_d4rl_and_gym():
    importers = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            if any(name.split(".")[0] in ("d4rl", "gym") for name in names):
                importers.add(path.relative_to(PACKAGE).as_posix())
    assert importers == {"envs/d4rl.py"}


def test_a_fresh_process_prints_nothing_and_imports_d4rl_late(tmp_path):
    program = (
        "import sys\n"
        "from benchbench.data import store\n"
        "from benchbench.data.sources import waypoint\n"
        "from benchbench.envs import d4rl\n"
        "assert 'd4rl' not in sys.modules and 'gym' not in sys.modules\n"
        "env = d4rl.make_env('bullet-maze2d-open-v0')\n"
        "from benchbench.envs import make_pixel_env\n"
        "pixels = make_pixel_env('bullet-maze2d-open-v0', 16)\n"
        "pixels.reset(0)\n"
        "from d4rl import offline_env\n"
        "assert offline_env.DATASET_PATH == sys.argv[1], offline_env.DATASET_PATH\n"
    )
    env = os.environ | {"D4RL_DATASET_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], env=env, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []  # the maze's model is not left in the shared folder


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="writes into /proc, which refuses")
def test_a_home_that_takes_nothing_is_no_hindrance():
    """D4RL makes its folder of downloads there when it is imported."""
    program = (
        "import os\n"
        "from benchbench.envs import d4rl\n"
        "d4rl.load()\n"
        "from d4rl import offline_env\n"
        "assert offline_env.DATASET_PATH == '/proc/nobody/.d4rl/datasets'\n"
        "assert 'D4RL_DATASET_DIR' not in os.environ\n"
    )
    env = {k: v for k, v in os.environ.items() if k != "D4RL_DATASET_DIR"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=env | {"HOME": "/proc/nobody"}, capture_output=True,
        text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("env_id", "limit", "random_return", "expert_return"),
    # d4rl.infos.REF_MIN_SCORE and REF_MAX_SCORE
    [("bullet-maze2d-open-v0", 150, 8.75, 64.15), ("bullet-maze2d-umaze-v0", 300, 32.46, 153.99)],
)
def test_limits_and_scores_are_d4rls_own_times_100(env_id, limit, random_return, expert_return):
    env = make_pixel_env(env_id, 16)
    assert env.max_episode_steps == limit
    assert env.normalized_score(random_return) == pytest.approx(0)
    assert env.normalized_score(expert_return) == pytest.approx(100)
    env.close()


def test_errors_still_come_through_the_silence(capfd):
    def fail():
        with d4rl.quiet():
            print("unheard")
            os.write(1, b"unheard")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    print("heard")
    assert capfd.readouterr() == ("heard\n", "")

"""A Ray cluster in processes of its own, driven through ``ray_nodes.py``."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


class Nodes:
    """A cluster of its own, and the folder in which its nodes stand."""

    def __init__(self, folder, data):
        self.ray = tempfile.mkdtemp(prefix="bb-ray-", dir="/tmp")  # sockets' names must be short
        env = os.environ | {
            "BENCHBENCH_DATA": str(data),
            "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests"))),
        }
        self.process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("ray_nodes.py"), self.ray],
            cwd=folder, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip
        try:
            self.address = self._line()
        except BaseException:
            self.end()
            raise

    def tell(self, word, *arguments):
        self.process.stdin.write(" ".join([word, *arguments]) + "\n")
        self.process.stdin.flush()
        assert self._line() == word

    def add(self, **offer):
        self.tell("add", json.dumps(offer))

    def end(self):
        self.process.stdin.close()
        try:
            self.process.wait(30)
        finally:
            for pid in self.left():
                os.kill(pid, signal.SIGKILL)
            shutil.rmtree(self.ray, ignore_errors=True)

    def left(self):
        """Processes of this cluster; their command lines name its folder."""
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if self.ray.encode() in path.read_bytes():
                    yield int(path.parent.name)
            except OSError:
                continue

    def _line(self):
        line = self.process.stdout.readline().strip()
        assert line, "the cluster has ended"
        return line

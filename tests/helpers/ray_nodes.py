"""A Ray cluster on this machine, for the length of some tests: ``python ray_nodes.py FOLDER``.

``FOLDER`` is Ray's own, with a short name. Prints the address of a head that offers nothing, then
does what standard input says, repeats the word when it is done, and ends when that does:

- ``add NODE``: a node that offers what the JSON says;
- ``kill PID``: end the node that the process is on, as a machine ends: everything on it at once;
- ``freeze PID``: stop everything on it, as a machine that loses its network: it says nothing more;
- ``clear``: take the nodes away that are left.
"""

import json
import os
import signal
import sys
from pathlib import Path

os.environ |= {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_health_check_initial_delay_ms": "500",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "2",
    "RAY_memory_monitor_refresh_ms": "0",  # the machine's other programs are none of the tests'
}

from ray.cluster_utils import Cluster

SMALL = {"object_store_memory": 80 * 2**20}


def parents():
    """The parent of each process here."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            found[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    return found


def line_of(pid, parent):
    """The process and those that it descends from."""
    while pid in parent:
        yield pid
        pid = parent[pid]


def end_node_of(pid, nodes, signs):
    """End it by these signals; returns the node and the processes on it."""
    parent = parents()
    raylets = {node.all_processes["raylet"][0].process.pid: node for node in nodes}
    raylet = next(one for one in line_of(pid, parent) if one in raylets)
    doomed = [one for one in parent if raylet in line_of(one, parent)]
    for sign in signs:
        for one in doomed:
            os.kill(one, sign)
    return raylets[raylet], doomed


def main():
    # Ray notes the head's address in a folder for all clusters, which it takes to be there.
    os.environ["RAY_TMPDIR"] = sys.argv[1]
    Path(sys.argv[1], "ray").mkdir()
    head = {"num_cpus": 0, "num_gpus": 0, "temp_dir": sys.argv[1], "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=SMALL | head)
    nodes, frozen = [], []
    try:
        print(cluster.address, flush=True)
        for line in sys.stdin:
            word, _, rest = line.strip().partition(" ")
            if word == "add":
                nodes.append(cluster.add_node(**SMALL, **json.loads(rest)))
            elif word == "kill":  # stopped first, so that none sees another die
                node, _ = end_node_of(int(rest), nodes, (signal.SIGSTOP, signal.SIGKILL))
                node.all_processes["raylet"][0].process.wait()
                nodes.remove(node)
            elif word == "freeze":
                node, still = end_node_of(int(rest), nodes, (signal.SIGSTOP,))
                nodes.remove(node)
                frozen += still
            elif word == "clear":
                while nodes:
                    cluster.remove_node(nodes.pop())
            print(word, flush=True)
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGKILL)
        cluster.shutdown()


if __name__ == "__main__":
    main()

"""Waiting for processes, which a busy machine may make take long: no verdict is by the clock."""

import time
from pathlib import Path

HANGS = 1800
"""Seconds after which what is waited for is taken to hang."""


def wait_for(condition, state=lambda: "waited in vain"):
    """What ``condition`` returns, once that is true; else ``state()`` says how things stand."""
    end = time.monotonic() + HANGS
    while not (found := condition()):
        assert time.monotonic() < end, state()
        time.sleep(0.05)
    return found


def family(session):
    """The living processes of a session, with their parents, by /proc."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent, _, of = stat.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(of) == session and state != "Z":
            found[int(stat.parent.name)] = int(parent)
    return found

"""What the fork server imports once, so that a cell's process starts in milliseconds.

It imports torch, the simulators and the cell's own code, and touches neither CUDA nor threads.
"""
# ruff: noqa: E402

import signal

signal.signal(signal.SIGINT, signal.SIG_IGN)  # before all else: Ctrl-C is the parent's to handle

import torch._dynamo  # noqa: F401  torch's optimizers would import it at the first use, in 1 s

from benchbench.envs import d4rl

if d4rl.is_installed():
    d4rl.load()
else:
    import mujoco  # noqa: F401

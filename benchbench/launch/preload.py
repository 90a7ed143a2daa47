"""What the fork server imports once, so that a cell's process starts in milliseconds.

That is all that a cell imports, lazily or not: torch, the simulators, the cell's own code. CUDA is
not touched, and no thread started but the one of Arrow's memory allocator, which is made for forks.
"""
# ruff: noqa: E402, F401

import gc
import signal

signal.signal(signal.SIGINT, signal.SIG_IGN)  # before all else: Ctrl-C is the parent's to handle

import sklearn.linear_model
import sklearn.metrics
import sklearn.model_selection
import sklearn.preprocessing
import torch._dynamo  # torch's optimizers would import it at the first use, in 1 s

import benchbench.cell.train
import benchbench.launch.stacks
import benchbench.launch.worker
from benchbench.envs import d4rl

if d4rl.is_installed():
    d4rl.load()
else:
    import mujoco

# Else a cell's first full collection goes over some 450,000 objects that it shares with the others,
# in a quarter of a second, and its marks copy 120 MB of their pages.
gc.freeze()

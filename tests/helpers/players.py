"""Environments that pools play, in files that a worker imports: no pytest and no torch."""

import os
import signal
import sys
import time
from functools import partial

import numpy as np

from benchbench.core.errors import UserError
from benchbench.envs import make_pixel_env
from benchbench.envs.pool import Pool

MAZE, HOPPER = "maze2d-open-v0", "hopper-medium-v2"


def maker(env_id, size=16):
    return partial(make_pixel_env, env_id, size, 1)


class Lost(Exception):
    """Cannot be made again from its words alone, as a pipe would have to."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


class Odd:
    """Does what its action says: 0 tells of its process, others go wrong or never end."""

    can_reset = True

    def reset(self, seed):
        self.seed = seed

    def step(self, action):
        match int(action):
            case 1:
                raise UserError("the camera is broken; mend it")
            case 2:
                raise Lost("this", "that")
            case 3:
                os.kill(os.getpid(), signal.SIGKILL)
            case 4:
                sys.exit(7)
        return 1.0, False, False

    def data_reward(self):
        return 0.0

    def state(self):
        return np.array([os.getpid(), "torch" in sys.modules])

    def proprio(self, names):
        return np.zeros(0)

    def close(self):
        pass


if __name__ == "__main__":  # a cell's process that plays until it is killed
    pool = Pool(maker(MAZE), 3, processes=3)
    pool.reset({0: 0, 1: 1, 2: 2})
    print("playing", flush=True)
    while True:
        pool.step({place: np.ones(2) for place in range(3)})
        time.sleep(0.001)

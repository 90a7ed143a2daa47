"""What an audit costs on a pixel agent: time and memory against the plain steps, in turns.

Run ``python tests/tools/audit_cost.py``. Each round times the same steps plain and audited, one
after the other, so that a busy machine slows both; the ratio's median and quartiles over the rounds
are printed. Memory is the process's peak (``VmHWM``) in a fresh process for each of the two.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import nn

import benchbench

STEPS = 5


class PixelAgent:
    """DrQ-like: a convolutional encoder, twin critics and a target, an actor on its features."""

    def __init__(self, size, channels=32, hidden=256):
        torch.manual_seed(0)
        self.size = size
        self.encoder = nn.Sequential(
            nn.Conv2d(9, channels, 3, 2), nn.ReLU(), nn.Conv2d(channels, channels, 3), nn.ReLU(),
            nn.Conv2d(channels, channels, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(50),
            nn.LayerNorm(50), nn.Tanh(),
        )  # fmt: skip
        self.encoder(torch.zeros(1, 9, size, size))
        self.critics, self.targets = ([self._head(56, 1, hidden) for _ in range(2)]
                                      for _ in range(2))  # fmt: skip
        self.actor = self._head(50, 6, hidden)
        self.critic_opt = torch.optim.Adam(
            [p for m in (self.encoder, *self.critics) for p in m.parameters()]
        )
        self.actor_opt = torch.optim.Adam(self.actor.parameters())

    @staticmethod
    def _head(inputs, outputs, hidden):
        return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden),
                             nn.ReLU(), nn.Linear(hidden, outputs))  # fmt: skip

    def step(self, batch=64):
        obs, action = torch.rand(batch, 9, self.size, self.size), torch.rand(batch, 6)
        features = self.encoder(obs)
        with torch.no_grad():
            goal = torch.minimum(*(t(torch.cat([features, action], 1)) for t in self.targets))
        q1_loss, q2_loss = ((c(torch.cat([features, action], 1)) - goal - 1).square().mean()
                            for c in self.critics)  # fmt: skip
        critic_loss = q1_loss + q2_loss
        self.critic_opt.zero_grad()
        critic_loss.backward()
        self.critic_opt.step()
        features = features.detach()
        actor_loss = -self.critics[0](torch.cat([features, self.actor(features).tanh()], 1)).mean()
        self.actor_opt.zero_grad()
        actor_loss.backward()
        self.actor_opt.step()
        with torch.no_grad():
            for old, new in zip(self.targets, self.critics, strict=True):
                for a, b in zip(old.parameters(), new.parameters(), strict=True):
                    a.lerp_(b, 0.01)


def plain(agent):
    for _ in range(STEPS):
        agent.step()


def audited(agent):
    return benchbench.audit(agent, agent.step, steps=STEPS, max_steps=STEPS)


def timed(run, agent):
    start = time.perf_counter()
    run(agent)
    return time.perf_counter() - start


def peak(kind, size):
    """Peak memory in MiB of a fresh process that runs the steps, and of one that only builds."""
    command = [sys.executable, __file__, "--peak", kind, "--size", str(size)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--size", type=int, default=48)
    parser.add_argument("--peak", choices=["plain", "audited"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    agent = PixelAgent(options.size)
    if options.peak:
        {"plain": plain, "audited": audited}[options.peak](agent)
        status = Path("/proc/self/status").read_text()
        print(json.dumps(int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024))
        return
    plain(agent)
    ratios = []
    for _ in range(options.rounds):
        with_audit, without = timed(audited, agent), timed(plain, agent)
        ratios.append(with_audit / without)
    low, middle, high = statistics.quantiles(ratios, n=4)
    print(f"time: {middle:.2f} times the plain steps (quartiles {low:.2f} to {high:.2f}, "
          f"{min(ratios):.2f} to {max(ratios):.2f} over {options.rounds} rounds of {STEPS} steps, "
          f"{options.size} x {options.size} pixels)")  # fmt: skip
    a, b = peak("audited", options.size), peak("plain", options.size)
    print(f"peak memory: {a / b:.2f} times ({a:.0f} MiB against {b:.0f} MiB)")


if __name__ == "__main__":
    main()

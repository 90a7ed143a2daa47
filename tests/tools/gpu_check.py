"""What this machine's GPU makes of benchbench, in less than nine minutes; run by hand.

    python tests/tools/gpu_check.py OUT

writes ``OUT/gpu_check.json`` and ``OUT/gpu_check.md``. It needs benchbench with its development
requirements, and no network, PyBullet, OpenGL or build tools. Each step is a process of its own
with a limit of time; one that fails is recorded, and the others still run. The code is 0 where all
steps passed, 1 where one did not, 2 where there is no GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import benchbench
from benchbench.cell.devices import choose_devices, cpu_count, cuda_devices
from benchbench.core.errors import UserError
from benchbench.core.provenance import git_state, versions
from benchbench.core.text import markdown_table

ROOT = Path(__file__).parents[2]
LIMIT = 530.0
"""Seconds for everything."""

SHORT = ("train.updates=300", "evaluate.every=150", "diagnose.oracle_updates=0")
"""Quickstart, cut so that pairs an hour of three ways to run it fit into minutes."""

NIGHTLY = ("pixels.size=48", "agent.hidden=[256, 256]", "agent.encoder_lr=1.0e-4", "agent.tau=0.01",
           "train.updates=2000", "train.batch_size=128", "train.n_step=5", "evaluate.every=500",
           "evaluate.episodes=16", "diagnose.signals_every=250",
           "diagnose.oracle_updates=0")  # fmt: skip
"""A cell of ``suites/nightly.yaml`` in size, in a maze that needs no PyBullet."""

LARGE = ("pixels.size=84", "agent.encoder=drqv2", "train.batch_size=256", "train.updates=60",
         "evaluate.every=60", "evaluate.episodes=1", "diagnose.oracle_updates=0",
         "diagnose.q_pairs=0", "data.transitions=3000")  # fmt: skip
"""A cell that takes much memory and little time."""

CANARY = ("before", "after", "separate", "pcgrad")
"""One variant of each mechanism."""

TOLERANCE = 3e-2
"""The canary's own."""


@dataclass(frozen=True)
class Context:
    """Where a step works; ``overrides`` make everything small, for a test."""

    out: Path
    device: str
    overrides: tuple[str, ...] = ()

    def run(self, name: str, seeds: int, overrides: tuple[str, ...] = (), **how: Any) -> Any:
        """Run so many seeds of quickstart; raises where a cell failed."""
        told = tuple(f"envs.0.{o}" if o.startswith("data.") else o for o in overrides)
        done = benchbench.run(
            "quickstart",
            overrides=(f"seeds={seeds}", *told, *self.overrides),
            results=self.out / "results" / name,
            device=self.device,
            **how,
        )
        if done.failures:
            cell, failure, log = done.failures[0]
            raise RuntimeError(f"{cell.label}: {failure} (log: {log})")
        return done

    def pairs_per_hour(self, name: str, seeds: int, **how: Any) -> dict[str, Any]:
        """Of quickstart cut short; its data is made beforehand."""
        self.run(f"{name}-data", 1, (*SHORT, "train.updates=1", "evaluate.every=1"))
        start = time.monotonic()
        done = self.run(name, seeds, SHORT, **how)
        seconds = time.monotonic() - start
        cells = done.load().cells
        parts = {p: float(cells[f"{p}_seconds"].mean()) for p in ("train", "evaluate", "diagnose")}
        return {
            "pairs_per_hour": 3600 * seeds / seconds,
            "pairs": seeds,
            "seconds": seconds,
            "update_ms": float(cells["update_ms"].median()),
            "seconds_a_cell": parts,
            "peak_memory_mb": float(cells["peak_memory_mb"].max()),
        }


def device(context: Context) -> dict[str, Any]:
    """What there is."""
    import torch

    (found,) = choose_devices(context.device)
    return {
        "name": found.name(),
        "total_mb": found.total_mb,
        "free_mb": found.free_mb,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "cpus": cpu_count(),
        "versions": json.loads(versions()),
        "git": git_state()[0],
    }


def gpu_tests(context: Context) -> dict[str, Any]:
    """Every test that is marked ``gpu``; raises where one failed."""
    files = [
        str(path)
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        if "pytest.mark.gpu" in path.read_text(encoding="utf-8")
    ]
    report = context.out / "tests.xml"
    command = [sys.executable, "-m", "pytest", "-n", "0", "-q", "-m", "gpu"]
    done = subprocess.run([*command, f"--junitxml={report}", *files], cwd=ROOT, check=False)
    suite = ElementTree.parse(report).getroot().find("testsuite")
    assert suite is not None
    counts = {k: int(suite.attrib[k]) for k in ("tests", "failures", "errors", "skipped")}
    failed = [
        case.attrib["name"]
        for case in suite.iter("testcase")
        if case.find("failure") is not None or case.find("error") is not None
    ]
    if done.returncode or counts["skipped"] == counts["tests"]:
        raise RuntimeError(f"{counts}, failed: {', '.join(failed) or 'none, as none ran'}")
    return counts


def canary(context: Context) -> dict[str, Any]:
    """The canary's settings here and on the CPU, with the same noise; raises where they differ."""
    from benchbench.gate import load_snapshot
    from benchbench.gate.canary import deviations

    both = []
    for where in ("cpu", context.device):
        folder = context.out / "results" / f"canary-{where.replace(':', '-')}"
        command = [sys.executable, __file__, str(folder), "--canary", "--device", where]
        subprocess.run([*command, "--set", *context.overrides], check=True)
        both.append(load_snapshot(folder / "canary").numbers)
    found = deviations(*both)
    worst = found.sort_values("deviation").iloc[-1]
    by_variant = found.groupby("variant")["deviation"].max()
    if not worst["deviation"] <= TOLERANCE:
        raise RuntimeError(f"{worst['series']} of {worst['variant']} at update {worst['update']} "
                           f"deviates by {worst['deviation']:.1e}, over {TOLERANCE}")  # fmt: skip
    return {"numbers": len(found), "largest_deviation": by_variant.to_dict()}


def run_canary(context: Context) -> None:
    """In a process of its own: noise is drawn on the CPU, and convolutions are in full fp32."""
    import torch

    from benchbench.agent.base import PixelAgent
    from benchbench.agent.networks import random_shift

    def on_cpu(agent: PixelAgent, purpose: str) -> torch.Generator:
        streams = vars(agent).setdefault("_cpu_streams", {})
        own = agent._noise[purpose]
        if id(own) not in streams:
            streams[id(own)] = own, torch.Generator().manual_seed(own.initial_seed())
        return streams[id(own)][1]

    def normal(agent: PixelAgent, purpose: str, like: torch.Tensor) -> torch.Tensor:
        return torch.randn(like.shape, generator=on_cpu(agent, purpose)).to(agent.device)

    def augmented(agent: PixelAgent, obs: torch.Tensor) -> torch.Tensor:
        shifted = random_shift(obs.cpu(), agent.spec.shift_pad, on_cpu(agent, "augmentation"))
        return shifted.to(agent.device)

    PixelAgent._normal = normal  # type: ignore[method-assign]
    PixelAgent._augmented = augmented  # type: ignore[method-assign]
    torch.backends.cudnn.allow_tf32 = False
    done = benchbench.run(
        "canary", overrides=("envs.0.id=maze2d-open-v0", *context.overrides), results=context.out,
        only={"variant": CANARY}, executor="debug", device=context.device,
    )  # fmt: skip
    if done.failures:
        sys.exit(str(done.failures[0].failure))


def alone(context: Context) -> dict[str, Any]:
    """One cell at a time."""
    return context.pairs_per_hour("alone", 1, jobs=1)


def packed(context: Context) -> dict[str, Any]:
    """Several processes on the device."""
    return context.pairs_per_hour("packed", 4, jobs=8, jobs_per_device=8)


def stacked(context: Context) -> dict[str, Any]:
    """Eight cells in each of two processes."""
    return context.pairs_per_hour("stacked", 8, jobs=2, jobs_per_device=2, stack=8)


def out_of_memory(context: Context) -> dict[str, Any]:
    """Leave room for one cell and place two, so that one of them really runs out of memory."""
    import torch

    if context.device == "cpu":
        raise RuntimeError("needs a GPU whose memory can be filled")
    first = context.run("memory-one", 1, LARGE, jobs=1).load().cells
    (found,) = choose_devices(context.device)
    assert found.free_mb is not None
    room = 1.5 * float(first["peak_memory_mb"].max()) + 2 * 600
    taken = torch.empty(int((found.free_mb - room) * 2**20), dtype=torch.uint8, device="cuda")
    done = context.run("memory", 1, LARGE, jobs=2, jobs_per_device=2)
    logs = [path.read_text(errors="replace") for path in done.folder.rglob("*.log")]
    times = sum(text.count("--- out of memory") for text in logs)
    if not times:
        raise RuntimeError("both cells were done, but none ran out of memory; it proves nothing")
    return {"taken_mb": taken.nbytes / 2**20, "room_mb": room, "retries": times,
            "cells_done": len(done.load().cells)}  # fmt: skip


def bench(context: Context) -> dict[str, Any]:
    """``benchbench bench``: updates a second and their share of the device's peak."""
    command = [sys.executable, "-m", "benchbench", "bench", "quickstart", "--json", "--rounds", "2",
               "--device", context.device]  # fmt: skip
    for override in context.overrides:
        command += ["--set", override]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    figures = json.loads(done.stdout)["figures"]
    wanted = ("updates by", "share of peak by", "peak", "sampler")
    return {
        f"{f['what']}, {f['name']} ({f['unit']})": f["value"]
        for f in figures
        if f["what"].startswith(wanted)
    }


def nightly_cell(context: Context) -> dict[str, Any]:
    """A cell of the nightly's size."""
    done = context.run("nightly", 1, NIGHTLY, only={"variant": ["after"]}, jobs=1)
    row = done.load().cells.iloc[0]
    names = ("total", "train", "evaluate", "diagnose")
    return {
        "update_ms": float(row["update_ms"]),
        "final_score": float(row["final_score"]),
        **{f"{name}_seconds": float(row[f"{name}_seconds"]) for name in names},
    }


@dataclass
class Step:
    """One step, the seconds that it may take, and what came of it."""

    work: Callable[[Context], dict[str, Any]]
    limit: float
    passed: bool = False
    seconds: float = 0.0
    found: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """As it is asked for."""
        return self.work.__name__


STEPS = (
    Step(device, 40), Step(gpu_tests, 100), Step(canary, 80), Step(alone, 60), Step(packed, 60),
    Step(stacked, 70), Step(out_of_memory, 60), Step(bench, 60), Step(nightly_cell, 60),
)  # fmt: skip


def take(step: Step, context: Context, end: float) -> None:
    """Run a step in a process of its own, and kill it with all that it started at its limit."""
    start = time.monotonic()
    limit = min(step.limit, end - start)
    log, answer = (context.out / f"{step.name}{kind}" for kind in (".log", ".json"))
    command = [sys.executable, __file__, str(context.out), "--step", step.name]
    command += ["--device", context.device, "--set", *context.overrides]
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)
        try:
            process.wait(timeout=max(limit, 0))
        except subprocess.TimeoutExpired:
            step.found = {"error": f"not done after {limit:.0f} s"}
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    step.seconds = time.monotonic() - start
    if answer.exists():
        step.found = json.loads(answer.read_text())
        step.passed = "error" not in step.found
    elif not step.found:
        step.found = {"error": f"ended with code {process.returncode}; see {log.name}"}


def answer(step: Step, context: Context) -> None:
    """In the step's own process."""
    try:
        found = step.work(context)
    except (Exception, subprocess.CalledProcessError) as error:
        traceback.print_exc()
        text = error.message if isinstance(error, UserError) else f"{error}"
        found = {"error": " ".join(f"{type(error).__name__}: {text}".split())}
    path = context.out / f"{step.name}.json"
    path.write_text(json.dumps(found, indent=2, default=str), encoding="utf-8")


def page(steps: tuple[Step, ...]) -> str:
    """What was found, as Markdown."""
    head = [[s.name, "passed" if s.passed else "FAILED", f"{s.seconds:.0f} s"] for s in steps]
    parts = ["# GPU check", markdown_table(["step", "outcome", "time"], head)]
    for step in steps:
        rows = [[re.sub(r"([|*_])", r"\\\1", str(k)), _text(v)] for k, v in step.found.items()]
        parts += [f"## {step.name}", str(step.work.__doc__), markdown_table(["what", ""], rows)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{k} {_text(v)}" for k, v in value.items())
    return str(value).replace("|", "\\|")


def check(context: Context, steps: tuple[Step, ...] = STEPS, limit: float = LIMIT) -> bool:
    """Take all steps and write the two files; whether all passed."""
    end = time.monotonic() + limit
    context.out.mkdir(parents=True, exist_ok=True)
    for step in steps:
        take(step, context, end)
        print(f"{step.name}: {'passed' if step.passed else step.found['error']}", flush=True)
        told = {s.name: {"passed": s.passed, "seconds": s.seconds, **s.found} for s in steps}
        (context.out / "gpu_check.json").write_text(json.dumps(told, indent=2), encoding="utf-8")
        (context.out / "gpu_check.md").write_text(page(steps), encoding="utf-8")
    return all(step.passed for step in steps)


def main() -> None:
    """Parse, and take the steps or one of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--step", choices=[step.name for step in STEPS], help=argparse.SUPPRESS)
    parser.add_argument("--canary", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--set", nargs="*", default=[], help=argparse.SUPPRESS)
    told = parser.parse_args()
    context = Context(told.out.absolute(), told.device, tuple(told.set))
    if told.canary:
        run_canary(context)
    elif told.step:
        answer(next(step for step in STEPS if step.name == told.step), context)
    elif told.device != "cpu" and not cuda_devices():
        print("No CUDA device is visible here, so there is nothing to check.", file=sys.stderr)
        sys.exit(2)
    else:
        os.environ.setdefault("BENCHBENCH_DATA", str(context.out / "data"))
        sys.exit(0 if check(context) else 1)


if __name__ == "__main__":
    main()

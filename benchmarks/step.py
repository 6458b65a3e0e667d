"""The fused step against other ways to compute it, and against the speed of memory. README.md says how to read it.

    python benchmarks/step.py                                  # the CPU, about ten minutes on two cores
    python benchmarks/step.py --device cuda
    python benchmarks/step.py --batches 1,8 --quick            # to try it
    python benchmarks/table.py benchmarks/results/*.json       # the tables of README.md

contestants.py holds what is compared, check.py sees that it is right, timing.py takes the times.
"""

import argparse
import gc
import json
import math
import os
import re
import statistics
import time
import warnings
from pathlib import Path
from typing import Any

import machine
import torch
from check import check
from contestants import ELEMENTS, SHAPE, Case, Contestant, Problem, Set, contestants, make_sets
from timing import Clock, Times, measure

from classmodels.ops import backend
from classmodels.ops.step import coefficients, step, workspace

BATCHES = (1, 8, 32, 128, 1000)
SECONDS, QUICK_SECONDS = 8.0, 1.0
COLD = 2  # times the last cache: what the copies, which touch the least, go through before they meet a set again
TENSORS = 5  # of a set

CONVENTION = (
    "bytes: what the algorithm must move, each input read once and each output written once: a step 28 an element with "
    "Adam, 20 with sgd and momentum, with or without TV; copy 8, triad 12. gb_per_s: bytes / median time / 1e9. ratio: "
    "gb_per_s over that of the better of copy and triad of the same configuration. bytes_with_norm_pass: with the "
    "gradient read a second time, for its norm; ratios do not count it. microseconds: of one step."
)


def main() -> None:
    arguments = parse()
    device = torch.device(arguments.device)
    torch.set_num_threads(arguments.threads)
    torch.compiler.config.force_disable_caches = True  # what compiling takes is reported, so it must be done
    warnings.filterwarnings("ignore", message=".*force_disable_caches.*")
    reason = backend.missing("cuda" if device.type == "cuda" else "cpp", device)
    if reason:
        raise SystemExit(f"nothing to measure: {reason}")
    slug = re.sub(r"[^a-z0-9]+", "-", machine.name(device).lower()).strip("-")
    output = arguments.output or Path(__file__).parent / "results" / f"{slug}.json"
    report: dict[str, Any] = {
        "machine": machine.facts(device),
        "settings": {
            "device": device.type,
            "threads": arguments.threads,
            "seconds_per_configuration": arguments.seconds,
            "last_cache": machine.last_cache(device),
            "memory_limit": machine.memory(device),
            "shape": SHAPE,
        },
        "convention": CONVENTION,
        "call_microseconds": call_overhead(device),
        "configurations": [],
    }
    for batch in arguments.batches:
        for layout in ("contiguous", "channels_last"):
            report["configurations"] += configurations(batch, layout, device, arguments.seconds)
            output.parent.mkdir(parents=True, exist_ok=True)
            output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(output)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--batches", type=lambda text: [int(each) for each in text.split(",")], default=BATCHES)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--quick", dest="seconds", action="store_const", const=QUICK_SECONDS, default=SECONDS,
                        help=f"{QUICK_SECONDS:g} s instead of {SECONDS:g} s for each configuration")  # fmt: skip
    parser.add_argument("--output", type=Path, help="default: benchmarks/results/DEVICE.json")
    return parser.parse_args()


def configurations(batch: int, layout: str, device: torch.device, seconds: float) -> list[dict[str, Any]]:
    """Everything measured on one size and layout: the sets of tensors are the same for all of it."""
    limit = machine.memory(device)
    tensor = 4 * batch * ELEMENTS
    wanted = math.ceil(COLD * machine.last_cache(device) / (2 * tensor))
    count = max(1, min(wanted, limit // 2 // (TENSORS * tensor)))
    cases = [
        Case(batch, layout, method, tv, device) for method, tv in (("adam", False), ("adam", True), ("sgd", False))
    ]
    sets = make_sets(cases[0], count)
    found = []
    for case in cases:
        problem = Problem(case)
        free = limit - (count * TENSORS + len(problem.buffers)) * tensor
        print(f"{case}: {count} sets", flush=True)
        found.append({
            "batch": batch, "layout": layout, "method": case.method, "tv": case.tv,
            "elements": case.elements, "bytes": case.bytes, "bytes_with_norm_pass": case.bytes + 4 * case.elements,
            "sets": count, "larger_than_caches": count >= wanted, **race(problem, sets, free, seconds),
        })  # fmt: skip
        del problem
        gc.collect()
    return found


def race(problem: Problem, sets: list[Set], free: int, seconds: float) -> dict[str, Any]:
    """Check every contestant, time those that are right, and compare."""
    entries: dict[str, dict[str, Any]] = {}
    ready = []
    everyone = contestants(problem, sets)
    for contestant in everyone:
        entry = entries[contestant.name] = {"contestant": contestant.name, "status": "ok"}
        if contestant.note:
            entry["note"] = contestant.note
        need = contestant.temporaries * 4 * problem.case.elements
        if need > free:
            entry |= {"status": "skipped", "reason": f"needs {need / 2**30:.1f} GiB more, {free / 2**30:.1f} are left"}
            continue
        entry |= admit(problem, contestant, sets[0])
        if entry["status"] == "ok":
            ready.append(contestant)
    times = measure(ready, Clock(problem.case.device, sets), seconds)
    for contestant in ready:
        mine = times[contestant.name]
        entries[contestant.name] |= {
            "microseconds": mine.summary(), "bytes": contestant.bytes, "gb_per_s": round(speed(contestant, mine), 3)
        }  # fmt: skip
    best = max((c for c in ready if c.yardstick), key=lambda c: speed(c, times[c.name]))
    for contestant in ready:
        entry = entries[contestant.name]
        entry["ratio"] = round(speed(contestant, times[contestant.name]) / speed(best, times[best.name]), 4)
        print(f"  {contestant.name:12} {entry['microseconds']['median']:12.1f} us  {entry['ratio']:.2f}", flush=True)
    return {"yardstick": best.name, "measurements": list(entries.values())}


def admit(problem: Problem, contestant: Contestant, s: Set) -> dict[str, Any]:
    """Its first run: whether it works, what it takes (compiling, most of all), and whether the result is right."""
    try:
        if contestant.yardstick:
            contestant.run(s)
            return {}
        verdict = check(problem, contestant, s)
    except Exception as error:  # whatever a formulation fails with is a result, not the end of the run
        print(f"  {contestant.name:12} failed: {error}", flush=True)
        return {"status": "failed", "reason": f"{type(error).__name__}: {error}"[:500]}
    found: dict[str, Any] = {
        "first_run_seconds": round(verdict.seconds, 3),
        "error_of_allowed": round(verdict.worst, 3),
    }
    if not verdict.right:
        print(f"  {contestant.name:12} WRONG: {verdict.worst:.3g} of the error allowed", flush=True)
        found["status"] = "wrong"
    return found


def speed(contestant: Contestant, times: Times) -> float:
    return contestant.bytes / statistics.median(times.device) / 1e9


def call_overhead(device: torch.device) -> float:
    """Microseconds of a step on no images at all: what Python and the dispatcher take."""
    x, g, m, v = (torch.empty(0, *SHAPE, device=device) for _ in range(4))
    failed = torch.empty(0, dtype=torch.bool, device=device)
    row = torch.tensor([coefficients(1, lr=0.1, momentum=0.9, beta2=0.999)], device=device)
    box = {name: torch.zeros(SHAPE[0], device=device) for name in ("x0", "low", "high")}
    which, partial = "cuda" if device.type == "cuda" else "cpp", workspace(x)
    samples = []
    for _ in range(50):
        start = time.perf_counter()
        for _ in range(100):
            step(x, g, m, v, failed, row, norm="rms", partial=partial, backend=which, **box)
        samples.append((time.perf_counter() - start) / 100)
    return round(statistics.median(samples) * 1e6, 3)


if __name__ == "__main__":
    main()

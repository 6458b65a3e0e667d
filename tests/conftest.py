"""What most tests start from: a network of a few hundred weights, the smallest job that ascends it, and a bucket."""

import os
import signal
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
import torch
import yaml
from safetensors.torch import save_file

import parsed_once  # noqa: F401
from classmodels import cli
from seaweed import ADMIN, BUCKET, OTHER_BUCKET, WRITER, SeaweedFS
from web import WebServer

# A shell that starts something in the background has it ignore Ctrl-C, and what that starts too: not here.
signal.signal(signal.SIGINT, signal.default_int_handler)

NETS = '''\
"""Networks of a few hundred weights, the same ones every time they are built."""

import os
import time

import torch
from torch import nn


def seeded(network, seed):
    """`network` with small normal weights drawn from `seed` alone."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return network


def linear(classes=5, channels=3, size=8, seed=1):
    """Every score a weighted sum of pixels: the class model has a closed form."""
    return seeded(nn.Sequential(nn.Flatten(), nn.Linear(channels * size * size, classes)), seed)


def conv(classes=5, channels=3, seed=1):
    """Takes images of any size."""
    body = [nn.Conv2d(channels, 6, 3, padding=1), nn.Tanh(), nn.AdaptiveAvgPool2d(2), nn.Flatten()]
    return seeded(nn.Sequential(*body, nn.Linear(24, classes)), seed)


class Broken(nn.Module):
    """As `linear`, but the score of one class is always NaN."""

    def __init__(self, broken=1, classes=5, channels=3, size=8):
        super().__init__()
        self.inner = linear(classes, channels, size)
        self.broken = broken

    def forward(self, x):
        scores = self.inner(x)
        mask = torch.zeros(scores.shape[1])
        mask[self.broken] = float("nan")
        return scores + mask


def broken(broken=1, classes=5):
    """`Broken`, as a factory."""
    return Broken(broken, classes)


class Slow(nn.Module):
    """As `linear`, but every look at an image takes TINY_SLEEP seconds: for tests that interrupt."""

    def __init__(self):
        super().__init__()
        self.inner = linear(seed=1)

    def forward(self, x):
        time.sleep(float(os.environ.get("TINY_SLEEP", "0")))
        return self.inner(x)


def slow():
    """`Slow`, as a factory."""
    return Slow()


def no_network():
    """A factory by mistake: it returns no module."""
    return "no network"
'''


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes many minutes, whatever else is selected, unless it is asked for."""
    for marker in ("soak", "image"):
        if marker not in config.option.markexpr:
            left_out = [item for item in items if item.get_closest_marker(marker)]
            items[:] = [item for item in items if item not in left_out]
            config.hook.pytest_deselected(items=left_out)


LABELS = ["ant", "bee", "crow", "dog", "eel"]


@pytest.fixture(scope="session")
def tiny_net_source() -> str:
    """The text of `nets.py`, a module of factories: linear, conv, broken (one score is NaN), slow, no_network."""
    return NETS


@pytest.fixture(scope="session")
def tiny_nets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `nets.py` defines, for tests that want the networks themselves."""
    names: dict[str, Any] = {"__name__": "nets"}
    exec(compile(NETS, "nets.py", "exec"), names)
    return names


@pytest.fixture(scope="session")
def tiny_labels() -> list[str]:
    """The labels of the five classes that the factories have by default."""
    return list(LABELS)


@pytest.fixture(scope="session")
def tiny_data(tiny_nets: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    """Makes the smallest job, as data: one linear network, two classes, one recipe of three steps."""

    def data() -> dict[str, Any]:
        return {
            "apiVersion": "classmodels/v1",
            "name": "tiny",
            "code": "./src",
            "models": [
                {
                    "name": "tiny",
                    "source": {"factory": "nets:linear"},
                    "checkpoint": "./tiny.safetensors",
                    "input": {"size": 8, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
                    "labels": "./labels.txt",
                }
            ],
            "classes": [0, "crow"],
            "recipes": [{"name": "quick", "extends": "plain", "steps": 3, "precision": "fp32"}],
            "animation": {"format": "none"},
            "panel": "none",
            "output": "./out",
        }

    return data


@pytest.fixture(scope="session")
def write_job(
    tiny_nets: dict[str, Any], tiny_data: Callable[[], dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """`write_job(folder, **changes)` writes the smallest job and all that it names into `folder` and returns job.yaml.

    changes: top-level fields of the job; `...` leaves a field out. The checkpoint has other weights (seed 2) than
    the factory gives (seed 1), so that one can tell whether it was loaded. `output` lies in the folder.
    """
    checkpoint = tmp_path_factory.mktemp("checkpoints") / "tiny.safetensors"
    save_file(tiny_nets["linear"](seed=2).state_dict(), checkpoint)

    def write(folder: Path, **changes: Any) -> Path:
        (folder / "src").mkdir(parents=True, exist_ok=True)
        (folder / "src" / "nets.py").write_text(NETS)
        (folder / "labels.txt").write_text("\n".join(LABELS) + "\n")
        (folder / "tiny.safetensors").write_bytes(checkpoint.read_bytes())
        data = tiny_data() | {"output": str(folder / "out")} | changes
        job = folder / "job.yaml"
        job.write_text(yaml.safe_dump({k: v for k, v in data.items() if v is not ...}, sort_keys=False))
        return job

    return write


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code and what it printed."""

    code: int
    out: str
    err: str


@pytest.fixture
def run_command(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """`run_command("run", job)` runs a command in this process, as the console script would."""

    def run(*arguments: str | Path) -> Ended:
        capsys.readouterr()
        try:
            code = cli.guarded(lambda: cli.cli.main([str(one) for one in arguments], standalone_mode=False))
        except SystemExit as ended:
            code = int(ended.code or 0)
        said = capsys.readouterr()
        assert "Traceback" not in said.out + said.err
        return Ended(code, said.out, said.err)

    return run


@pytest.fixture
def tiny_job(tmp_path: Path, write_job: Callable[..., Path]) -> Path:
    """The smallest job, in tmp_path."""
    return write_job(tmp_path)


@pytest.fixture(autouse=True)
def _same_threads() -> Any:
    """Choosing a machine sets torch's threads; each test gets them back as they were."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session", autouse=True)
def _nobodys_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The settings, credentials, proxies and cache of whoever runs the tests are none of their business."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        for variable in list(os.environ):
            if variable.startswith(("AWS_", "CLASSMODELS_")) or variable.lower().endswith("_proxy"):
                monkeypatch.delenv(variable)
        for variable in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            monkeypatch.setenv(variable, os.devnull)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("CLASSMODELS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def seaweed(_nobodys_settings: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    """A real S3 server with the buckets BUCKET and OTHER_BUCKET, for as long as this process tests."""
    server = SeaweedFS(tmp_path_factory.mktemp("seaweed"))
    try:
        admin = boto3.client(
            "s3",
            endpoint_url=server.endpoint,
            region_name="us-east-1",
            aws_access_key_id=ADMIN.access_key,
            aws_secret_access_key=ADMIN.secret_key,
        )
        for bucket in (BUCKET, OTHER_BUCKET):
            admin.create_bucket(Bucket=bucket)
        yield server
    finally:
        server.stop()


@pytest.fixture
def bucket_uri(seaweed: SeaweedFS, monkeypatch: pytest.MonkeyPatch) -> str:
    """A place in the bucket where nothing is yet; the environment leads there, with the credentials of WRITER."""
    for variable, value in {**WRITER.environment, "AWS_ENDPOINT_URL_S3": seaweed.endpoint}.items():
        monkeypatch.setenv(variable, value)
    return f"s3://{BUCKET}/{uuid.uuid4().hex}"


@pytest.fixture
def web() -> Iterator[WebServer]:
    """A web server where nothing is published yet."""
    server = WebServer()
    yield server
    server.stop()


@pytest.fixture
def cache_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test's own cache of what is fetched, which is not there yet."""
    root = tmp_path / "cache"
    monkeypatch.setenv("CLASSMODELS_CACHE", str(root))
    return root

"""A GPU that cannot be used is told in words: faked here are torch's answers, as the versions that give them do."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from classmodels.errors import InputError, MachineError
from classmodels.run import gpu, units
from classmodels.run.gpu import broken, choose_worker_machine, why_not
from classmodels.run.numerics import Machine

Command = Callable[..., Any]

NO_DRIVER = (
    "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU and installed a driver from "
    "http://www.nvidia.com/Download/index.aspx"
)
TOO_OLD = (
    "The NVIDIA driver on your system is too old (found version 11040). Please update your GPU driver by downloading "
    "and installing a new version from the URL: http://www.nvidia.com/Download/index.aspx"
)
NO_GPU = "No CUDA GPUs are available"
NO_KERNEL = (
    "CUDA error: no kernel image is available for execution on the device\nCUDA kernel errors might be asynchronously "
    "reported at some other API call"
)


class Cuda:
    """torch as it is built with CUDA 13.0, with `count` devices; and its errors."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count, self.starting, self.computing = 1, "", ""
        monkeypatch.setattr(torch.version, "cuda", "13.0")
        monkeypatch.setattr(torch.cuda, "init", lambda: self._raise(self.starting))
        monkeypatch.setattr(torch.cuda, "is_available", lambda: not self.starting and self.count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: self.count)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "NVIDIA GeForce GTX 1080")
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (6, 1))
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_90"])
        monkeypatch.setattr(gpu, "compute", lambda machine: self._raise(self.computing))

    def _raise(self, said: str) -> None:
        if said:
            raise RuntimeError(said)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    return Cuda(monkeypatch)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (NO_DRIVER, "there is no NVIDIA driver: the node has no GPU"),
        (TOO_OLD, "the NVIDIA driver is too old (it knows CUDA 11.4) for this torch, which is built with CUDA 13.0"),
        (NO_GPU, "there is no such device: torch sees no GPU"),
        ("CUDA unknown error - this may be due to\nsomething", "CUDA does not start: RuntimeError: CUDA unknown error"),
    ],
)
def test_a_gpu_that_does_not_start_says_why_and_another_node_may_do(cuda: Cuda, said: str, expected: str) -> None:
    cuda.starting = said
    with pytest.raises(MachineError, match="cannot be used on this machine") as raised:
        choose_worker_machine("auto", "auto", require_cuda=True)
    assert expected in str(raised.value)
    assert "\n" not in str(raised.value)
    assert raised.value.exit_code == 4
    machine, note = choose_worker_machine("auto", "auto", require_cuda=False)
    assert machine.device.type == "cpu"
    assert note is not None
    assert expected in note


def test_a_device_that_is_not_there_says_how_many_are(cuda: Cuda, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NVIDIA_VISIBLE_DEVICES", "GPU-1")
    with pytest.raises(MachineError, match=r"there is no cuda:3: torch sees 1 CUDA device \(the environment says N"):
        choose_worker_machine("cuda:3", "auto", require_cuda=False)
    cuda.count = 0
    assert str(why_not(torch.device("cuda"))).startswith("there is no cuda: torch sees 0 CUDA devices")


def test_torch_without_cuda_says_so() -> None:
    if torch.version.cuda is not None:
        pytest.skip("this torch has CUDA")
    assert "is built for the CPU only" in str(why_not(torch.device("cuda")))
    with pytest.raises(MachineError, match="is built for the CPU only"):
        choose_worker_machine("auto", "auto", require_cuda=True)


def test_kernels_for_another_architecture_are_found_out_by_a_computation(cuda: Cuda) -> None:
    cuda.computing = NO_KERNEL
    expected = r"GTX 1080 is of the architecture sm_61, for which the backend .* \(torch has sm_75, sm_90\)"
    with pytest.raises(MachineError, match=expected):
        choose_worker_machine("auto", "torch", require_cuda=True)
    machine, note = choose_worker_machine("auto", "torch", require_cuda=False)
    assert machine.device.type == "cpu"
    assert "sm_61" in str(note)


def test_a_gpu_that_computes_is_taken(cuda: Cuda) -> None:
    machine, note = choose_worker_machine("auto", "torch", require_cuda=True)
    assert (machine.device, machine.backend, note) == (torch.device("cuda"), "torch", None)


def test_the_computation_is_right_where_it_can_be_tried() -> None:
    gpu.compute(Machine(torch.device("cpu"), "torch"))
    assert broken(Machine(torch.device("cpu"), "torch")) is None


@pytest.mark.parametrize(("device", "backend"), [("cpu", "auto"), ("auto", "cpp")])
def test_to_require_a_gpu_and_ask_for_none_is_a_slip(device: str, backend: str) -> None:
    with pytest.raises(InputError, match="beside --require-cuda"):
        choose_worker_machine(device, backend, require_cuda=True)


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "meta"])
def test_a_device_that_is_none_is_a_slip(device: str) -> None:
    with pytest.raises(InputError, match="expected auto, cpu, cuda or cuda:N"):
        choose_worker_machine(device, "auto", require_cuda=False)


def test_a_worker_without_the_gpu_that_it_needs_ends_with_4(tiny_job: Path, run_command: Command, cuda: Cuda) -> None:
    cuda.starting = NO_DRIVER
    ended = run_command("worker", "--job", tiny_job, "--index", 0, "--shards", 1, "--require-cuda")
    assert ended.code == 4
    assert ended.err.startswith("classmodels: cuda cannot be used on this machine: there is no NVIDIA driver")
    end = json.loads(ended.out.splitlines()[-1])
    assert (end["event"], end["exit_code"]) == ("end", 4)


def test_a_worker_that_falls_back_says_so(tiny_job: Path, run_command: Command, cuda: Cuda) -> None:
    cuda.starting = TOO_OLD
    ended = run_command("worker", "--job", tiny_job, "--index", 0, "--shards", 1)
    assert ended.code == 0
    start = next(event for event in map(json.loads, ended.out.splitlines()) if event["event"] == "start")
    assert start["device"] == "cpu"
    assert "too old" in start["note"]


def test_a_gpu_that_breaks_down_under_way_is_not_the_networks_fault(
    tiny_job: Path, run_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(units, "load", lambda resolved: [][0])
    monkeypatch.setattr(units, "broken", lambda machine: "it fails at the simplest computation: an uncorrectable error")
    ended = run_command("worker", "--job", tiny_job, "--index", 0, "--shards", 1)
    assert ended.code == 4
    assert "has broken down: it fails at the simplest computation" in ended.err
    assert not list(tiny_job.parent.glob("out/runs/*/shards/*"))

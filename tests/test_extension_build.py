"""The extension builds where there is what it needs, and elsewhere says what is missing: setup.py, run for real."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NVCC = shutil.which("nvcc") or (os.access("/usr/local/cuda/bin/nvcc", os.X_OK) and "/usr/local/cuda/bin/nvcc")
EVERY = {"sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120"}
FACTS = "import json, torch, _C; print(json.dumps(_C.facts() | {'ops': str(torch.ops.classmodels.step_)}))"


def build(folder: Path, **environment: str) -> subprocess.CompletedProcess:
    command = [
        sys.executable,
        "setup.py",
        "-q",
        "build_ext",
        "--build-lib",
        folder / "lib",
        "--build-temp",
        folder / "t",
    ]
    clean = {
        key: value for key, value in os.environ.items() if key not in ("TORCH_CUDA_ARCH_LIST", "FORCE_CUDA", "CXX")
    }
    return subprocess.run(command, cwd=ROOT, env=clean | environment, capture_output=True, text=True)


def facts(folder: Path) -> dict:
    environment = os.environ | {"PYTHONPATH": str(folder / "lib" / "classmodels")}
    said = subprocess.run([sys.executable, "-c", FACTS], env=environment, capture_output=True, text=True, check=True)
    return json.loads(said.stdout)


@pytest.fixture(scope="module")
def with_cuda(tmp_path_factory) -> dict:
    """The extension with its CUDA part for all default architectures, as it loads beside whatever torch is here."""
    if not NVCC:
        pytest.skip("nvcc is not on this machine")
    folder = tmp_path_factory.mktemp("cuda")
    ended = build(folder, FORCE_CUDA="1")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return facts(folder)


@pytest.mark.extension
def test_the_cuda_part_compiles_for_all_architectures_and_loads_beside_any_torch(with_cuda) -> None:
    assert {kernel["architecture"] for kernel in with_cuda["kernels"]} == EVERY
    assert with_cuda["ops"] == "classmodels.step_"
    assert re.fullmatch(r"\d+\.\d+", with_cuda["cuda"])


@pytest.mark.extension
def test_no_kernel_spills_or_keeps_anything_in_local_memory(with_cuda) -> None:
    names = {re.match(r"\w+", kernel["kernel"])[0] for kernel in with_cuda["kernels"]}
    assert {"squares", "update"} <= names
    for kernel in with_cuda["kernels"]:
        assert kernel["stack"] == kernel["spill_stores"] == kernel["spill_loads"] == 0, kernel
        assert kernel["registers"] <= 80, kernel  # three blocks of 256 threads on every multiprocessor


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"TORCH_CUDA_ARCH_LIST": "hopper"}, "found 'hopper', expected entries such as 8.0 or 9.0+PTX"),
        ({"FORCE_CUDA": "yes"}, "FORCE_CUDA=yes: expected 0 or 1"),
        ({"FORCE_CUDA": "1", "CUDA_HOME": "/nowhere"}, "nvcc was not found: set CUDA_HOME"),
    ],
)
def test_what_cannot_be_built_as_asked_is_an_error(tmp_path, environment, message) -> None:
    if not shutil.which("c++"):
        pytest.skip("there is no C++ compiler on this machine")
    ended = build(tmp_path, **environment)
    assert ended.returncode != 0
    assert message in ended.stderr


def test_without_a_compiler_it_installs_and_says_what_is_missing(tmp_path) -> None:
    ended = build(tmp_path, CXX="no-such-compiler")
    assert ended.returncode == 0, ended.stderr
    assert "installs without its extension" in ended.stdout + ended.stderr
    reason = (tmp_path / "lib" / "classmodels" / "_C.missing.txt").read_text()
    assert reason == "no C++ compiler was found (looked for no-such-compiler)\n"


def test_a_compiler_that_fails_is_an_error(tmp_path) -> None:
    broken = tmp_path / "c++"
    broken.write_text('#!/bin/sh\n[ "$1" = --version ] && echo broken 1.0 && exit 0\necho out of luck >&2\nexit 1\n')
    broken.chmod(0o755)
    ended = build(tmp_path, CXX=str(broken))
    assert ended.returncode != 0
    assert "the extension does not compile" in ended.stderr

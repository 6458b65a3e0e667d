"""The extension builds where there is what it needs, and elsewhere says what is missing: setup.py, run for real."""

import fcntl
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from setuptools import Distribution

ROOT = Path(__file__).parents[1]
NVCC = shutil.which("nvcc") or (os.access("/usr/local/cuda/bin/nvcc", os.X_OK) and "/usr/local/cuda/bin/nvcc")
FACTS = """
import json, torch, _C
print(json.dumps(_C.facts() | {"operator": str(torch.ops.classmodels.step_), "file": _C.__file__}))
"""
SETTINGS = ("TORCH_CUDA_ARCH_LIST", "FORCE_CUDA", "CUDA_HOME", "CUDA_PATH", "CXX")
# A compiler that shows how it was called, and drops libraries as Ubuntu's does.
COMPILER = f'#!/bin/sh\necho "$@" >> "$(dirname "$0")/calls"\nexec {shutil.which("c++")} -Wl,--as-needed "$@" $LAST\n'
SEES_A_GPU = "import torch\ntorch.version.cuda, torch.cuda.is_available = '13.0', lambda: True\n"


def build(folder: Path, source: Path = ROOT, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, source / "setup.py", "-q", "build_ext", "--build-lib", folder / "lib"]
    clean = {key: value for key, value in os.environ.items() if key not in SETTINGS}
    command += ["--build-temp", folder / "objects"]
    return subprocess.run(command, cwd=ROOT, env=clean | environment, capture_output=True, text=True)


def build_awkwardly(folder: Path, **environment: str) -> dict:
    """The facts of an extension built from a path with a space, with COMPILER, where `python3` does not run."""
    tools = folder / "tools"
    tools.mkdir(parents=True)
    for name, text in {"c++": COMPILER, "python3": "#!/bin/sh\nexit 1\n"}.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    (folder / "the source").symlink_to(ROOT)
    environment |= {"CXX": shlex.quote(str(tools / "c++")), "PATH": f"{tools}:{os.environ['PATH']}"}
    ended = build(folder, folder / "the source", **environment)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    path = os.environ | {"PYTHONPATH": str(folder / "lib" / "classmodels")}
    said = subprocess.run([sys.executable, "-c", FACTS], env=path, capture_output=True, text=True, check=True)
    return json.loads(said.stdout) | {"calls": (tools / "calls").read_text().splitlines()}


@pytest.fixture(scope="module")
def built_once(tmp_path_factory):
    """`built_once(name, ...)`: what `build_awkwardly` gave the first of the processes that test side by side."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def built(name: str, **environment: str) -> dict:
        facts = base / f"{name}.json"
        with open(base / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not facts.exists():
                facts.write_text(json.dumps(build_awkwardly(base / name, **environment)))
        return json.loads(facts.read_text())

    return built


@pytest.fixture(scope="module")
def with_cuda(built_once, tmp_path_factory) -> dict:
    """The extension with its CUDA part for all default architectures, as it loads beside whatever torch is here."""
    if not NVCC:
        pytest.skip("nvcc is not on this machine")
    toolkit = tmp_path_factory.mktemp("cuda") / "the toolkit"
    toolkit.symlink_to(Path(NVCC).parents[1])
    # nvcc takes no compiler whose path has a space.
    return built_once("with-cuda", FORCE_CUDA="1", CUDA_HOME=str(toolkit), CUDA_VISIBLE_DEVICES="")


@pytest.fixture(scope="module")
def without_nvcc(built_once, tmp_path_factory) -> dict:
    """The extension as it is built where torch sees a GPU and there is no nvcc."""
    seeing = tmp_path_factory.mktemp("gpu")
    (seeing / "sitecustomize.py").write_text(SEES_A_GPU)
    return built_once("without nvcc", PYTHONPATH=str(seeing), CUDA_HOME="/nowhere", LAST="-O0")


@pytest.mark.extension
def test_the_cuda_part_compiles_for_all_architectures_and_loads_beside_any_torch(with_cuda) -> None:
    known = set(subprocess.check_output([NVCC, "--list-gpu-code"], text=True).split())
    expected = {"sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120"} & known
    assert {kernel["architecture"] for kernel in with_cuda["kernels"]} == expected
    assert expected < set(with_cuda["architectures"])
    assert with_cuda["operator"] == "classmodels.step_"
    assert re.fullmatch(r"\d+\.\d+", with_cuda["cuda"])


@pytest.mark.extension
def test_no_kernel_spills_or_keeps_anything_in_local_memory(with_cuda) -> None:
    names = {re.match(r"\w+", kernel["kernel"])[0] for kernel in with_cuda["kernels"]}
    assert {"squares", "update"} <= names
    for kernel in with_cuda["kernels"]:
        assert kernel["stack"] == kernel["spill_stores"] == kernel["spill_loads"] == 0, kernel
        assert kernel["registers"] <= 80, kernel  # three blocks of 256 threads on every multiprocessor


@pytest.mark.extension
def test_nvcc_compiles_and_links_with_the_compiler_asked_for(with_cuda) -> None:
    assert any("__CUDACC__" in call for call in with_cuda["calls"])
    assert any("-shared" in call for call in with_cuda["calls"])


@pytest.mark.extension
@pytest.mark.parametrize("kind", ["with_cuda", "without_nvcc"])
def test_libtorch_is_linked_though_the_linker_drops_what_it_can(kind, request) -> None:
    # libtorch brings libtorch_cuda: without it a weak symbol stays null, and the CUDA part has no stream to run on.
    if not shutil.which("readelf"):
        pytest.skip("readelf is not on this machine")
    at = request.getfixturevalue(kind)["file"]
    said = subprocess.check_output(["readelf", "--dynamic", "--wide", at], text=True)
    assert "libtorch.so" in re.findall(r"\(NEEDED\).*\[(.*)\]", said)


@pytest.mark.extension
def test_a_gpu_without_nvcc_gets_the_cpu_part_and_the_reason(without_nvcc) -> None:
    assert without_nvcc["cuda"] is None
    assert without_nvcc["without_cuda"] == "nvcc was not found: set CUDA_HOME to the folder of the CUDA toolkit"
    assert without_nvcc["operator"] == "classmodels.step_"


@pytest.mark.extension
def test_a_new_torch_or_pybind11_makes_objects_stale(without_nvcc) -> None:
    import ninja

    objects = Path(without_nvcc["file"]).parents[2] / "objects"
    command = [Path(ninja.BIN_DIR) / "ninja", "-C", objects, "-t", "deps"]
    said = subprocess.check_output(command, text=True)
    assert "torch/csrc/stable/library.h" in said
    assert "pybind11/pybind11.h" in said


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"TORCH_CUDA_ARCH_LIST": "hopper"}, "found 'hopper', expected entries such as 8.0 or 9.0+PTX"),
        ({"FORCE_CUDA": "yes"}, "FORCE_CUDA=yes: expected 0 or 1"),
        ({"FORCE_CUDA": "1", "CUDA_HOME": "/nowhere"}, "asks for CUDA: nvcc was not found: set CUDA_HOME"),
        ({"TORCH_CUDA_ARCH_LIST": "9.0", "CUDA_HOME": "/nowhere"}, "asks for CUDA: nvcc was not found: set CUDA_HOME"),
        ({"FORCE_CUDA": "1", "CXX": "no-such-compiler"}, "asks for CUDA: no C++ compiler was found"),
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


@pytest.fixture
def setup(monkeypatch):
    """setup.py as a module, on a machine where nobody asks for anything."""
    for variable in SETTINGS:
        monkeypatch.delenv(variable, raising=False)
    spec = importlib.util.spec_from_file_location("the_setup", ROOT / "setup.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


NO_HEADERS = {"sysconfig.get_path": lambda name: "/nowhere", "sysconfig.get_config_var": lambda name: None}


@pytest.mark.parametrize(
    ("machine", "message"),
    [
        ({"sys.platform": "darwin"}, "it is built on Linux only"),
        (NO_HEADERS, "Python.h was not found; install python3-dev"),
        ({"torch.__version__": "2.10.1+cu128"}, r"it needs torch 2.11 or later, found 2.10.1\+cu128; install that"),
    ],
)
def test_where_it_cannot_be_built_it_is_missing_and_says_why(setup, monkeypatch, tmp_path, machine, message) -> None:
    if not shutil.which("c++"):
        pytest.skip("there is no C++ compiler on this machine")
    for name, value in machine.items():
        monkeypatch.setattr(name, value)
    with pytest.raises(setup.MissingError, match=message):
        setup.BuildExtension(Distribution()).compile(tmp_path / "_C.so")


def test_a_torch_for_other_gpus_has_no_cuda(setup, monkeypatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(setup.MissingError, match="torch saw no CUDA device"):
        setup.cuda()


NVCC_12_4 = {50, 52, 60, 61, 70, 72, 75, 80, 86, 87, 89, 90}
NVCC_13_0 = {75, 80, 86, 87, 88, 89, 90, 100, 103, 110, 120, 121}


@pytest.mark.parametrize(
    ("known", "gpus", "expected"),
    [
        (NVCC_13_0, [], "sm_75 sm_80 sm_86 sm_89 sm_90 sm_100 sm_120 compute_100 compute_120"),
        (NVCC_12_4, [], "sm_75 sm_80 sm_86 sm_89 sm_90 compute_90"),
        (NVCC_13_0, [(8, 6)], "sm_86 compute_86"),
        (NVCC_13_0, [(9, 0), (8, 0), (9, 0)], "sm_80 sm_90 compute_90"),
        (NVCC_13_0, [(7, 0), (12, 2)], "sm_121 compute_121"),
        (NVCC_12_4, [(10, 0)], "sm_90 compute_90"),
    ],
)
def test_it_is_compiled_for_the_gpus_seen_or_else_for_all_that_nvcc_knows(
    setup, monkeypatch, known, gpus, expected
) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(gpus))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: gpus[index])
    assert setup.codes(known) == expected.split()


def test_gpus_that_nvcc_has_given_up_are_told(setup, monkeypatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", "12.6")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (7, 0))
    with pytest.raises(setup.MissingError, match="nvcc compiles for none of sm_70"):
        setup.codes(NVCC_13_0)


def test_a_list_of_architectures_is_followed_to_the_letter(setup, monkeypatch) -> None:
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "8.0;9.0a+PTX, 12.0f")
    assert setup.asked_codes() == ["sm_80", "sm_90a", "compute_90a", "sm_120f"]

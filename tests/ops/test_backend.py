"""Which backend is taken, and what is said where one is missing."""

from types import SimpleNamespace

import pytest
import torch

from classmodels.errors import InputError
from classmodels.ops import backend, extension

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


@pytest.mark.extension
def test_auto_takes_the_compiled_ops() -> None:
    assert backend.choose("auto", CPU) == "cpp"


def test_auto_falls_back_to_pytorch(monkeypatch) -> None:
    monkeypatch.setattr(extension, "compiled", None)
    monkeypatch.setattr(extension, "why_not", "it rained")
    assert backend.choose("auto", CPU) == "torch"
    assert backend.choose("auto", CUDA) == "torch"


def test_a_forced_backend_that_is_not_built_is_refused_with_the_reason(monkeypatch) -> None:
    monkeypatch.setattr(extension, "compiled", None)
    monkeypatch.setattr(extension, "why_not", "no C++ compiler was found")
    for name in ("cpp", "cuda"):
        with pytest.raises(InputError, match="no C\\+\\+ compiler was found"):
            backend.choose(name, CPU)


@pytest.mark.extension
def test_a_backend_of_another_device_is_refused() -> None:
    with pytest.raises(InputError, match="works on cpu devices, and the device is cuda"):
        backend.choose("cpp", CUDA)


def pretend(monkeypatch, built, *capabilities):
    """An extension with the facts `built`, and torch that sees GPUs of these compute capabilities."""
    facts = {"compiler": "c++ 14", "cuda": "13.0", "without_cuda": None, "architectures": [], "kernels": []} | built
    module = SimpleNamespace(facts=lambda: facts, variant=lambda: "avx2", variants=lambda: ["sse2", "avx2"])
    monkeypatch.setattr(extension, "compiled", module)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(capabilities))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(capabilities))
    monkeypatch.setattr(
        torch.cuda, "get_device_capability", lambda d: capabilities[d if isinstance(d, int) else d.index]
    )


def test_cuda_without_cuda_is_refused_and_says_why_and_how_to_have_it(monkeypatch) -> None:
    pretend(monkeypatch, {"cuda": None, "without_cuda": "nvcc was not found: set CUDA_HOME"}, (9, 0))
    with pytest.raises(InputError, match=r"built without CUDA \(nvcc was not found.*\); install .* FORCE_CUDA=1"):
        backend.choose("cuda", CUDA)
    assert backend.choose("auto", CUDA) == "torch"
    assert extension.describe()["cuda"] == "not built: nvcc was not found: set CUDA_HOME"


@pytest.mark.parametrize(
    ("code", "runs", "does_not_run"),
    [
        ("sm_86", [(8, 6), (8, 9)], [(8, 0), (7, 5), (9, 0), (12, 0)]),
        ("sm_90a", [(9, 0)], [(8, 9), (9, 1), (10, 0)]),
        ("sm_100f", [(10, 0), (10, 3)], [(9, 0), (11, 0), (12, 0)]),
        ("sm_121", [(12, 1)], [(12, 0), (13, 0)]),
        ("compute_90", [(9, 0), (10, 3), (12, 1)], [(8, 9), (7, 5)]),
        ("compute_90a", [(9, 0)], [(10, 0)]),
        ("compute_120f", [(12, 0), (12, 1)], [(13, 0), (10, 0)]),
    ],
)
def test_which_gpus_run_which_code(code, runs, does_not_run) -> None:
    # CUDA C++ Programming Guide, "Binary Compatibility", "PTX Compatibility", "Family-Specific Features".
    assert [backend.runs(code, capability) for capability in runs] == [True] * len(runs)
    assert [backend.runs(code, capability) for capability in does_not_run] == [False] * len(does_not_run)


def test_a_gpu_for_which_there_is_no_code_is_told_and_auto_passes_over_it(monkeypatch) -> None:
    pretend(monkeypatch, {"architectures": ["sm_80", "sm_90", "compute_90"]}, (7, 0), (12, 0))
    old, new = torch.device("cuda", 0), torch.device("cuda", 1)
    message = r"CUDA code for sm_80, sm_90, compute_90, and none for compute capability 7\.0; .*ARCH_LIST='7\.0'"
    with pytest.raises(InputError, match=message):
        backend.choose("cuda", old)
    assert backend.choose("auto", old) == "torch"
    assert backend.choose("auto", new) == backend.choose("cuda", new) == "cuda"
    assert backend.missing("cuda") is None


def test_a_torch_for_other_gpus_has_no_cuda(monkeypatch) -> None:
    pretend(monkeypatch, {"architectures": ["sm_90"]}, (9, 0))
    monkeypatch.setattr(torch.version, "cuda", None)
    assert backend.missing("cuda", CUDA) == "torch sees no CUDA device"


def test_what_was_built_is_told_whatever_nvcc_calls_it(monkeypatch) -> None:
    pretend(monkeypatch, {"architectures": ["sm_80", "sm_90a", "sm_120f", "compute_120"]})
    assert extension.describe()["cuda"] == "13.0, sm_80, sm_90a, sm_120f, compute_120"


def test_pytorch_is_always_there() -> None:
    assert backend.choose("torch", CPU) == "torch"
    assert backend.choose("torch", CUDA) == "torch"


def test_an_unknown_backend_is_told_apart() -> None:
    with pytest.raises(InputError, match="'vulkan': expected one of auto, cuda, cpp, torch"):
        backend.choose("vulkan", CPU)


@pytest.mark.extension
def test_a_variant_can_be_forced_and_an_unknown_one_is_refused() -> None:
    module = extension.compiled
    widest = module.variants()[-1]
    assert module.variant() == widest
    module.force_variant(module.variants()[0])
    assert module.variant() == module.variants()[0]
    with pytest.raises(ValueError, match="variant 'mmx': expected one of"):
        module.force_variant("mmx")
    module.force_variant()
    assert module.variant() == widest

"""Which backend is taken, and what is said where one is missing."""

import pytest
import torch

from classmodels.errors import InputError
from classmodels.ops import backend, extension

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


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


@pytest.mark.extension
def test_cuda_without_cuda_is_refused_and_says_how_to_have_it(monkeypatch) -> None:
    monkeypatch.setattr(extension, "has_cuda", lambda: False)
    with pytest.raises(InputError, match=r"built without CUDA.*FORCE_CUDA=1"):
        backend.choose("cuda", CUDA)


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

"""Networks from their sources: torchvision, timm, transformers, a factory in Python, or an exported program.

`build` makes the network, with whatever weights its source gives it; `describe` tells, without building one,
what a source knows about itself: preprocessing, labels, family. `pretrained.py` holds what timm and transformers
need; `resolve.py` and `classifier.py` are the callers.
"""

import contextlib
import random
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from classmodels.errors import InputError, ModelError
from classmodels.models import checkpoints, pretrained
from classmodels.models.labels import did_you_mean
from classmodels.models.spec import FieldError, InputSpec, ModelSpec, Source
from classmodels.models.torchvision_compat import import_torchvision
from classmodels.models.user_code import digest_python, first_line, import_factory, importable

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Description:
    """What a source says about itself before any network is built; None where it says nothing."""

    input: InputSpec | None
    labels: tuple[str, ...] | None
    classes: int | None
    family: str
    identity: dict[str, Any]


def describe(spec: ModelSpec, base: Path) -> Description:
    """What `spec.source` knows about itself. `base` is the job file's folder.

    Raises FieldError on ("source", kind) for an unknown name, a missing package or a missing file.
    """
    source = spec.source
    if source.torchvision:
        return _describe_torchvision(spec, base)
    if source.timm:
        return Description(*pretrained.describe_timm(source), identity=_arguments(source, source.kwargs))
    if source.transformers:
        folder = pretrained.transformers_folder(source, base)
        config = checkpoints.sha256_of(folder / "config.json")
        identity = {**_arguments(source, source.kwargs), "name": config}
        if pretrained.trusts_code(source):
            identity["code"] = digest_python(folder)
        return Description(*pretrained.describe_transformers(source, folder), identity=identity)
    if source.program:
        path = _program_path(source, base)
        digest = checkpoints.sha256_of(path)
        return Description(None, None, None, path.stem, {"kind": "program", "sha256": digest})
    assert source.factory is not None
    return Description(None, None, None, source.factory.replace(":", "."), _arguments(source, source.kwargs))


def build(spec: ModelSpec, base: Path, code: Path | None, code_sha256: str | None = None) -> "nn.Module":
    """The network on the CPU, in the weights that its source gives it: random ones under a fixed seed, or its own.

    code_sha256: the `digest_code` of `code` where it is known, which spares reading the folder again.
    Raises FieldError where the source cannot be built, ModelError where a program file cannot be read.
    """
    source = spec.source
    with _fixed_seed():
        if source.torchvision:
            models = import_torchvision().models
            kwargs = {**source.kwargs, **_for_named_weights(spec, base)}
            return _called(source, lambda: models.get_model(source.torchvision, *source.args, weights=None, **kwargs))
        if source.timm:
            return _called(source, lambda: pretrained.build_timm(source))
        if source.transformers:
            own = spec.checkpoint is None
            return _called(source, lambda: pretrained.build_transformers(source, base, own))
        if source.program:
            return _read_program(_program_path(source, base))
        return _build_factory(source, code, code_sha256)


def check_factory(source: Source, code: Path | None, code_sha256: str | None = None) -> None:
    """Import a factory and look its attribute up, without calling it. Does nothing for other kinds.

    code_sha256: the `digest_code` of `code` where it is known. Raises FieldError on ("source", "factory") with what
    was missing and the nearest names.
    """
    if source.factory:
        import_factory(source.factory, code, code_sha256)


def _describe_torchvision(spec: ModelSpec, base: Path) -> Description:
    source = spec.source
    name = source.torchvision
    assert name is not None
    models = import_torchvision().models
    known = models.list_models(module=models)
    if name.lower() not in known:
        raise FieldError(
            f'torchvision has no classifier "{name}"{did_you_mean(name.lower(), known)}', "source", "torchvision"
        )
    for forbidden in ("weights", "weights_backbone", "pretrained"):
        if forbidden in source.kwargs:
            raise FieldError(
                f"torchvision {name}: `{forbidden}` does not belong here; name the weights in `checkpoint`",
                "source",
                "kwargs",
                forbidden,
            )
    if checkpoints.is_named(spec.checkpoint, source, base):
        assert spec.checkpoint is not None
        weights = checkpoints.named_weights(name, spec.checkpoint)
    else:
        weights = models.get_model_weights(name).DEFAULT
    preset = weights.transforms()
    size = (*preset.crop_size, preset.crop_size[-1])[:2]
    shape = InputSpec(size=size, mean=tuple(preset.mean), std=tuple(preset.std))
    categories = tuple(weights.meta["categories"])
    classes = source.kwargs.get("num_classes", len(categories))
    labels = categories if classes == len(categories) else None
    kwargs = {**source.kwargs, **_for_named_weights(spec, base)}
    family = re.match(r"[a-z]+", name.lower())
    return Description(shape, labels, classes, family[0] if family else name, _arguments(source, kwargs))


def _for_named_weights(spec: ModelSpec, base: Path) -> dict[str, Any]:
    # torchvision builds these two otherwise when it loads its own weights: they were ported from TensorFlow and
    # expect another normalisation, which the network then does itself.
    if spec.source.torchvision in ("googlenet", "inception_v3") and checkpoints.is_named(
        spec.checkpoint, spec.source, base
    ):
        return {"transform_input": True}
    return {}


def _arguments(source: Source, kwargs: dict[str, Any]) -> dict[str, Any]:
    return {"kind": source.kind, "name": getattr(source, source.kind), "args": list(source.args), "kwargs": kwargs}


def _called(source: Source, make: Any) -> "nn.Module":
    name = f"{source.kind} {getattr(source, source.kind)}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network = make()
    except (InputError, ModelError):
        raise
    except (Exception, SystemExit) as error:
        arguments = ", ".join([*map(repr, source.args), *(f"{k}={v!r}" for k, v in source.kwargs.items())])
        raise FieldError(
            f"{name} called with ({arguments[:200]}) raised {first_line(error)}", "source", source.kind
        ) from error
    from torch import nn

    if not isinstance(network, nn.Module):
        raise FieldError(
            f"{name} returned a {type(network).__name__}; expected a torch.nn.Module", "source", source.kind
        )
    return network


def _build_factory(source: Source, code: Path | None, code_sha256: str | None) -> "nn.Module":
    assert source.factory is not None
    with importable(code):
        factory = import_factory(source.factory, code, code_sha256)
        return _called(source, lambda: factory(*source.args, **source.kwargs))


def _program_path(source: Source, base: Path) -> Path:
    assert source.program is not None
    if "://" in source.program:
        raise FieldError(
            f"program {source.program}: this version reads local files only; copy it here", "source", "program"
        )
    path = base / Path(source.program).expanduser()
    if not path.is_file():
        raise FieldError(
            f"program {path} does not exist: expected a TorchScript or torch.export file", "source", "program"
        )
    return path


def _read_program(path: Path) -> "nn.Module":
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if path.suffix == ".pt2":
                return torch.export.load(path).module()
            return torch.jit.load(str(path), map_location="cpu")
    except Exception as error:
        raise ModelError(
            f"program {path} is neither a TorchScript file nor a torch.export .pt2: {first_line(error)}"
        ) from error


@contextlib.contextmanager
def _fixed_seed() -> Iterator[None]:
    """Random weights are drawn from seed 0 of every generator a factory might use, and the caller's go on as before."""
    import numpy as np
    import torch

    python, legacy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.random.manual_seed(0)
            random.seed(0)
            np.random.seed(0)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)


def move_program(network: Any, device: Any) -> None:
    """Move an exported program's parameters, buffers and constants, and the devices written into its graph."""
    import torch

    network.to(device)
    for node in network.graph.nodes:
        if "device" in node.kwargs:
            node.kwargs = {**node.kwargs, "device": device}
        node.args = tuple(device if isinstance(argument, torch.device) else argument for argument in node.args)
    network.recompile()

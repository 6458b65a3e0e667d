"""From what a job file says about a model to what it means: files found, labels read, identity digested.

No network is built, except where the source itself makes the weights (`checkpoint: null`). `classifier.load` goes
on from the `ResolvedModel`; `model12` names the model in storage and seeds its units.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from classmodels.errors import FetchError, InputError, ModelError, StoreError
from classmodels.models import checkpoints, sources
from classmodels.models.labels import check_labels, load_labels
from classmodels.models.remote.elsewhere import Elsewhere, RemoteFile
from classmodels.models.remote.uri import is_remote
from classmodels.models.spec import FieldError, InputSpec, ModelSpec
from classmodels.models.user_code import digest_code, digest_factory

if TYPE_CHECKING:
    from torch import nn

__all__ = ["FieldError", "ResolvedModel", "digest_code", "digest_identity", "digest_state", "resolve"]


@dataclass(frozen=True)
class ResolvedModel:
    """One model of a job with everything found that can be found without loading its weights.

    checkpoint is None where the source brings its own weights; checkpoint_sha256 is then the digest of these. That of a
    file elsewhere says so where it is not known, because nothing is to be downloaded: then model12 names no unit.
    classes is the number of classes where it is known before the network is loaded.
    """

    spec: ModelSpec
    base: Path
    code: Path | None
    input: InputSpec
    labels: tuple[str, ...] | None
    checkpoint: Path | RemoteFile | None
    checkpoint_sha256: str
    identity: dict[str, Any]
    model12: str
    family: str
    classes: int | None
    notes: tuple[str, ...]


def resolve(
    spec: ModelSpec, base: Path, code: Path | None, code_sha256: str | None, elsewhere: Elsewhere | None = None
) -> ResolvedModel:
    """Find, read and digest everything that `spec` names; paths are relative to `base`, the job file's folder.

    code: the job's code folder or wheel; code_sha256: its `digest_code` (None: it is taken here). elsewhere: how to
    reach what is not on this machine. Raises FieldError with the field to blame, ModelError where the source's own
    weights cannot be made, StoreError where what is elsewhere cannot be reached.
    """
    elsewhere = elsewhere or Elsewhere()
    source = spec.source
    if spec.checkpoint is not None and source.program:
        raise FieldError(f"model {spec.name}: a program holds its own weights; leave `checkpoint` out", "checkpoint")
    if spec.select is not None and spec.checkpoint is None:
        raise FieldError(f"model {spec.name}: `select` chooses within a checkpoint, and none is named", "select")
    known = sources.describe(spec, base)
    expected = spec.input or known.input
    if expected is None:
        raise FieldError(
            f"model {spec.name}: a {source.kind} does not say what it expects; give `input` with size (a number or "
            "[height, width]), mean and std (a number for each channel)",
            "input",
        )
    labels = _labels(spec, base, known.labels, elsewhere)
    classes = known.classes if labels is None else len(labels)
    if source.factory and code is not None and code_sha256 is None:
        code_sha256 = digest_code(code)
    user_code = digest_factory(source.factory, code, code_sha256) if source.factory else None

    notes: list[str] = []
    checkpoint: Path | RemoteFile | None = None
    if spec.checkpoint is not None and is_remote(spec.checkpoint):
        checkpoint = _open(spec.checkpoint, elsewhere)
        sha256 = checkpoint.sha256 or f"unknown: {checkpoint.remote.uri.key}"
    elif spec.checkpoint is not None:
        checkpoint = checkpoints.locate(spec.checkpoint, source, base)
        sha256 = checkpoints.sha256_of(checkpoint)
    elif source.program:
        sha256 = known.identity["sha256"]
    else:
        sha256 = digest_state(sources.build(spec, base, code, code_sha256))
        if source.torchvision or source.timm:
            notes.append("random weights: no checkpoint is named")

    identity = {
        "checkpoint": sha256,
        "select": spec.select,
        "source": known.identity,
        "code": user_code,
        "input": {"size": list(expected.size), "mean": list(expected.mean), "std": list(expected.std)},
        "head": spec.head,
        "output": spec.output,
    }
    return ResolvedModel(
        spec=spec,
        base=base,
        code=code,
        input=expected,
        labels=labels,
        checkpoint=checkpoint,
        checkpoint_sha256=sha256,
        identity=identity,
        model12=digest_identity(identity),
        family=spec.family or known.family,
        classes=classes,
        notes=tuple(notes),
    )


def check_source(resolved: ResolvedModel) -> str | None:
    """Refuse a model whose code or program is no longer the one that was resolved; hours may lie between.

    Returns the `digest_code` of the code folder where it was needed. Raises ModelError.
    """
    spec, code_sha256 = resolved.spec, None
    try:
        if spec.source.factory:
            code_sha256 = digest_code(resolved.code) if resolved.code is not None else None
            now: Any = digest_factory(spec.source.factory, resolved.code, code_sha256)
            then = resolved.identity["code"]
        elif spec.source.program or spec.source.transformers:
            now, then = sources.describe(spec, resolved.base).identity, resolved.identity["source"]
        else:
            return None
    except FieldError as error:
        raise _changed(resolved, f"its {spec.source.kind}", str(error)) from error
    if now != then:
        what = "the code of its factory" if spec.source.factory else f"its {spec.source.kind}"
        raise _changed(resolved, f"{what} {getattr(spec.source, spec.source.kind)}")
    return code_sha256


@contextlib.contextmanager
def local_checkpoint(resolved: ResolvedModel) -> Iterator[Path | None]:
    """The checkpoint as a file that stays for as long as this lasts; one elsewhere is fetched. Raises ModelError."""
    with contextlib.ExitStack() as stack:
        if isinstance(resolved.checkpoint, RemoteFile):
            try:
                path: Path | None = stack.enter_context(resolved.checkpoint.held())
            except InputError as error:
                raise ModelError(f"model {resolved.spec.name}: checkpoint {error}") from error
            except StoreError as error:
                raise FetchError(f"model {resolved.spec.name}: checkpoint {error}") from error
        else:
            path = resolved.checkpoint
        yield path


def check_checkpoint(resolved: ResolvedModel, path: Path) -> None:
    """Refuse a checkpoint, now in the file `path`, whose bytes are no longer those that were digested.

    Raises ModelError.
    """
    try:
        now = checkpoints.sha256_of(path)
    except FieldError as error:
        raise _changed(resolved, f"checkpoint {resolved.checkpoint}", str(error)) from error
    if now == resolved.checkpoint_sha256:
        return
    if isinstance(resolved.checkpoint, RemoteFile):
        resolved.checkpoint.doubt()
        raise ModelError(
            f"model {resolved.spec.name}: the copy of checkpoint {resolved.checkpoint} at {path} was altered: run the"
            " job again, and it is fetched anew"
        )
    raise _changed(resolved, f"checkpoint {resolved.checkpoint}")


def _changed(resolved: ResolvedModel, what: str, reason: str = "run the job again for what is there now") -> ModelError:
    return ModelError(f"model {resolved.spec.name}: {what} changed since the job began: {reason}")


def digest_identity(identity: dict[str, Any]) -> str:
    """The first 12 hex digits of the sha256 of `identity` as canonical JSON.

    Raises FieldError on ("source",) where an argument of the source is not plain JSON.
    """
    try:
        text = json.dumps(identity, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise FieldError(
            f"args and kwargs may hold text, finite numbers, true, false, null, lists and mappings only: {error}",
            "source",
        ) from error
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def digest_state(network: "nn.Module") -> str:
    """The sha256 (hex) over a network's state dict: names, dtypes, shapes and bytes, in the order of the names."""
    import torch

    total = hashlib.sha256()
    state = network.state_dict()
    for name in sorted(state):
        value = state[name]
        if not isinstance(value, torch.Tensor):
            total.update(f"{name} {type(value).__name__}\n".encode())
            continue
        total.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
        flat = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        total.update(flat.numpy().data)
    return total.hexdigest()


def _open(checkpoint: str, elsewhere: Elsewhere) -> RemoteFile:
    try:
        return elsewhere.open(checkpoint)
    except InputError as error:
        raise FieldError(f"checkpoint: {error}", "checkpoint") from error


def _labels(spec: ModelSpec, base: Path, known: tuple[str, ...] | None, elsewhere: Elsewhere) -> tuple[str, ...] | None:
    try:
        if spec.labels is not None:
            return tuple(load_labels(spec.labels, base, elsewhere))
        if known is not None:
            name = f"{spec.source.kind} {getattr(spec.source, spec.source.kind)}"
            check_labels(known, f"model {spec.name}: the labels of {name} cannot be used, give `labels`")
        return known
    except InputError as error:
        raise FieldError(str(error), "labels") from error

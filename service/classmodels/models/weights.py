"""From a checkpoint file to a state dict: safetensors, torch's formats, and the choice of the entry with the weights.

A checkpoint is data: safetensors first, then `torch.load(weights_only=True)`, and where that refuses the inert
reader of `torch_file.py`. `fit.py` puts the state dict into a network; `load_into` does both.
"""

import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from classmodels.errors import ModelError
from classmodels.models import torch_file
from classmodels.models.checkpoints import shards_of
from classmodels.models.fit import Versioned, fit
from classmodels.models.labels import did_you_mean
from classmodels.models.rebuild import CorruptError, Placeholder
from classmodels.models.shown import kind, listed, shown
from classmodels.models.spec import FieldError
from classmodels.models.user_code import first_line

USUAL_NAMES = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "network",
    "module",
    "weights",
    "params",
    "classifier",
)
"""Where an automatic selection looks, in this order. An average of weights (ema) is taken only when asked for."""

_NOT_WEIGHTS = re.compile(r"optim|sched|scaler|callback|loop|hyper|^amp$|^args$|^rng", re.IGNORECASE)
_DEPTH = 4
_MAX_ENTRIES = 200_000


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds: nested plain containers of tensors, and the names of the objects that were not rebuilt."""

    content: Any
    ignored: tuple[str, ...] = ()


def load_into(
    network: nn.Module,
    path: Path,
    select: str | None,
    name: str,
    fitted: Callable[[nn.Module, Mapping[str, Tensor]], list[str]] = fit,
    known_as: str | None = None,
) -> list[str]:
    """Load the weights in the file `path` into `network` and return notes on what was chosen and ignored.

    select: a dotted path to the entry that holds them, or None (automatic). name: the model's, for messages.
    fitted: what puts a state dict into the network, where a source has a way of its own. known_as: what people call
    the file, where that is not its path.
    Raises ModelError for a file that is no checkpoint or fits another network; FieldError on ("select",) where
    the entry does not exist or the choice is ambiguous.
    """
    called = known_as or path
    try:
        checkpoint = read_checkpoint(path)
        state, notes = select_state(checkpoint, select)
        return notes + fitted(network, state)
    except CorruptError as error:
        raise ModelError(f"model {name}: checkpoint {called} cannot be used: {error}") from error
    except FieldError as error:
        if error.field != ("select",):
            raise
        raise FieldError(f"model {name}: checkpoint {called}: {error}", *error.field) from error
    except OSError as error:
        raise ModelError(f"model {name}: checkpoint {called} cannot be read: {error.strerror or error}") from error


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a safetensors file or index, or any file of `torch.save`, without running anything that it names.

    Raises CorruptError for a truncated, hostile or foreign file; OSError where it cannot be read.
    """
    shards = shards_of(path)
    if shards:
        merged: dict[str, Tensor] = {}
        for shard in shards:
            merged.update(_read_safetensors(shard))
        return Checkpoint(merged)
    with path.open("rb") as file:
        start = file.read(64)
    if not start:
        raise CorruptError("it is empty")
    if start.startswith(b"version https://git-lfs"):
        raise CorruptError("it is a Git LFS pointer, not the file itself: run git lfs pull")
    if start.lstrip()[:1] == b"<":
        raise CorruptError("it is a web page, not a checkpoint: download it again")
    if path.suffix == ".safetensors" or start[8:9] == b"{":
        return Checkpoint(_read_safetensors(path))
    if torch_file.inspect(path):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                mapped = start.startswith(torch_file.ZIP_MAGIC)
                return Checkpoint(torch.load(path, map_location="cpu", weights_only=True, mmap=mapped))
        except Exception:  # it names other classes, or is damaged: the inert reader tells which
            pass
    content, ignored = torch_file.read(path)
    return Checkpoint(content, tuple(ignored))


def select_state(checkpoint: Checkpoint, select: str | None) -> tuple[dict[str, Tensor], list[str]]:
    """The state dict at `select` (None: found automatically), and notes on what else the file holds.

    Automatic: the file itself if it maps names to tensors, else the first of USUAL_NAMES that does (or holds one
    that does), else the only such mapping. Raises FieldError on ("select",) if there are several or none there.
    """
    content, path = checkpoint.content, ""
    if select is not None:
        content = _entry(content, select)
        path = select
    found = _find(content)
    if found is None:
        raise _refusal(content, select)
    inner, state = found
    path = ".".join(part for part in (path, inner) if part)
    notes = []
    if path and select is None:
        notes.append(f"weights taken from the checkpoint's entry {shown(path, 200)}")
    top = path.partition(".")[0]
    others = [key for key in checkpoint.content if key != top] if path and _is_mapping(checkpoint.content) else []
    if others:
        notes.append(f"ignored in the checkpoint: {listed(others, 12)}")
    if checkpoint.ignored:
        notes.append(f"objects in the checkpoint that were not rebuilt: {listed(list(checkpoint.ignored), 8)}")
    kept = {key: tensor for key, value in state.items() if (tensor := _tensor(value)) is not None}
    dropped = [key for key in state if key not in kept]
    if dropped:
        notes.append(f"entries beside the weights that are no tensors: {listed(dropped, 8)}")
    metadata = getattr(state, "_metadata", None)
    if isinstance(metadata, Mapping):
        kept = Versioned(kept)
        kept._metadata = metadata
    return kept, notes


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path, device="cpu")
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise CorruptError(f"it is truncated or no safetensors file ({first_line(error)})") from error


def _is_mapping(value: Any) -> bool:
    return isinstance(value, dict)


def _tensor(value: Any) -> Tensor | None:
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        return torch.from_numpy(value.copy())
    return None


def _is_state(value: Any) -> bool:
    """Whether this maps names to tensors: at least one, and nothing in it that could hold more."""
    if not _is_mapping(value) or not value or len(value) > _MAX_ENTRIES:
        return False
    if not all(isinstance(key, str) for key in value):
        return False
    arrays = sum(isinstance(item, Tensor | np.ndarray) for item in value.values())
    return arrays > 0 and not any(_is_mapping(item) and item for item in value.values())


def _find(content: Any) -> tuple[str, dict[str, Any]] | None:
    if _is_state(content):
        return "", content
    if not _is_mapping(content):
        return None
    for name in USUAL_NAMES:
        if _is_mapping(content.get(name)):
            found = _find(content[name])
            if found is not None:
                return f"{name}.{found[0]}".rstrip("."), found[1]
    candidates = list(_candidates(content, "", _DEPTH))
    if len(candidates) > 1:
        paths = [path for path, _ in candidates]
        raise FieldError(f"several entries hold weights: {listed(paths, 8)}; choose one with `select`", "select")
    return candidates[0] if candidates else None


def _candidates(content: Any, path: str, depth: int) -> Iterator[tuple[str, dict[str, Any]]]:
    if not depth or not _is_mapping(content) or len(content) > 1_000:
        return
    for key, value in content.items():
        if not isinstance(key, str) or not _is_mapping(value) or _NOT_WEIGHTS.search(key):
            continue
        place = f"{path}.{key}" if path else key
        if _is_state(value):
            yield place, value
        else:
            yield from _candidates(value, place, depth - 1)


def _entry(content: Any, select: str) -> Any:
    place, rest = content, select.split(".")
    while rest:
        # Names may hold dots themselves, so the longest that exists goes first.
        for length in range(len(rest), 0, -1):
            key: Any = ".".join(rest[:length])
            if isinstance(place, list | tuple) and key.isdecimal():
                key = int(key)
                exists = key < len(place)
            else:
                exists = _is_mapping(place) and key in place
            if exists:
                place, rest = place[key], rest[length:]
                break
        else:
            prefix = ".".join(rest) + "."
            if _is_mapping(place) and any(isinstance(key, str) and key.startswith(prefix) for key in place):
                # One of several networks in a flat state dict: what lies under the prefix.
                return {k[len(prefix) :]: v for k, v in place.items() if isinstance(k, str) and k.startswith(prefix)}
            keys = [shown(key) for key in place] if _is_mapping(place) else []
            held = f"it holds {listed(keys, 12)}" if keys else f"it holds a {kind(place)} there"
            raise FieldError(f"it has no entry {select}: {held}{did_you_mean(rest[0], keys)}", "select")
    return place


def _refusal(content: Any, select: str | None) -> Exception:
    if select is not None:
        return FieldError(f"its entry {select} is a {kind(content)}: expected a mapping of names to tensors", "select")
    if isinstance(content, Placeholder):
        return CorruptError(
            f"it holds a whole pickled object ({content.what}), not weights: save the network's state_dict() instead"
        )
    if _is_mapping(content) and content:
        return CorruptError(f"none of its entries maps names to tensors; it holds {listed(list(content), 12)}")
    return CorruptError(f"it holds a {kind(content)}: expected a mapping of names to tensors")

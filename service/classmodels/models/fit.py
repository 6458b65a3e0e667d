"""A state dict put into a network: the prefix that wrappers left is found, and everything that does not fit is listed.

`weights.py` reads the state dict.
"""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from classmodels.models.rebuild import CorruptError
from classmodels.models.shown import listed, shown
from classmodels.models.spec import FieldError
from classmodels.models.user_code import first_line

_WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_COUNTERS = re.compile(r"(?:^|\.)(?:total_ops|total_params)$")  # what profilers leave in state dicts
_AVERAGES = re.compile(r"ema|teacher|momentum|target|swa|averag", re.IGNORECASE)
_FITS = 1_000_000  # votes of a name whose shape fits too
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.(?=[12]\.)")


def fit(network: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """Copy `state` into `network` after stripping the prefix under which most of the network's names are found.

    Returns notes on the prefix, on what lies outside it, and on weights that are not finite. Raises CorruptError that
    lists all missing, unexpected and wrongly shaped names if the rest is not exactly the network's, and FieldError
    on ("select",) where several networks were saved together and more than one of them fits.
    """
    wanted = network.state_dict()
    prefix, inner = _aligned(state, wanted)
    notes = []
    if prefix:
        notes.append(f"prefix {shown(prefix)} stripped from the names of the weights")
    outside = [name for name in state if not _WRAPPERS.sub("", name).startswith(prefix)]
    if outside:
        notes.append(f"{len(outside)} weights outside {shown(prefix)} ignored: {listed(outside)}")
    counters = [name for name in inner if _COUNTERS.search(name) and name not in wanted]
    for name in counters:
        del inner[name]

    wrong: dict[str, str] = {}
    for name in [name for name in inner if name in wanted]:
        problem = _misfit(inner[name], wanted[name])
        if problem:
            wrong[name] = f"{shown(name)} {problem}"
            del inner[name]
    missing, unexpected = _copied(network, inner, wanted, bool(wrong))
    missing = [name for name in missing if name not in wrong and not name.endswith("num_batches_tracked")]
    if missing or unexpected or wrong:
        parts = []
        if missing:
            parts.append(f"{len(missing)} of the network's {len(wanted)} weights are missing ({listed(missing)})")
        if unexpected:
            parts.append(f"{len(unexpected)} are unexpected ({listed(unexpected)})")
        if wrong:
            parts.append(f"{len(wrong)} have another shape or type ({listed(list(wrong.values()))})")
        raise CorruptError(f"it fits another network than this {type(network).__name__}: " + "; ".join(parts))

    broken = [
        name
        for name, value in network.state_dict().items()
        if isinstance(value, Tensor) and value.is_floating_point() and not torch.isfinite(value).all()
    ]
    if broken:
        notes.append(f"{len(broken)} weights hold NaN or infinity: {listed(broken)}")
    return notes


def fit_transformers(network: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """As `fit`, for checkpoints whose names transformers itself has changed since they were saved."""
    try:
        return fit(network, state)
    except CorruptError as refusal:
        # Its own loading converts old names; only a checkpoint that then fits whole is taken.
        try:
            converted, info = type(network).from_pretrained(  # type: ignore[attr-defined]
                None, config=network.config, state_dict=dict(state), output_loading_info=True
            )
        except Exception:
            raise refusal from None
        if info["missing_keys"] or info["mismatched_keys"] or info["unexpected_keys"]:
            raise
        network.load_state_dict(converted.state_dict())
        return ["names of the weights converted by transformers"]


def _aligned(state: Mapping[str, Tensor], wanted: Mapping[str, Any]) -> tuple[str, dict[str, Tensor]]:
    """The best prefix, and the state under it by the network's names."""
    plain = {_WRAPPERS.sub("", name): value for name, value in state.items()}
    if any(_OLD_DENSENET.search(name) for name in plain) and not any(_OLD_DENSENET.search(name) for name in wanted):
        plain = {_OLD_DENSENET.sub(r"\1", name): value for name, value in plain.items()}
    if len(plain) != len(state):
        plain = dict(state)  # stripping made two names one: leave them alone
    votes: Counter[str] = Counter({"": 0})
    for name, value in plain.items():
        parts = name.split(".")
        # Each way to cut the name in two is a guess at the prefix.
        for cut in range(min(len(parts), 8)):
            tail = ".".join(parts[cut:])
            if tail in wanted:
                fits = not _misfit(value, wanted[tail])
                votes[".".join([*parts[:cut], ""]) if cut else ""] += _FITS if fits else 1
    prefix = _chosen(votes, len(wanted))
    inner = {name[len(prefix) :]: value for name, value in plain.items() if name.startswith(prefix)}
    metadata = getattr(state, "_metadata", None)
    if metadata is not None:
        inner = Versioned(inner)
        root = prefix.rstrip(".")
        inner._metadata = {
            "" if key == root else key[len(prefix) :]: versions
            for key, versions in metadata.items()
            if isinstance(key, str) and isinstance(versions, dict) and (key == root or key.startswith(prefix))
        }
    return prefix, inner


def _chosen(votes: Counter[str], whole: int) -> str:
    most = max(votes.values())
    best = sorted(
        (prefix for prefix, count in votes.items() if count == most), key=lambda prefix: (len(prefix), prefix)
    )
    plain = [prefix for prefix in best if not _AVERAGES.search(prefix)]
    if len(plain) > 1 and most == _FITS * whole:
        names = ", ".join(shown(prefix.rstrip(".")) for prefix in plain[:8])
        raise FieldError(f"several networks in it fit: {names}; choose one with `select`", "select")
    return (plain or best)[0]


class Versioned(dict[str, Tensor]):
    """A state dict with the versions of its modules' layouts, where load_state_dict reads them."""

    _metadata: Mapping[str, Any]

    def copy(self) -> "Versioned":
        result = Versioned(self)
        result._metadata = self._metadata
        return result


def _misfit(value: Tensor, wanted: Any) -> str | None:
    if not isinstance(wanted, Tensor) or nn.parameter.is_lazy(wanted):
        return None
    if value.shape != wanted.shape:
        return f"{_size(value)}, expected {_size(wanted)}"
    if value.device.type == "meta" or value.layout != torch.strided or value.is_quantized:
        return "holds no plain numbers"
    if wanted.is_floating_point() and not value.is_floating_point():
        return f"{str(value.dtype).removeprefix('torch.')}, expected {str(wanted.dtype).removeprefix('torch.')}"
    return None


def _size(value: Tensor) -> str:
    return "x".join(map(str, value.shape)) or "a scalar"


def _copied(
    network: nn.Module, inner: dict[str, Tensor], wanted: Mapping[str, Any], refused: bool
) -> tuple[list[str], list[str]]:
    """The names missing and unexpected. Nothing is copied if some are already refused."""
    if refused:
        return [name for name in wanted if name not in inner], [name for name in inner if name not in wanted]
    try:
        result = network.load_state_dict(inner, strict=False)
    except Exception as error:  # a module's own way of loading may fail in any way
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        said = lines[1] if len(lines) > 1 else first_line(error)
        raise CorruptError(f"it cannot be loaded into this {type(network).__name__}: {said}") from error
    return list(result.missing_keys), list(result.unexpected_keys)

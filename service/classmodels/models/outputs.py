"""From whatever a network returns to its raw scores: tensors, tuples, mappings, objects with `.logits`.

`extract` finds the score tensor; `classifier.py` applies the head to it.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from classmodels.errors import ModelError

USUAL_KEYS = ("logits", "scores", "output", "outputs", "out", "pred", "preds")
"""Where `output: auto` looks first in a mapping, in this order."""


def extract(returned: Any, output: str | int, batch: int) -> Tensor:
    """The [batch, K] floating-point scores in what a network returned.

    output: `auto` (the tensor itself; `.logits`; one of USUAL_KEYS; else the first [batch, K] tensor found),
    `logits` or another key or attribute, or an index. Trailing sides of 1, as fully convolutional networks leave
    them, are dropped, and [batch] is taken as [batch, 1]. Raises ModelError saying what was found instead.
    """
    chosen = _auto(returned, batch) if output == "auto" else _named(returned, output)
    scores = _as_scores(chosen, batch)
    if scores is None:
        chose = "" if output == "auto" else f" under output {output!r}"
        hint = "; choose one with `output`" if chosen is returned and not isinstance(chosen, Tensor) else ""
        raise ModelError(
            f"the network returned {_described(chosen)}{chose} for {batch} images: expected one row of scores for "
            f"each, [{batch}, classes], in floating point{hint}"
        )
    return scores


def _as_scores(value: Any, batch: int) -> Tensor | None:
    if not isinstance(value, Tensor) or not value.is_floating_point() or value.ndim == 0 or value.shape[0] != batch:
        return None
    if value.ndim == 1:
        return value.reshape(batch, 1)
    if all(side == 1 for side in value.shape[2:]) and value.shape[1] > 0:
        return value.reshape(batch, value.shape[1])
    return None


def _auto(returned: Any, batch: int) -> Any:
    if isinstance(returned, Tensor):
        return returned
    if isinstance(logits := getattr(returned, "logits", None), Tensor):
        return logits
    values: Iterable[Any] = ()
    if isinstance(returned, Mapping):
        values = [returned[key] for key in USUAL_KEYS if key in returned] + list(returned.values())
    elif isinstance(returned, list | tuple):
        values = returned
    return next(
        (v for v in values if isinstance(v, Tensor) and v.ndim > 1 and _as_scores(v, batch) is not None), returned
    )


def _named(returned: Any, output: str | int) -> Any:
    places = [output] if isinstance(output, int) or not output.isdecimal() else [output, int(output)]
    for place in places:
        if isinstance(returned, Mapping) and place in returned:
            return returned[place]
        if isinstance(place, str) and not isinstance(returned, Tensor | Mapping) and hasattr(returned, place):
            return getattr(returned, place)
        if isinstance(place, int) and not isinstance(returned, Tensor):
            try:
                return returned[place]
            except (KeyError, IndexError, TypeError):
                continue
    if output == "logits" and isinstance(returned, Tensor):
        return returned
    raise ModelError(f"the network returned {_described(returned)}, which has no output {output!r}")


def _described(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a {str(value.dtype).removeprefix('torch.')} tensor of shape {list(value.shape)}"
    if isinstance(value, Mapping):
        return f"a {type(value).__name__} with the keys {', '.join(map(repr, list(value)[:8])) or 'none'}"
    if isinstance(value, list | tuple):
        inner = ", ".join(_described(item) if isinstance(item, Tensor) else type(item).__name__ for item in value[:4])
        return f"a {type(value).__name__} of {len(value)} ({inner})"
    return f"a {type(value).__name__}"


def describe_scores(scores: Tensor) -> str | None:
    """What makes [B, K] scores look like no logits: `probabilities` or `log-probabilities`; None if nothing does."""
    if scores.shape[1] < 2 or not torch.isfinite(scores).all():
        return None
    one = torch.ones(scores.shape[0], device=scores.device)
    if scores.min() >= 0 and scores.max() <= 1 and torch.allclose(scores.sum(1), one, atol=1e-3):
        return "probabilities"
    if scores.max() <= 0 and torch.allclose(scores.exp().sum(1), one, atol=1e-3):
        return "log-probabilities"
    return None

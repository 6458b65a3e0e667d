"""From stored values to values a page may hold: finite numbers, bounded text, settings as rows.

Strings stay what they are (a page shows them as text); only what no page can show is replaced, and length is bounded.
"""

import json
import math
import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from typing import Any

from classmodels.ascent.recipe import Optimizer, Recipe

TEXT = 400
"""Characters of any one string that reach a page; style cuts what is shown of them much earlier."""
POINTS = 128
"""Points of a score curve that reach a page: more than a small plot can tell apart."""

ROWS = 200
"""Rows of one table of settings that reach a page: several times what a recipe or a model has."""
DEPTH = 16
"""Levels of settings that become dotted names; what lies deeper is shown as JSON."""
LARGEST = 3.5e38
"""Above every float32: no network gives such a number, and what a page reckons with smaller ones stays finite."""

_BIDI_CONTROLS = re.compile("[\u202a-\u202e\u2066-\u2069]")


def text(value: object, limit: int = TEXT) -> str:
    """`value` as one line of at most `limit` characters; control characters and half surrogates become U+FFFD."""
    line = str(value)[: limit + 1]
    if len(line) <= limit and line.isprintable():  # as nearly all are: a page has thousands
        return line
    line = "".join("\ufffd" if unicodedata.category(c) in ("Cc", "Cs") and c not in "\t\n" else c for c in line)
    line = re.sub(r"[\t\n\u2028\u2029]+", " ", line)
    return line if len(line) <= limit else line[: limit - 1] + "…"


def one_way(value: object) -> str:
    """`value` without explicit direction controls: for attributes and titles, where no <bdi> can contain them."""
    return _BIDI_CONTROLS.sub("", str(value))


def number(value: float | None, digits: int = 5) -> float | None:
    """`value` to `digits` significant digits, or None where it is no number that a float32 could be."""
    if value is None or not abs(value) <= LARGEST:
        return None
    return float(f"{value:.{digits}g}")


def mean(values: list[float]) -> float | None:
    return number(math.fsum(values) / len(values), 4) if values else None


def curve(scores: tuple[float, ...]) -> tuple[list[int], list[float | None]]:
    """A score curve as steps and the scores there, evenly thinned to POINTS; first and last always stay."""
    kept = _kept(len(scores))
    return list(kept), [number(scores[i], 4) for i in kept]


@lru_cache(16)
def _kept(count: int) -> tuple[int, ...]:
    last = count - 1
    return tuple(range(count) if last < POINTS else sorted({round(i * last / (POINTS - 1)) for i in range(POINTS)}))


def flat(settings: Any) -> dict[str, Any]:
    """Nested mappings as one mapping with dotted names, the first ROWS of it; lists and scalars stay values."""
    return dict(islice(_leaves(settings, "", 0), ROWS))


def _leaves(settings: Any, prefix: str, depth: int) -> Iterator[tuple[str, Any]]:
    if not isinstance(settings, dict) or not settings or depth == DEPTH:
        if prefix:
            yield prefix, settings
        return
    for name, value in settings.items():
        # Longer than any name that is shown, and never as long as the names of all levels together.
        yield from _leaves(value, (f"{prefix}.{name}" if prefix else name)[: 2 * TEXT], depth + 1)


def neutral_settings() -> dict[str, Any]:
    """What each field of a recipe is when it does nothing, by dotted name; steps and lr have no such value."""
    plain = flat(Recipe(steps=1, optimizer=Optimizer(lr=1)).model_dump(mode="json"))
    return {name: value for name, value in plain.items() if name not in ("steps", "optimizer.lr")}


def shown(value: Any) -> str:
    """A setting's value for people: text bare, numbers short, anything else as JSON."""
    if isinstance(value, str):
        return text(value)
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:.6g}"
    if isinstance(value, list) and all(isinstance(item, int | float) for item in value):
        return text("[" + ", ".join(shown(item) for item in value[:TEXT]) + "]")
    if value is None:
        return "none"
    return text(json.dumps(value, ensure_ascii=False))


def rows(settings: dict[str, Any], neutral: dict[str, Any] | None = None) -> list[list[Any]]:
    """`settings` as rows [name, value, differs], sorted by name; with `neutral`, what differs from it comes first."""
    named = sorted(flat(settings).items())
    if neutral is None:
        return [[text(name), shown(value), True] for name, value in named]
    marked = [[text(name), shown(value), name not in neutral or value != neutral[name]] for name, value in named]
    return sorted(marked, key=lambda row: not row[2])

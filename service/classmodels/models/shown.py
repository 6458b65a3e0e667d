"""Names that come from checkpoints, fit for a sentence: no control characters, neither names nor lists too long."""

import re
from collections.abc import Sequence
from typing import Any

from classmodels.models.rebuild import Placeholder


def shown(key: Any, most: int = 100) -> str:
    """A key of any type as printable text of at most `most` characters."""
    text = key if isinstance(key, str) else str(key) if isinstance(key, int) and abs(key) < 1 << 64 else kind(key)
    return re.sub(r"[^\x20-\x7e]", "?", text[:most])


def kind(value: Any) -> str:
    """What a value is: the name of its type, or of the object that a placeholder stands for."""
    return value.what if isinstance(value, Placeholder) else type(value).__name__


def listed(names: Sequence[Any], limit: int = 5) -> str:
    """The first `limit` of them, shown, and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(shown(name, 200) for name in names[:limit]) + more

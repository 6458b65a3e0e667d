"""The page of a comparison, and its data beside it: pure functions of what was compared."""

import json
from collections.abc import Mapping
from typing import Any

from classmodels.gallery.html import render


def render_comparison(view: Mapping[str, Any], timeline: str | None = None) -> bytes:
    """The page of a view as `compare_view` gives it. timeline: a link to the model's timeline."""
    styles, scripts = ["gallery.css", "compare.css"], ["compare.js"]
    return render("compare.html", styles, scripts, view=view, timeline=timeline).encode()


def json_bytes(value: Any) -> bytes:
    """JSON in its own order, a line for each class or so."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return (text.replace('},{"index"', '},\n{"index"') + "\n").encode()

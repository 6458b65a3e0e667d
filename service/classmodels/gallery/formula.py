"""A recipe in the notation of the article: what is maximised, and the regularizer, from a record's settings.

Settings come from records that others may have written: a field that is not what a recipe has is left out.
"""

from typing import Any


def objective(settings: dict[str, Any]) -> str:
    """What the ascent maximises, before the regularizer."""
    return "log p_c(x)" if settings.get("objective") == "log_prob" else "S_c(x)"


def regularizer(settings: dict[str, Any]) -> str:
    """R(x) as one line, such as `0.01·Σ(x−x0)²`; empty where nothing but the box holds the image."""
    given = _part(settings, "regularizers")
    terms = [
        f"{weight:.4g}·{term}"
        for name, term in (("l2", "Σ(x−x0)²"), ("l1", "Σ|x−x0|"), ("tv", "TV(x)"))
        if (weight := _number(given, name)) > 0
    ]
    return " + ".join(terms)


def x0(settings: dict[str, Any]) -> str:
    """What the image is pulled towards: the mean image or black."""
    return "black" if _part(settings, "regularizers").get("towards") == "black" else "the mean image"


def filters(settings: dict[str, Any]) -> list[str]:
    """The periodic filters, each as a phrase: blur, clipping."""
    given = _part(settings, "regularizers")
    phrases = []
    if (sigma := _number(_part(given, "blur"), "sigma")) > 0:
        phrases.append(f"blur of {sigma:.4g} px {_every(_part(given, 'blur'))}")
    for name, what in (("small_norm", "norm"), ("small_contribution", "contribution")):
        clip = _part(given, name)
        if (percentile := _number(clip, "percentile")) > 0:
            phrases.append(f"the {percentile:.4g} % of pixels of smallest {what} set to x0 {_every(clip)}")
    return phrases


def clips(settings: dict[str, Any]) -> bool:
    """Whether pixels are set to x0 outright, whatever the regularizer leaves of them."""
    given = _part(settings, "regularizers")
    return any(_number(_part(given, name), "percentile") > 0 for name in ("small_norm", "small_contribution"))


def _every(part: dict[str, Any]) -> str:
    every = int(_number(part, "every")) or 1
    return "after every step" if every == 1 else f"after every {every} steps"


def _part(settings: dict[str, Any], name: str) -> dict[str, Any]:
    part = settings.get(name)
    return part if isinstance(part, dict) else {}


def _number(part: dict[str, Any], name: str) -> float:
    value = part.get(name)
    return float(value) if isinstance(value, int | float) and 0 <= value < 1e38 else 0.0

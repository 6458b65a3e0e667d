"""Identity: digests of all that decides what an image is, and of nothing else.

`model12` is made in `models/resolve.py` by the same rule: SHA-256 of canonical JSON, twelve hex digits.
"""

import hashlib
import json
from typing import Any

from classmodels.ascent.recipe import Recipe

ALGORITHM = 1
"""Raised when the same recipe would give another image: by a change of the mathematics, of the draws, or of a neutral
default (neutral values are left out of a recipe's identity, so that a new field with a neutral default keeps it)."""


def digest(value: Any) -> str:
    """The SHA-256, in hex, of `value` as canonical JSON: sorted keys, no spaces, no NaN."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def digest12(value: Any) -> str:
    """The first twelve digits of `digest`: what names and keys carry."""
    return digest(value)[:12]


def recipe_identity(recipe: Recipe, seed: int) -> dict[str, Any]:
    """What recipe12 is made from: the canonical recipe, the seed, the requested precision, the algorithm's version."""
    canonical = recipe.model_dump(mode="json", exclude_defaults=True, exclude={"precision"})
    return {"algorithm": ALGORITHM, "precision": recipe.precision, "recipe": canonical, "seed": seed}


def unit_identity(model12: str, recipe12: str, class_index: int) -> str:
    """What a unit's randomness is drawn from."""
    return f"{model12}/{recipe12}/{class_index}"

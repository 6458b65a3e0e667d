"""From what a job says of a recipe to the whole recipe: presets, `extends`, deep merge."""

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from classmodels.ascent.recipe import Recipe
from classmodels.errors import InputError
from classmodels.job.document import Path_, shown
from classmodels.job.findings import Findings
from classmodels.job.presets import PRESETS
from classmodels.models.labels import did_you_mean
from classmodels.models.spec import Name


@dataclass(frozen=True)
class NamedRecipe:
    """A recipe under the name people will meet it by."""

    name: str
    recipe: Recipe


def merge(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """`base` with `change` laid over it: mappings key by key, everything else replaced. Neither is modified."""
    merged = copy.deepcopy(base)
    for key, value in change.items():
        below = merged.get(key)
        both = isinstance(below, dict) and isinstance(value, dict)
        merged[key] = merge(below, value) if both else copy.deepcopy(value)  # type: ignore[arg-type]
    return merged


def expand(entry: dict[str, Any], named: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """`entry` with all it extends beneath it; without `extends` it stands on the preset it is
    named after, or on `plain`.

    named: further recipes by name, which hide presets of the same name. Raises KeyError (the unknown name) and
    RecursionError (recipes that extend each other).
    """
    chain = [entry]
    while chain[-1] is not PRESETS["plain"]:
        below = chain[-1].get("extends")
        if below is None:
            # Whoever calls a recipe `natural` means the preset, with changes.
            name = chain[-1].get("name")
            below = name if isinstance(name, str) and name in PRESETS else "plain"
        source = named.get(below)
        if source is None or source is chain[-1]:  # a recipe may extend the preset it is named after
            source = PRESETS.get(below)
        if source is None:
            raise RecursionError(below) if below in named else KeyError(below)
        if any(source is link for link in chain):
            raise RecursionError(below)
        chain.append(source)
    merged: dict[str, Any] = {}
    for link in reversed(chain):
        merged = merge(merged, {key: value for key, value in link.items() if key not in ("name", "extends")})
    return merged


def check_recipes(entries: Any, findings: Findings) -> list[NamedRecipe]:
    """The recipes that a job's `recipes` stand for, but for those with problems."""
    if not isinstance(entries, list) or len(entries) > 1000:
        return []
    named = {
        entry["name"]: entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("name"), str)
    }
    recipes, names = [], {}
    for index, entry in enumerate(entries):
        if isinstance(entry, str):
            entry = {"name": entry, "extends": entry}
        elif not isinstance(entry, dict):
            continue
        recipe = _check_recipe(entry, named, ("recipes", index), findings)
        if recipe is not None:
            recipes.append(recipe)
            names[index] = recipe.name
    findings.unique(names, "recipes", "give one of them another name")
    return recipes


def _check_recipe(
    entry: dict[str, Any], named: dict[str, dict[str, Any]], at: Path_, findings: Findings
) -> NamedRecipe | None:
    naming = findings.valid(_Naming, {key: entry[key] for key in ("name", "extends") if key in entry}, at)
    if naming is None:
        return None
    name = naming.name or naming.extends
    if name is None:
        findings.add(at, "the recipe has no name, expected name: or extends:")
        return None
    try:
        whole = expand(entry, named)
    except KeyError as error:
        choices = sorted({*PRESETS, *named})
        findings.add(
            (*at, "extends"),
            f"found the unknown recipe {shown(error.args[0])}, expected one of {', '.join(choices)}"
            f"{did_you_mean(error.args[0], choices)}",
        )
        return None
    except RecursionError:
        message = f"the recipe {shown(name)} extends itself, expected a chain that ends at a preset"
        findings.add((*at, "extends"), message)
        return None
    parent = named.get(str(entry.get("extends")), entry)
    elsewhere = parent is not entry and findings.valid(Recipe, expand(parent, named), quiet=True) is None
    recipe = findings.valid(Recipe, whole, at, beside=tuple(_Naming.model_fields), told_elsewhere=elsewhere)
    return None if recipe is None else NamedRecipe(name, recipe)


class _Naming(BaseModel, extra="forbid"):
    """The two fields that a job's recipe has beyond those of a recipe."""

    name: Name | None = None
    extends: str | None = None


def recipe_of(value: str | Mapping[str, Any]) -> NamedRecipe:
    """The recipe that a preset's name, or a mapping as in a job file, stands for. Raises InputError."""
    if not isinstance(value, str | Mapping):
        raise InputError(f"recipe: found {value!r:.60}, expected a preset's name or a mapping as in a job file")
    entry = {"name": value, "extends": value} if isinstance(value, str) else dict(value)
    if not isinstance(entry.get("extends", ""), str | None):
        raise InputError(f"recipe: found extends {entry['extends']!r:.60}, expected a preset's name")
    try:
        whole = expand(entry, {})
    except KeyError as error:
        name = str(error.args[0])
        choices = sorted(PRESETS)
        raise InputError(
            f"found the unknown recipe {name!r}, expected one of {', '.join(choices)}{did_you_mean(name, choices)}"
        ) from error
    try:
        recipe = Recipe.model_validate_json(json.dumps(whole), strict=True)
    except (ValidationError, TypeError) as error:
        raise InputError(f"the recipe is wrong: {_sentences(error)}") from error
    return NamedRecipe(str(entry.get("name") or entry.get("extends") or "recipe"), recipe)


def _sentences(error: ValidationError | TypeError) -> str:
    if isinstance(error, TypeError):
        return f"{error}; expected plain numbers, text, lists and mappings"
    return "; ".join(f"{'.'.join(map(str, one['loc'])) or 'recipe'}: {one['msg']}" for one in error.errors())

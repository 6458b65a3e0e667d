"""What the page says over all images together: who agrees with whom, and what the objective changes.

`panel_table` is the model x judge table; `contrast` pairs images of one class that were ascended for the raw score and
for the probability (Simonyan et al. 2013, section 2).
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

from classmodels.gallery.plain import flat, mean, number
from classmodels.gallery.units import Judged, Unit

TOP = 5
RIVALS = 100
"""Recipes that are looked through for the partner of one image: more than a job compares."""


class Ranking(NamedTuple):
    """How judges that answered rank the class: how many they are, how many have it first, how many among the first."""

    n: int
    first: int
    among_top: int
    probability: float | None


def ranking(judged: Iterable[Judged]) -> Ranking:
    """The answers of those of `judged` that know the class and have said how they rank it."""
    answers = [j.verdict for j in judged if j.verdict is not None and j.verdict.rank is not None]
    ranks = [verdict.rank for verdict in answers if verdict.rank is not None]
    return Ranking(
        n=len(ranks),
        first=sum(rank == 1 for rank in ranks),
        among_top=sum(rank <= TOP for rank in ranks),
        probability=mean([verdict.probability for verdict in answers if verdict.probability is not None]),
    )


def panel_table(
    units: list[Unit], model_at: dict[tuple[str, str], int], recipe_at: dict[tuple[str, str], int]
) -> list[dict[str, Any]]:
    """A row for each model and recipe, in it a cell for each judge: {n, top1, top5, probability, relation}.

    Rates are over the `n` images the judge answered for; `n` = 0 leaves them None.
    """
    table: dict[tuple[int, int], dict[str, list[Judged]]] = defaultdict(lambda: defaultdict(list))
    judges = list(dict.fromkeys(j.judge.judge12 for unit in units for j in unit.judged))
    for unit in units:
        row = table[model_at[unit.model, unit.model12], recipe_at[unit.recipe, unit.recipe12]]
        for judged in unit.judged:
            row[judged.judge.judge12].append(judged)
    return [
        {
            "model": model,
            "recipe": recipe,
            "cells": [_cell(row[judge]) for judge in judges],
            "held_out": _cell([j for judge in judges for j in row[judge] if j.held_out]),
        }
        for (model, recipe), row in table.items()
        if row
    ]


def _cell(judged: list[Judged]) -> dict[str, Any]:
    seen = ranking(judged)
    return {
        "n": seen.n,
        "top1": number(seen.first / seen.n, 4) if seen.n else None,
        "top5": number(seen.among_top / seen.n, 4) if seen.n else None,
        "probability": seen.probability,
        "relation": judged[0].relation if judged else None,
    }


def contrast(units: list[Unit]) -> list[dict[str, int]]:
    """Pairs of positions in `units`, {score, probability}: one class of one model, ascended for each objective.

    Of several recipes that ascend the score, the one with fewest other settings changed is the fair partner.
    """
    of_class: dict[tuple[str, int], list[int]] = defaultdict(list)
    for position, unit in enumerate(units):
        if unit.record is not None:
            of_class[unit.model12, unit.class_index].append(position)
    pairs = []
    for position, unit in enumerate(units):
        if _objective(unit) == "log_prob":
            rivals = [p for p in of_class[unit.model12, unit.class_index] if _objective(units[p]) == "logit"]
            if rivals:
                partner = min(rivals[:RIVALS], key=lambda p: (_difference(units[p], unit), p))
                pairs.append({"score": partner, "probability": position})
    return pairs


def _objective(unit: Unit) -> Any:
    return unit.record.recipe.settings.get("objective") if unit.record is not None else None


def _difference(one: Unit, other: Unit) -> int:
    assert one.record is not None
    assert other.record is not None
    left, right = flat(one.record.recipe.settings), flat(other.record.recipe.settings)
    return sum(left.get(name) != right.get(name) for name in left.keys() | right.keys())

"""Which checkpoints of a model are neighbours: the one definition by which they judge each other and are compared."""

from collections.abc import Collection, Iterable
from itertools import pairwise

from classmodels.store.nights import Done, in_order


def each_once(done: Iterable[Done]) -> list[Done]:
    """One entry for each checkpoint, oldest first; of the same weights in two places the older."""
    return in_order({one.model12: one for one in reversed(in_order(done))}.values())


def by_model(done: Iterable[Done]) -> dict[str, list[Done]]:
    """The entries of each checkpoint, by its model12."""
    found: dict[str, list[Done]] = {}
    for one in done:
        found.setdefault(one.model12, []).append(one)
    return found


def in_line(done: Collection[Done], galleries: Collection[str], recipe: str) -> list[list[Done]]:
    """The entries under `recipe` of each checkpoint of one source that has a gallery, oldest first.

    done: all entries of the source; galleries: the run12s that have a page.
    """
    alive = by_model(one for one in done if one.run12 in galleries and one.recipe == recipe)
    return [alive[one.model12] for one in each_once(done) if one.model12 in alive]


def neighbours(line: list[list[Done]]) -> list[tuple[Done, Done]]:
    """Each checkpoint of `line` after the one before, each as the entry that is compared: made alike, where that can be
    had."""
    pairs = []
    for mine, theirs in pairwise(line):
        way = max({_made(one) for one in mine} & {_made(one) for one in theirs}, default=None)
        pairs.append((best(mine, way), best(theirs, way)))
    return pairs


def best(entries: list[Done], way: tuple[int, str] | None = None) -> Done:
    """The entry made in this `way`, or by the newest algorithm."""
    alike = [one for one in entries if _made(one) == way] or entries
    return max(alike, key=lambda one: (_made(one), one.uri))


def _made(done: Done) -> tuple[int, str]:
    return done.algorithm, done.wanted12

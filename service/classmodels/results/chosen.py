"""Which units of a gallery are meant by names of classes, recipes and models: for a figure, and for what it cites."""

from collections.abc import Sequence

from classmodels.errors import InputError
from classmodels.gallery.units import Unit, read_units
from classmodels.results.place import Place
from classmodels.results.survey import Gallery, the_gallery


def chosen(
    place: Place, classes: Sequence[str] = (), recipes: Sequence[str] = (), models: Sequence[str] = ()
) -> tuple[Gallery, list[Unit]]:
    """The gallery that `place` means, and those of its units that are done and chosen, in the order of the choice.

    classes: indices, ranges such as 10-19, and names (any synonym of a label). What is empty chooses all. Raises
    InputError where something chosen is not there, StoreError.
    """
    gallery = the_gallery(place)
    units = [unit for unit in read_units(place.store, gallery.plan) if unit.record is not None]
    if not units:
        raise InputError(f"{place}: found no image that is done, expected one at least")
    for what, wanted, known in (
        ("recipe", recipes, dict.fromkeys(unit.recipe for unit in units)),
        ("model", models, dict.fromkeys(unit.model for unit in units)),
    ):
        for name in wanted:
            if name not in known:
                raise InputError(
                    f"found no {what} {name!r} that is done in {place}, expected one of {', '.join(known)}"
                )
    if models:
        units = [unit for name in models for unit in units if unit.model == name]
    if recipes:
        units = [unit for name in recipes for unit in units if unit.recipe == name]
    if classes:
        indices = list(dict.fromkeys(index for name in classes for index in _indices(name, units, place)))
        units = [unit for index in indices for unit in units if unit.class_index == index]
    return gallery, units


def split(values: Sequence[str]) -> list[str]:
    """Values of an option that may be given several times, and hold several each, with commas between."""
    return [part.strip() for value in values for part in value.split(",") if part.strip()]


def _indices(name: str, units: Sequence[Unit], place: Place) -> list[int]:
    known = dict.fromkeys(unit.class_index for unit in units)
    first, dash, last = name.partition("-")
    if name.isdecimal():
        found = [index for index in known if index == int(name)]
    elif dash and first.isdecimal() and last.isdecimal():
        found = sorted(index for index in known if int(first) <= index <= int(last))
    else:
        found = list(dict.fromkeys(unit.class_index for unit in units if _plain(name) in _synonyms(unit)))
    if not found:
        raise InputError(f"found no class {name!r} that is done in {place}; `classmodels list` tells what is there")
    return found


def _synonyms(unit: Unit) -> set[str]:
    label = unit.record.label if unit.record is not None else ""
    return {_plain(label), *(_plain(synonym) for synonym in label.split(","))}


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").split()).casefold()

"""`list`: what galleries and units a place holds."""

from dataclasses import dataclass

from classmodels.results.place import Place
from classmodels.results.progress import megabytes
from classmodels.results.survey import survey
from classmodels.store.believed import unit_key


@dataclass(frozen=True)
class GalleryLine:
    """One gallery. done: how many of its units have a record; page: where to open it, None where there is none yet."""

    job: str
    run12: str
    begun: str
    units: int
    done: int
    judges: int
    models: tuple[str, ...]
    recipes: tuple[str, ...]
    latest: bool
    page: str | None


@dataclass(frozen=True)
class UnitsLine:
    """The units of one model under one recipe. galleries: how many of those that are listed show some of them."""

    model: str
    recipe: str
    done: int
    bytes: int
    galleries: int


@dataclass(frozen=True)
class Holdings:
    """What there is; `strange` are objects that are not what they should be, each with what is wrong."""

    galleries: list[GalleryLine]
    units: list[UnitsLine]
    bytes: int
    strange: dict[str, str]


def holdings(place: Place) -> Holdings:
    """What `place` holds. Raises StoreError."""
    found = survey(place)
    galleries = []
    shown: dict[str, int] = {}
    for one in found.galleries:
        units = [unit for key in one.plan.records if (unit := unit_key(key))]
        for folder in {key.rpartition("/")[0] for key in one.plan.records}:
            shown[folder] = shown.get(folder, 0) + 1
        galleries.append(
            GalleryLine(
                job=one.plan.job,
                run12=one.plan.run12,
                begun=one.begun.isoformat(timespec="seconds"),
                units=len(units),
                done=sum(key in found.records for key in one.plan.records),
                judges=len(one.plan.judges),
                models=tuple(dict.fromkeys(f"{unit.model}@{unit.model12}" for unit in units)),
                recipes=tuple(dict.fromkeys(f"{unit.recipe}@{unit.recipe12}" for unit in units)),
                latest=one.latest,
                page=place.store.locate(one.page) if one.finished else None,
            )
        )
    count: dict[str, int] = {}
    size: dict[str, int] = {}
    for key, entry in (found.records | found.files).items():
        folder = key.rpartition("/")[0]
        count[folder] = count.get(folder, 0) + (key in found.records)
        size[folder] = size.get(folder, 0) + entry.size
    units_lines = [
        UnitsLine(folder.split("/")[1], folder.split("/")[2], count[folder], size[folder], shown.get(folder, 0))
        for folder in sorted(count)
        if folder.count("/") == 2
    ]
    objects = found.records | found.files | found.verdicts
    for one in found.galleries:
        objects |= one.objects | one.run
    return Holdings(galleries, units_lines, sum(entry.size for entry in objects.values()), found.strange)


def lines(found: Holdings) -> list[str]:
    """`found` for people."""
    said = []
    for one in found.galleries:
        mark = "  latest" if one.latest else ""
        said.append(f"{one.job}  {one.run12}  {one.begun[:16]}  {one.done} of {one.units} units{mark}")
        said.append(f"    {one.page or 'no page yet'}")
    if found.units:
        said.append("")
    width = max((len(one.model) + len(one.recipe) + 3 for one in found.units), default=0)
    for row in found.units:
        name = f"{row.model} / {row.recipe}"
        where = "" if row.galleries or not found.galleries else ", in no gallery"
        said.append(f"{name:<{width}}  {row.done:>6} units  {megabytes(row.bytes):>10}{where}")
    said += [f"{key}: {what}" for key, what in found.strange.items()]
    said.append(f"{len(found.galleries)} galleries, {sum(r.done for r in found.units)} units, {megabytes(found.bytes)}")
    return said

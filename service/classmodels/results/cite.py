"""`cite`: what a paper says of its class models: a paragraph on methods, BibTeX, and how to run their job again.

The paragraph is from records and verdicts, so that it says what was done and not what a job file of today would do.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from classmodels.gallery import formula
from classmodels.gallery.agreement import ranking
from classmodels.gallery.plain import text
from classmodels.gallery.units import Unit
from classmodels.gallery.view import rerun
from classmodels.results.chosen import chosen
from classmodels.results.place import Place
from classmodels.store import Record

SIMONYAN = """@article{simonyan2013deep,
  title = {Deep Inside Convolutional Networks: Visualising Image Classification Models and Saliency Maps},
  author = {Simonyan, Karen and Vedaldi, Andrea and Zisserman, Andrew},
  journal = {arXiv preprint arXiv:1312.6034},
  year = {2013}
}"""


@dataclass(frozen=True)
class Cited:
    """What `cite` says. methods: paragraphs; bibtex: entries; again: a command."""

    job: str
    run12: str
    methods: str
    bibtex: str
    again: str


def cite(place: Place) -> Cited:
    """What is to be said of the gallery that `place` means. Raises InputError where nothing is done, StoreError."""
    gallery, units = chosen(place)
    versions = sorted({text(unit.record.package.get("classmodels", "?"), 40) for unit in units if unit.record})
    said = [_opening(units, versions)]
    said += [_recipe(mine) for mine in _by_recipe(units)]
    said += [_judges(units)] if any(unit.judged for unit in units) else []
    return Cited(
        job=gallery.plan.job,
        run12=gallery.plan.run12,
        methods="\n".join(said),
        bibtex=f"{SIMONYAN}\n\n{_software(versions)}",
        again=rerun(gallery.plan.job),
    )


def _opening(units: Sequence[Unit], versions: Sequence[str]) -> str:
    models = {unit.model12: unit.record for unit in units if unit.record is not None}
    networks = _and([_network(record) for record in models.values()])
    classes = len({unit.class_index for unit in units})
    return (
        f"Class models (Simonyan et al., 2013, section 2) of {classes} {'class' if classes == 1 else 'classes'} of"
        f" {networks} were made with classmodels {_and(versions)}: for each class c, an image x within the box of"
        " displayable values that raises the raw class score S_c(x) under a regularizer, by gradient ascent on x."
    )


def _network(record: Record) -> str:
    identity = record.model.identity
    given = identity.get("input")
    size = given.get("size") if isinstance(given, dict) else None
    checkpoint = identity.get("checkpoint")
    said = [f"checkpoint with sha256 {text(checkpoint, 64)}"] if isinstance(checkpoint, str) else []
    if isinstance(size, list) and len(size) == 2:
        said.append(f"input {text(size[0], 9)} x {text(size[1], 9)}")
    return text(record.model.name) + (f" ({', '.join(said)})" if said else "")


def _by_recipe(units: Sequence[Unit]) -> list[list[Unit]]:
    found: dict[str, list[Unit]] = {}
    for unit in units:
        found.setdefault(unit.recipe12, []).append(unit)
    return list(found.values())


def _recipe(mine: Sequence[Unit]) -> str:
    """One sentence on a recipe: what it maximises, and how."""
    record = mine[0].record
    assert record is not None
    settings = record.recipe.settings
    penalty = formula.regularizer(settings)
    goal = formula.objective(settings) + (f" - ({penalty}), x0 being {formula.x0(settings)}" if penalty else "")
    optimizer = _part(settings, "optimizer")
    steps = len(record.scores) - 1
    how = [f"{steps} {'step' if steps == 1 else 'steps'} of {text(optimizer.get('kind', 'sgd'), 20)}"]
    how.append(f"learning rate {_number(optimizer.get('lr'))}, {text(optimizer.get('schedule', 'constant'), 20)}")
    if optimizer.get("momentum"):
        how.append(f"momentum {_number(optimizer['momentum'])}")
    if optimizer.get("normalize", "none") != "none":
        how.append(f"gradient normalised by its {text(optimizer['normalize'], 20)}")
    how += _transforms(_part(settings, "transforms"))
    how += (preconditioned := _preconditioner(_part(settings, "preconditioner")))
    how += formula.filters(settings)
    exact = optimizer.get("kind") == "sgd" and optimizer.get("normalize") == "none" and not preconditioned
    balance = "" if exact or not penalty else "; the penalty weighs against the direction of the step, not the gradient"
    return f"Recipe {text(record.recipe.name)} maximises {goal}: {'; '.join(how)}{balance}; seed {record.seed}."


def _transforms(given: dict[str, Any]) -> list[str]:
    said = []
    if given.get("rotate"):
        said.append(f"rotation by up to {_number(given['rotate'])} degrees")
    scale = given.get("scale")
    if isinstance(scale, list) and len(scale) == 2 and scale != [1.0, 1.0]:
        said.append(f"scaling by {_number(scale[0])} to {_number(scale[1])}")
    if given.get("shift"):
        said.append(f"a shift of up to {_number(given['shift'])} of the side")
    if given.get("jitter"):
        said.append(f"a jitter of up to {_number(given['jitter'])} px")
    if given.get("flip") is True:
        said.append("flips")
    return [f"at each step a random {_and(said)}"] if said else []


def _preconditioner(given: dict[str, Any]) -> list[str]:
    said = []
    spectral = given.get("spectral")
    if isinstance(spectral, list) and len(spectral) == 2 and any(spectral):
        first, last = map(_number, spectral)
        exponent = f"a = {first}" if first == last else f"a from {first} to {last}"
        said.append(f"|f|^(-2a), {exponent}, f floored at {_number(given.get('floor'))} cycles per image")
    if given.get("color") is True:
        said.append("the colour covariance of natural images")
    if given.get("focus"):
        said.append(f"a Gaussian window of {_number(given['focus'])} half sides")
    return [f"gradient preconditioned with {_and(said)}"] if said else []


def _judges(units: Sequence[Unit]) -> str:
    names = {j.judge.judge12: j for unit in units for j in unit.judged if j.held_out}
    if not names:
        return "No other network has judged the images."
    seen = ranking(j for unit in units for j in unit.judged if j.held_out)
    kin = sum(j.relation == "same family" for j in names.values())
    said = f"The images, as stored in 8 bits, were judged by {_and([text(j.judge.name) for j in names.values()])}"
    family = f" ({kin} of {len(names)} of the same family as the network that was ascended)" if kin else ""
    rate = f"; the class was ranked first in {seen.first} of {seen.n} verdicts" if seen.n else ""
    return f"{said}{family}{rate}."


def _software(versions: Sequence[str]) -> str:
    return (
        "@software{classmodels,\n"
        "  title = {classmodels: class models of image classifiers, as a batch service},\n"
        "  author = {{The classmodels maintainers}},\n"
        f"  version = {{{_bibtex(', '.join(versions))}}}\n"
        "}"
    )


def _bibtex(value: str) -> str:
    """`value` without what BibTeX takes for markup."""
    return "".join(character for character in value if character.isalnum() or character in " .,+-")


def _part(settings: dict[str, Any], name: str) -> dict[str, Any]:
    part = settings.get(name)
    return part if isinstance(part, dict) else {}


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, int | float) else text(value, 40)


def _and(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}" if parts else "nothing"

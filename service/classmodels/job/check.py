"""Checking a job file: every problem at once, each with its place; and what a job without problems comes to.

The order of a check: the schema, the recipes with all they extend (`recipes.py`), the models with their files and
labels, the classes by those labels (`models.py`), the panel (`panel.py`). A part that is wrong does not keep the others
from being checked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from classmodels.errors import InputError
from classmodels.job.document import Document, JobFileError, read
from classmodels.job.findings import Findings
from classmodels.job.models import Models, check_models
from classmodels.job.override import override
from classmodels.job.panel import Judge, check_panel
from classmodels.job.recipes import NamedRecipe, check_recipes
from classmodels.job.schema import Job, Storage
from classmodels.models.remote.base import Listener
from classmodels.models.remote.elsewhere import Elsewhere
from classmodels.models.resolve import ResolvedModel
from classmodels.s3 import S3Settings
from classmodels.store import open_store


@dataclass(frozen=True)
class CheckedJob:
    """A job in which nothing is wrong that can be told before the ascent.

    classes: the class indices of every ascended model, by its name. broken: why a model's network, which was asked
    for its number of classes, could not be loaded, by its name. uncounted: the models that were not asked, because
    their checkpoints are elsewhere and nothing was to be downloaded; a plan cannot be made then.
    """

    job: Job
    document: Document
    models: tuple[ResolvedModel, ...]
    recipes: tuple[NamedRecipe, ...]
    classes: dict[str, tuple[int, ...]]
    panel: tuple[Judge, ...]
    broken: dict[str, str]
    uncounted: tuple[str, ...] = ()


def load_job(
    file: str | Path, overrides: Sequence[str] = (), listener: Listener | None = None, download: bool = True
) -> CheckedJob:
    """The job in `file`, with `overrides` (`path=value`) laid over it, checked. Raises JobFileError, InputError.

    download: whether checkpoints elsewhere are fetched where nothing else tells their digests, of which `listener`
    hears; without, they are only looked for. Raises StoreError where that cannot be done and nothing else is wrong.
    """
    return check_job(read(file), overrides, listener, download)


def check_job(
    document: Document, overrides: Sequence[str] = (), listener: Listener | None = None, download: bool = True
) -> CheckedJob:
    """As `load_job`; relative paths count from the folder of `document.file`."""
    for option in overrides:
        override(document, option)
    findings = Findings(document)
    job = findings.valid(Job, document.data)
    data = document.data if isinstance(document.data, dict) else {}
    recipes = check_recipes(data.get("recipes", ["natural"]), findings)
    storage = findings.valid(Storage, data.get("storage", {}), quiet=True) or Storage()
    elsewhere = Elsewhere(S3Settings(**storage.model_dump()), listener, download)
    base = Path(document.file).absolute().parent
    models = check_models(data.get("models"), data.get("code"), base, elsewhere, findings)
    classes = models.check_classes(data.get("classes"), findings)
    panel = check_panel(data.get("panel", "all"), models, findings)
    _check_output(data.get("output"), findings)
    if job is not None and not findings.problems:
        _check_whole(job, models, classes, len(recipes), findings)
    findings.tell()
    assert job is not None  # or else there were problems
    return CheckedJob(
        job=job,
        document=document,
        models=tuple(models.resolved),
        recipes=tuple(recipes),
        classes=classes,
        panel=tuple(panel),
        broken=models.broken,
        uncounted=tuple(models.uncounted),
    )


def well_formed(document: Document, overrides: Sequence[str] = ()) -> Job:
    """The job in `document` with `overrides`, by its schema alone: no file is looked for. Raises JobFileError."""
    for option in overrides:
        override(document, option)
    findings = Findings(document)
    job = findings.valid(Job, document.data)
    if job is None:
        raise JobFileError(findings.problems)
    return job


def read_recipes(document: Document) -> tuple[NamedRecipe, ...]:
    """The recipes of the job in `document`, whole; nothing else of it is looked at. Raises JobFileError."""
    findings = Findings(document)
    recipes = check_recipes(document.data.get("recipes", ["natural"]), findings)
    findings.tell()
    return tuple(recipes)


def _check_output(output: Any, findings: Findings) -> None:
    if isinstance(output, str):
        try:
            open_store(output)
        except InputError as error:
            findings.add(("output",), str(error))


def _check_whole(
    job: Job, models: Models, classes: dict[str, tuple[int, ...]], recipes: int, findings: Findings
) -> None:
    """What only a job tells whose parts are right: whether there is anything to do, and not too much of it."""
    if not models.ascended:
        findings.add(("models",), "every model is a judge, expected at least one with role: ascend")
    units = sum(len(classes[model.spec.name]) for model in models.ascended) * recipes
    if units > job.limits.units:
        findings.add(
            ("limits", "units"),
            f"the job has {units} units, expected at most {job.limits.units}; raise limits.units if it is meant",
        )

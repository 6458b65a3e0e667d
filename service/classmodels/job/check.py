"""Checking a job file: every problem at once, each with its place; and what a job without problems comes to.

The order of a check: the schema, the recipes with all they extend, the models with their files and labels, the
classes by those labels, the panel. A part that is wrong does not keep the others from being checked.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError

from classmodels.ascent.recipe import Recipe
from classmodels.errors import InputError, ModelError, StoreError
from classmodels.job.classes import count_classes, indices, within
from classmodels.job.document import Document, JobFileError, Problem, read, shown
from classmodels.job.explain import problems_of
from classmodels.job.identity import digest12
from classmodels.job.override import override
from classmodels.job.presets import PRESETS
from classmodels.job.recipes import NamedRecipe, expand
from classmodels.job.schema import Job, PanelMember, Storage
from classmodels.models.labels import did_you_mean, find_class, load_labels
from classmodels.models.remote.base import Listener
from classmodels.models.remote.elsewhere import Elsewhere, RemoteFile
from classmodels.models.resolve import ResolvedModel, digest_code, resolve
from classmodels.models.sources import check_factory
from classmodels.models.spec import FieldError, ModelSpec, Name
from classmodels.s3 import S3Settings
from classmodels.store import open_store

T = TypeVar("T")


@dataclass(frozen=True)
class Judge:
    """A member of the panel.

    map: from the ascended models' labels to its own, where they differ. unlike: the lists of labels of ascended
    models that are not the judge's own list, so that classes are matched label by label. features: whether its verdicts
    carry what it sees before it decides.
    """

    model: ResolvedModel
    map: dict[str, str | int]
    unlike: tuple[tuple[str, ...], ...] = ()
    features: bool = False

    @property
    def judge12(self) -> str:
        """The judge's model12 where classes are matched by index; else a digest of that and of all that the match is
        made from: where a label or the map is mended, the verdicts are given anew. So they are where features are
        asked for."""
        asked = ["features"] if self.features else []
        if not self.map and not self.unlike:
            return digest12([self.model.model12, *asked]) if asked else self.model.model12
        return digest12([self.model.model12, self.map, self.model.labels, self.unlike, *asked])


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
    check = _Check(document, listener, download)
    checked = check.run()
    if check.problems == check.unreached and check.failure is not None:
        raise check.failure
    if checked is None or check.problems:
        raise JobFileError(check.problems)
    return checked


def well_formed(document: Document, overrides: Sequence[str] = ()) -> Job:
    """The job in `document` with `overrides`, by its schema alone: no file is looked for. Raises JobFileError."""
    for option in overrides:
        override(document, option)
    check = _Check(document, None, download=False)
    job = check._validate(Job, document.data, ())
    if job is None:
        raise JobFileError(check.problems)
    return cast(Job, job)


def read_recipes(document: Document) -> tuple[NamedRecipe, ...]:
    """The recipes of the job in `document`, whole; nothing else of it is looked at. Raises JobFileError."""
    check = _Check(document, None, download=False)
    recipes = check._recipes(document.data.get("recipes", ["natural"]))
    if check.problems:
        raise JobFileError(check.problems)
    return tuple(recipes)


@dataclass(frozen=True)
class _Known:
    """What is known of a model whose item is well formed, even where its files could not all be found."""

    spec: ModelSpec
    labels: tuple[str, ...] | None
    model: ResolvedModel | None


class _Check:
    """One check of one document: collects problems, part by part."""

    def __init__(self, document: Document, listener: Listener | None, download: bool) -> None:
        self.document = document
        self.listener, self.download = listener, download
        self.problems: list[Problem] = []
        self.unreached: list[Problem] = []
        self.failure: StoreError | None = None
        self.known: list[_Known] = []
        self.asked = 0
        self.broken: dict[str, str] = {}
        self.uncounted: list[str] = []
        self.base = Path(document.file).absolute().parent

    def run(self) -> CheckedJob | None:
        data = self.document.data
        job = self._validate(Job, data, ())
        if not isinstance(data, dict):
            return None
        recipes = self._recipes(data.get("recipes", ["natural"]))
        storage = self._validate(Storage, data.get("storage", {}), (), quiet=True) or Storage()
        self.elsewhere = Elsewhere(S3Settings(**storage.model_dump()), self.listener, self.download)
        models = self._models(data.get("models"), data.get("code"))
        classes = self._classes(data.get("classes"))
        panel = self._panel(data.get("panel", "all"), models)
        self._output(data.get("output"))
        if job is None or self.problems:
            return None
        ascended = [model for model in models if model.spec.role == "ascend"]
        if not ascended:
            self._problem(("models",), "every model is a judge, expected at least one with role: ascend")
        units = sum(len(classes[model.spec.name]) for model in ascended) * len(recipes)
        if units > job.limits.units:
            self._problem(
                ("limits", "units"),
                f"the job has {units} units, expected at most {job.limits.units}; raise limits.units if it is meant",
            )
        return CheckedJob(
            job=job,
            document=self.document,
            models=tuple(models),
            recipes=tuple(recipes),
            classes=classes,
            panel=tuple(panel),
            broken=self.broken,
            uncounted=tuple(self.uncounted),
        )

    def _problem(self, path: tuple[str | int, ...], message: str, *, key: bool = False) -> None:
        self.problems.append(self.document.problem(path, message, key=key))

    def _validate(
        self,
        model: type[Any],
        data: Any,
        at: tuple[str | int, ...],
        *,
        beside: Sequence[str] = (),
        told_elsewhere: bool = False,
        quiet: bool = False,
    ) -> Any:
        """`data` as a `model`, or None and problems. told_elsewhere: only those of what stands at `at` itself."""
        try:
            # As JSON, strictly: what YAML read as text is no number, and true is no 1.
            return model.model_validate_json(json.dumps(data), strict=True)
        except ValidationError as error:
            if not quiet:
                found = problems_of(error, self.document, model, at, data, beside)
                whole = self.document.problem(at, "").where
                self.problems += [one for one in found if not told_elsewhere or one.where != whole]
            return None

    def _recipes(self, entries: Any) -> list[NamedRecipe]:
        if not isinstance(entries, list) or len(entries) > 1000:
            return []
        named = {
            entry["name"]: entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("name"), str)
        }
        recipes, names = [], {}
        for index, entry in enumerate(entries):
            at = ("recipes", index)
            if isinstance(entry, str):
                entry = {"name": entry, "extends": entry}
            elif not isinstance(entry, dict):
                continue
            recipe = self._recipe(entry, named, at)
            if recipe is not None:
                recipes.append(recipe)
                names[index] = recipe.name
        self._unique(names, "recipes", "give one of them another name")
        return recipes

    def _recipe(
        self, entry: dict[str, Any], named: dict[str, dict[str, Any]], at: tuple[str | int, ...]
    ) -> NamedRecipe | None:
        naming = self._validate(_Naming, {k: v for k, v in entry.items() if k in ("name", "extends")}, at)
        if naming is None:
            return None
        name = naming.name or naming.extends
        if name is None:
            self._problem(at, "the recipe has no name, expected name: or extends:")
            return None
        try:
            whole = expand(entry, named)
        except KeyError as error:
            choices = sorted({*PRESETS, *named})
            self._problem(
                (*at, "extends"),
                f"found the unknown recipe {shown(error.args[0])}, expected one of {', '.join(choices)}"
                f"{did_you_mean(error.args[0], choices)}",
            )
            return None
        except RecursionError:
            self._problem(
                (*at, "extends"), f"the recipe {shown(name)} extends itself, expected a chain that ends at a preset"
            )
            return None
        parent = named.get(str(entry.get("extends")), entry)
        elsewhere = parent is not entry and self._validate(Recipe, expand(parent, named), (), quiet=True) is None
        recipe = self._validate(Recipe, whole, at, beside=tuple(_Naming.model_fields), told_elsewhere=elsewhere)
        return None if recipe is None else NamedRecipe(name, recipe)

    def _models(self, entries: Any, code: Any) -> list[ResolvedModel]:
        if not isinstance(entries, list) or len(entries) > 1000:
            return []
        self.asked = len(entries)
        folder, digest = self._code(code)
        models, names = [], {}
        for index, entry in enumerate(entries):
            spec = self._validate(ModelSpec, entry, (), quiet=True) if isinstance(entry, dict) else None
            if spec is None:
                continue
            names[index] = spec.name
            if spec.source.kind == "factory":
                self._try(index, spec, partial(check_factory, spec.source, folder, digest))
            model = self._try(index, spec, partial(resolve, spec, self.base, folder, digest, self.elsewhere))
            if model is not None:
                models.append(model)
                self.known.append(_Known(spec, model.labels, model))
            elif spec.labels is not None:
                # Classes can be checked all the same.
                labels = self._try(index, spec, partial(load_labels, spec.labels, self.base, self.elsewhere), "labels")
                if labels is not None:
                    self.known.append(_Known(spec, tuple(labels), None))
        self._unique(names, "models", "give one of them another name")
        return models

    def _try(self, index: int, spec: ModelSpec, attempt: Callable[[], T], *blamed: str) -> T | None:
        """What `attempt` returns; or None, and a problem of the field that its error, or else `blamed`, names."""
        try:
            return attempt()
        except (InputError, ModelError) as error:
            field = error.field if isinstance(error, FieldError) else blamed
            message = str(error).removeprefix(f"model {spec.name}: ")
            self._problem(("models", index, *field), f"model {spec.name}: {message}")
        except StoreError as error:
            # Told once for all that is there, and beside what is wrong with the job itself.
            if self.failure is None:
                self.failure = error
                self._problem(("models", index), f"model {spec.name}: {error}")
                self.unreached = self.problems[-1:]
        return None

    def _code(self, code: Any) -> tuple[Path | None, str | None]:
        if not isinstance(code, str):
            return None, None
        folder = (self.base / Path(code).expanduser()).absolute()
        try:
            return folder, digest_code(folder)
        except FieldError as error:
            self._problem(error.field, str(error))
            return None, None

    def _unique(self, names: dict[int, str], part: str, advice: str) -> None:
        """Problems where two of `names`, by their index in the list `part`, are the same."""
        # Names become folders, and some file systems do not tell upper from lower case.
        seen: set[str] = set()
        for index, name in names.items():
            if name.lower() in seen:
                self._problem((part, index), f"found the name {shown(name)} a second time; {advice}")
            seen.add(name.lower())

    def _classes(self, items: Any) -> dict[str, tuple[int, ...]]:
        if items != "all" and not isinstance(items, list):
            return {}
        classes = {}
        for known in self.known:
            if known.spec.role != "ascend":
                continue
            count = self._count(known)
            if items == "all":
                classes[known.spec.name] = tuple(range(count or 0))
                continue
            chosen: dict[int, None] = {}
            for position, item in enumerate(items):
                if isinstance(item, bool) or not isinstance(item, (str, int)):
                    continue
                try:
                    chosen |= dict.fromkeys(indices(item, known.labels, count))
                except InputError as error:
                    self._problem(("classes", position), f"model {known.spec.name}: {error}")
            classes[known.spec.name] = tuple(chosen)
        return classes

    def _count(self, known: _Known) -> int | None:
        """How many classes a model has; where its network cannot tell, its units will fail for the same reason."""
        if known.labels is not None or known.model is None:
            return None if known.labels is None else len(known.labels)
        checkpoint = known.model.checkpoint
        if known.model.classes is None and isinstance(checkpoint, RemoteFile) and not checkpoint.is_within_reach:
            self.uncounted.append(known.spec.name)
            return None
        try:
            return count_classes(known.model)
        except (InputError, ModelError) as error:
            self.broken[known.spec.name] = str(error)
            return None

    def _panel(self, panel: Any, models: list[ResolvedModel]) -> list[Judge]:
        by_name = {model.spec.name: model for model in models}
        ascended = [model for model in models if model.spec.role == "ascend" and model.labels is not None]

        def judge(model: ResolvedModel, mapping: dict[str, str | int], features: bool = False) -> Judge:
            others = [other for other in ascended if other.model12 != model.model12]
            unlike = tuple({o.labels: None for o in others if o.labels and o.labels != model.labels})
            return Judge(model, mapping, unlike, features)

        if panel == "all":
            # A stored picture has one channel or three: a network of others cannot be shown it.
            return [judge(model, {}) for model in models if model.input.channels in (1, 3)]
        if not isinstance(panel, list):
            return []
        judges, names = [], {}
        for index, entry in enumerate(panel):
            member = {"model": entry} if isinstance(entry, str) else entry
            valid = self._validate(PanelMember, member, (), quiet=True) if isinstance(member, dict) else None
            if valid is None:
                continue
            if valid.model in by_name:
                names[index] = valid.model
                judges.append(judge(by_name[valid.model], valid.map, valid.features))
                if by_name[valid.model].input.channels not in (1, 3):
                    channels = by_name[valid.model].input.channels
                    message = f"judge {valid.model} takes {channels} channels, expected 1 or 3: it is shown a picture"
                    self._problem(("panel", index), message)
                self._map(index, valid.map, by_name[valid.model])
            elif len(by_name) == self.asked:
                self._problem(
                    ("panel", index),
                    f"found the unknown model {shown(valid.model)}, expected one of {', '.join(by_name)}"
                    f"{did_you_mean(valid.model, list(by_name))}",
                )
        self._unique(names, "panel", "a judge judges once")
        return judges

    def _output(self, output: Any) -> None:
        if isinstance(output, str):
            try:
                open_store(output)
            except InputError as error:
                self._problem(("output",), str(error))

    def _map(self, index: int, mapping: dict[str, str | int], judge: ResolvedModel) -> None:
        """Problems of a judge's map: a label that no ascended model has, a class that the judge does not have."""
        if len(self.known) < self.asked:
            return  # the models come first
        ascended = [known.labels for known in self.known if known.spec.role == "ascend"]
        theirs = sorted({label for labels in ascended for label in labels or ()})
        for label, own in mapping.items():
            at = ("panel", index, "map", label)
            if label not in theirs and None not in ascended:
                message = f"found {shown(label)}, expected a label of an ascended model{did_you_mean(label, theirs)}"
                self._problem(at, message, key=True)
            try:
                if isinstance(own, int):
                    within(own, judge.classes)
                elif judge.labels is not None:
                    find_class(own, judge.labels)
                else:
                    raise InputError(f"found the class {shown(own)}, expected an index: the judge has no labels")
            except InputError as error:
                self._problem(at, f"judge {judge.spec.name}: {error}")


class _Naming(BaseModel, extra="forbid"):
    """The two fields that a job's recipe has beyond those of a recipe."""

    name: Name | None = None
    extends: str | None = None

"""The models of a job: each with its files and labels as far as they can be found, and the classes meant of each."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from classmodels.errors import InputError, ModelError, StoreError
from classmodels.job.classes import count_classes, indices
from classmodels.job.findings import Findings
from classmodels.models.labels import load_labels
from classmodels.models.remote.elsewhere import Elsewhere, RemoteFile
from classmodels.models.resolve import ResolvedModel, digest_code, resolve
from classmodels.models.sources import check_factory
from classmodels.models.spec import FieldError, ModelSpec

T = TypeVar("T")


@dataclass(frozen=True)
class Known:
    """What is known of a model whose item is well formed, even where its files could not all be found."""

    spec: ModelSpec
    labels: tuple[str, ...] | None
    model: ResolvedModel | None


@dataclass
class Models:
    """The models that are known, of `asked` items. broken, uncounted: as in `CheckedJob`."""

    asked: int = 0
    known: list[Known] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)
    uncounted: list[str] = field(default_factory=list)

    @property
    def resolved(self) -> list[ResolvedModel]:
        """Those of which everything was found."""
        return [known.model for known in self.known if known.model is not None]

    @property
    def ascended(self) -> list[ResolvedModel]:
        return [model for model in self.resolved if model.spec.role == "ascend"]

    def check_classes(self, items: Any, findings: Findings) -> dict[str, tuple[int, ...]]:
        """The class indices that `items` mean of every ascended model, by its name."""
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
                    findings.add(("classes", position), f"model {known.spec.name}: {error}")
            classes[known.spec.name] = tuple(chosen)
        return classes

    def _count(self, known: Known) -> int | None:
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


def check_models(entries: Any, code: Any, base: Path, elsewhere: Elsewhere, findings: Findings) -> Models:
    """The items of a job's `models`, their files looked for from the folder `base`; factories also in `code`."""
    if not isinstance(entries, list) or len(entries) > 1000:
        return Models()
    models, names = Models(asked=len(entries)), {}
    folder, digest = _code(code, base, findings)
    for index, entry in enumerate(entries):
        spec = findings.valid(ModelSpec, entry, quiet=True) if isinstance(entry, dict) else None
        if spec is None:
            continue
        names[index] = spec.name
        attempt = partial(_attempt, findings, index, spec)
        if spec.source.kind == "factory":
            attempt(partial(check_factory, spec.source, folder, digest))
        model = attempt(partial(resolve, spec, base, folder, digest, elsewhere))
        if model is not None:
            models.known.append(Known(spec, model.labels, model))
        elif spec.labels is not None:
            # Classes can be checked all the same.
            labels = attempt(partial(load_labels, spec.labels, base, elsewhere), "labels")
            if labels is not None:
                models.known.append(Known(spec, tuple(labels), None))
    findings.unique(names, "models", "give one of them another name")
    return models


def _attempt(findings: Findings, index: int, spec: ModelSpec, act: Callable[[], T], *blamed: str) -> T | None:
    """What `act` returns; or None, and a problem of the field that its error, or else `blamed`, names."""
    try:
        return act()
    except (InputError, ModelError) as error:
        field = error.field if isinstance(error, FieldError) else blamed
        message = str(error).removeprefix(f"model {spec.name}: ")
        findings.add(("models", index, *field), f"model {spec.name}: {message}")
    except StoreError as error:
        findings.add_unreached(("models", index), f"model {spec.name}: {error}", error)
    return None


def _code(code: Any, base: Path, findings: Findings) -> tuple[Path | None, str | None]:
    """The folder of the job's own code, and the digest of that."""
    if not isinstance(code, str):
        return None, None
    folder = (base / Path(code).expanduser()).absolute()
    try:
        return folder, digest_code(folder)
    except FieldError as error:
        findings.add(error.field, str(error))
        return None, None

"""The template of a night: a job file whose ascended models have no checkpoint; and the job of each one that is found.

Such a job is the template with one model's `checkpoint` set; the others that ascend are left out, judges stay. The
model itself joins the panel, with its features told, so that checkpoints can be compared in its own feature space.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from classmodels.job.check import read_recipes, well_formed
from classmodels.job.document import Document, JobFileError, Path_, Problem, read
from classmodels.job.identity import digest12, recipe_identity
from classmodels.job.recipes import NamedRecipe
from classmodels.job.schema import Job
from classmodels.models.spec import ModelSpec
from classmodels.s3 import S3Settings
from classmodels.store.nights import noise_job

NOISE_CLASSES = 8
"""So many classes, evenly spread over all, are also ascended under another seed: the floor of what is a change."""
LONGEST = 64 - len(noise_job(""))
"""Of a template's name: that of its noise must be one too."""


@dataclass(frozen=True)
class Template:
    """sources: the models that checkpoints are of, each with its index in the job; wanted12: by the recipe's name."""

    document: Document
    job: Job
    recipes: tuple[NamedRecipe, ...]
    sources: dict[str, int]

    @property
    def name(self) -> str:
        return self.job.name

    @property
    def settings(self) -> S3Settings:
        return S3Settings(**self.job.storage.model_dump())

    @property
    def wanted12(self) -> dict[str, str]:
        """What an entry of the index is an entry of: recipe, seed and classes as asked for, by the recipe's name."""
        classes = self.job.classes if self.job.classes == "all" else list(self.job.classes)
        found = {}
        for one in self.recipes:
            identity = recipe_identity(one.recipe, self.job.seed)
            del identity["algorithm"]
            found[one.name] = digest12({"recipe": identity, "classes": classes})
        return found

    def job_for(self, source: str, checkpoint: str | None) -> Document:
        """The job of one checkpoint of `source`; with None, of the weights that the source makes itself."""
        index = self.sources[source]
        kept = [index, *(i for i, model in enumerate(self.job.models) if model.role == "judge")]
        data = copy.deepcopy(self.document.data)
        data["models"] = [data["models"][i] for i in kept]
        data["models"][0]["checkpoint"] = checkpoint
        data["panel"] = self._panel(self.job.models[index], [self.job.models[i] for i in kept[1:]])
        return _placed(self.document, data, kept)

    def noise_for(self, source: str, checkpoint: str | None, classes: Sequence[int]) -> Document:
        """The job that tells how far apart the class models of two seeds are, on some of the `classes` that ascend.

        They are judged as those of the checkpoint are: each judge has a noise of its own.
        """
        document = self.job_for(source, checkpoint)
        data, count = document.data, min(NOISE_CLASSES, len(classes))
        data["name"], data["seed"] = noise_job(self.name), (self.job.seed + 1) % 2**63
        data["classes"] = [classes[len(classes) * i // count] for i in range(count)]
        data["animation"] = {"format": "none"}
        return document

    def _panel(self, source: ModelSpec, judges: Sequence[ModelSpec]) -> list[Any]:
        panel = self.job.panel
        if panel == "all":
            members: list[Any] = [judge.name for judge in judges if _sees_pictures(judge)]
        elif panel == "none":
            members = []
        else:
            written = self.document.data["panel"]
            members = [one for one in written if (one["model"] if isinstance(one, dict) else one) not in self.sources]
        return [{"model": source.name, "features": True}, *members] if _sees_pictures(source) else members


def read_template(file: str | Path) -> Template:
    """The template in `file`. Nothing that it names is looked for yet. Raises JobFileError, InputError."""
    document = read(file)
    job = well_formed(document)
    recipes = read_recipes(document)
    problems: list[Problem] = []
    sources = {model.name: index for index, model in enumerate(job.models) if model.role == "ascend"}
    if not sources:
        problems.append(document.problem(("models",), "every model is a judge, expected at least one that ascends"))
    for index in sources.values():
        model = job.models[index]
        if model.checkpoint is not None:
            message = "found a checkpoint, expected none: a template's models get those that are found each night"
            problems.append(document.problem(("models", index, "checkpoint"), message))
        if model.source.program:
            message = "found a program, which holds its own weights; expected a network that takes checkpoints"
            problems.append(document.problem(("models", index, "source", "program"), message))
    if len(job.name) > LONGEST:
        problems.append(document.problem(("name",), f"the name has {len(job.name)} characters, expected {LONGEST}"))
    if problems:
        raise JobFileError(problems)
    return Template(document, job, recipes, sources)


def _sees_pictures(model: ModelSpec) -> bool:
    """Whether a model can be on a panel. One whose input is not told is a library's, which all see colours."""
    return model.input is None or model.input.channels in (1, 3)


def _placed(document: Document, data: Any, kept: Sequence[int]) -> Document:
    """`data`, with the models `kept` of `document`, and every problem at the place in the file that it comes from."""

    def moved(places: dict[Path_, tuple[int, int]]) -> dict[Path_, tuple[int, int]]:
        found = {path: place for path, place in places.items() if path[:1] != ("models",) or len(path) == 1}
        for new, old in enumerate(kept):
            for path, place in places.items():
                if path[:2] == ("models", old):
                    found["models", new, *path[2:]] = place
        return found

    return Document(document.file, data, moved(document.places), moved(document.keys))

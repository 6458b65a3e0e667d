"""The plan: all units of a checked job in order, its shards, and what it will cost."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import TypeVar

from classmodels.errors import InputError
from classmodels.job.check import CheckedJob
from classmodels.job.identity import digest12, recipe_identity, unit_identity
from classmodels.job.recipes import NamedRecipe
from classmodels.models.resolve import ResolvedModel
from classmodels.store.only import Only
from classmodels.store.records import record_name, unit_prefix

T = TypeVar("T")


@dataclass(frozen=True)
class Task:
    """One recipe on one model: what the units that may share a batch have in common."""

    model: ResolvedModel
    recipe: NamedRecipe
    recipe12: str
    seed: int

    @property
    def title(self) -> str:
        """What people call it."""
        return f"{self.model.spec.name} / {self.recipe.name}"

    @property
    def prefix(self) -> str:
        """Where the task's records and files lie in a store."""
        return unit_prefix(self.model.spec.name, self.model.model12, self.recipe.name, self.recipe12)


@dataclass(frozen=True)
class Unit:
    """One class of one model under one recipe and seed: the smallest thing that is done, stored, skipped or retried."""

    task: Task
    class_index: int

    @property
    def identity(self) -> str:
        return unit_identity(self.task.model.model12, self.task.recipe12, self.class_index)

    @property
    def record_key(self) -> str:
        return self.task.prefix + record_name(self.class_index)

    @property
    def label(self) -> str:
        labels = self.task.model.labels
        return labels[self.class_index] if labels else f"class {self.class_index}"

    def __str__(self) -> str:
        known = f" ({self.label})" if self.task.model.labels else ""
        return f"{self.task.model.spec.name}/{self.task.recipe.name}/{self.class_index}{known}"


@dataclass(frozen=True)
class Plan:
    """All units of a job, models outermost, classes innermost; and the judges of its panel."""

    job: CheckedJob
    units: tuple[Unit, ...]

    @cached_property
    def run12(self) -> str:
        """Digest of what is to be made, under the names it will have: the same plan is the same run."""
        return digest12(
            {
                "job": self.job.job.name,
                "units": [unit.record_key for unit in self.units],
                "judges": [[judge.model.spec.name, judge.judge12] for judge in self.job.panel],
            }
        )

    def shard(self, index: int, shards: int) -> tuple[Unit, ...]:
        """The units of one completion index: `shards` contiguous parts of nearly equal size."""
        return part(self.units, index, shards)


def part(items: tuple[T, ...], index: int, shards: int) -> tuple[T, ...]:
    """What of a plan's units, or their records, belongs to one completion index."""
    count = len(items)
    return items[count * index // shards : count * (index + 1) // shards]


def expand_plan(job: CheckedJob) -> Plan:
    """The plan of a checked job."""
    units = [Unit(task, index) for task in _tasks(job) for index in job.classes[task.model.spec.name]]
    return Plan(job, tuple(units))


def by_task(units: Sequence[Unit]) -> Iterator[tuple[Task, list[Unit]]]:
    """The units of each task together, in order."""
    for task, group in groupby(units, key=lambda unit: unit.task):
        yield task, list(group)


def _tasks(job: CheckedJob) -> Iterator[Task]:
    seed = job.job.seed
    for model in job.models:
        if model.spec.role == "ascend":
            for recipe in job.recipes:
                yield Task(model, recipe, digest12(recipe_identity(recipe.recipe, seed)), seed)


def selector(patterns: Sequence[str], units: Sequence[Unit]) -> Callable[[Unit], bool]:
    """Whether a unit is meant by one of the patterns `model/recipe/class`.

    `*` matches any part; a class goes by its index or label. Without patterns every unit is. Raises
    InputError for a pattern that is none, or that no unit matches.
    """
    only = Only(patterns)

    def matching(unit: Unit) -> Sequence[str]:
        return only.matching(unit.task.model.spec.name, unit.task.recipe.name, unit.class_index, unit.label) or ()

    unmatched = set(patterns).difference(*map(matching, units))
    for pattern in patterns:
        if pattern in unmatched:
            raise InputError(f"--only {pattern!r}: found no such unit; `classmodels plan` lists them")
    return lambda unit: not patterns or bool(matching(unit))

"""What the items of `classes` mean: names, indices and ranges become the class indices of one model."""

from collections.abc import Sequence

from classmodels.errors import InputError
from classmodels.job.document import shown
from classmodels.job.schema import RANGE
from classmodels.models.labels import find_class
from classmodels.models.resolve import ResolvedModel


def indices(item: str | int, labels: Sequence[str] | None, count: int | None) -> Sequence[int]:
    """The class indices that an item of `classes` means. Raises InputError."""
    if isinstance(item, str):
        bounds = RANGE.match(item)
        if bounds and not (labels and item in labels):
            first, last = int(bounds[1]), int(bounds[2])
            if first > last:
                raise InputError(f"found the range {item}, expected the lower index first")
            within(last, count)
            return range(first, last + 1) if count is not None or last - first < 100_000 else ()
        if labels is None:
            raise InputError(f"found the class {shown(item)}, expected an index: the model has no labels")
        return (find_class(item, labels),)
    within(item, count)
    return (item,)


def within(index: int, count: int | None) -> None:
    """Raises InputError where `index` is none of `count` classes (None: not known)."""
    if index < 0 or (count is not None and index >= count):
        raise InputError(f"found the class index {index}, expected 0 to {count - 1 if count else '...'}")


def count_classes(model: ResolvedModel) -> int:
    """How many classes the network has; without labels it must be built to know. Raises InputError, ModelError."""
    if model.classes is not None:
        return model.classes
    from classmodels.models.classifier import load

    return load(model).classes

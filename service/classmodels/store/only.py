"""Which units are meant by patterns `model/recipe/class`: one syntax for every command that takes `--only`."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from classmodels.errors import InputError


class Only:
    """Patterns, of which a unit must match one; without patterns every unit is meant.

    `*` matches any part; a class goes by its index or label.
    """

    def __init__(self, patterns: Sequence[str] = ()) -> None:
        """Raises InputError for a pattern that is none."""
        self.patterns = {pattern: tuple(pattern.split("/", 2)) for pattern in patterns}
        for pattern, parts in self.patterns.items():
            if len(parts) != 3:
                raise InputError(f"--only {pattern!r}: expected MODEL/RECIPE/CLASS, such as */l2/ostrich")

    def matching(self, model: str, recipe: str, class_index: int, label: str | None) -> list[str] | None:
        """The patterns that the unit matches; None where that hangs on its label and `label` is None: not known."""
        found, unsure = [], False
        for pattern, (wanted_model, wanted_recipe, wanted) in self.patterns.items():
            if not (fnmatchcase(model, wanted_model) and fnmatchcase(recipe, wanted_recipe)):
                continue
            if fnmatchcase(str(class_index), wanted):
                found.append(pattern)
            elif label is None:
                unsure = unsure or not wanted.isdigit()
            elif fnmatchcase(label.casefold(), wanted.casefold()):
                found.append(pattern)
        return None if unsure else found

"""What is wrong with a document, gathered while its parts are checked: a problem is added, and the check goes on."""

import json
from collections.abc import Mapping, Sequence
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from classmodels.errors import StoreError
from classmodels.job.document import Document, JobFileError, Path_, Problem, shown
from classmodels.job.explain import problems_of

M = TypeVar("M", bound=BaseModel)


class Findings:
    """The problems of one document, each with its place."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._unreached: StoreError | None = None
        self.problems: list[Problem] = []

    def add(self, path: Path_, message: str, *, key: bool = False) -> None:
        """`message` is a problem of the value (or the key) at `path`."""
        self.problems.append(self._document.problem(path, message, key=key))

    def add_unreached(self, path: Path_, message: str, error: StoreError) -> None:
        """Storage cannot be used: told once for all that is there, and beside what is wrong with the job itself."""
        if self._unreached is None:
            self._unreached = error
            self.add(path, message)

    def unique(self, names: Mapping[int, str], part: str, advice: str) -> None:
        """Problems where two of `names`, by their index in the list `part`, are the same."""
        # Names become folders, and some file systems do not tell upper from lower case.
        seen: set[str] = set()
        for index, name in names.items():
            if name.lower() in seen:
                self.add((part, index), f"found the name {shown(name)} a second time; {advice}")
            seen.add(name.lower())

    def valid(
        self,
        model: type[M],
        data: object,
        at: Path_ = (),
        *,
        beside: Sequence[str] = (),
        told_elsewhere: bool = False,
        quiet: bool = False,
    ) -> M | None:
        """`data` as a `model`, or None and problems. told_elsewhere: only those of what stands at `at` itself."""
        try:
            # As JSON, strictly: what YAML read as text is no number, and true is no 1.
            return model.model_validate_json(json.dumps(data), strict=True)
        except ValidationError as error:
            if not quiet:
                found = problems_of(error, self._document, model, at, data, beside)
                whole = self._document.problem(at, "").where
                self.problems += [one for one in found if not told_elsewhere or one.where != whole]
            return None

    def tell(self) -> None:
        """Raises JobFileError where there are problems; StoreError if the only one is storage that cannot be used."""
        if self._unreached is not None and len(self.problems) == 1:
            raise self._unreached
        if self.problems:
            raise JobFileError(self.problems)

"""What SRC means: a whole store, or a part of it: a gallery, all galleries of a job, the units of a model or recipe."""

from dataclasses import dataclass

from classmodels.errors import InputError
from classmodels.store import Store, open_store

ROOMS = ("galleries", "runs", "units", "verdicts")
"""The folders at the top of a store; below one of them a path leads inside."""


@dataclass(frozen=True)
class Place:
    """A part of `store`: what is below `inside`, such as `galleries/figure-1/`; empty for all of it."""

    store: Store
    inside: str = ""

    def __str__(self) -> str:
        return f"{self.store.uri}/{self.inside}" if self.inside else self.store.uri


def open_place(source: str) -> Place:
    """The place that `source` names: a folder or s3://bucket/prefix that a run has written to, or a path inside it.

    The top of the store is found by looking: a folder may itself be called `galleries`. Raises InputError where nothing
    of ours is found, StoreError.
    """
    trimmed = source.removesuffix("index.html").rstrip("/") or source
    whole = open_store(trimmed)
    if _is_top(whole):
        return Place(whole)
    parts = trimmed.split("/")
    for at in range(len(parts) - 1, -1, -1):
        if parts[at] not in ROOMS:
            continue
        above = "/".join(parts[:at]) or ("/" if trimmed.startswith("/") else ".")
        if above.lower() in ("s3:", "s3:/"):
            break
        store = open_store(above)
        inside = "/".join(parts[at:]) + "/"
        if _is_top(store) and next(store.list(inside), None):
            return Place(store, inside)
    raise InputError(
        f"{whole.uri}: found no run, expected a folder or bucket that `classmodels run` has written to, or a path in it"
        " such as galleries/figure-1"
    )


def _is_top(store: Store) -> bool:
    """Whether a run, or at least units, lie at the top of `store`. A listing of nothing costs one request."""
    return any(next(store.list(f"{room}/"), None) is not None for room in ("runs", "units"))

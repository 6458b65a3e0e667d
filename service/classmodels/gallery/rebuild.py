"""Every gallery of a store again, from the plans of its runs, their records and verdicts."""

import logging

from classmodels.errors import InputError, StoreError
from classmodels.gallery.nights import write_night
from classmodels.gallery.page import write_gallery
from classmodels.store import RunPlan, Store
from classmodels.store.believed import read_believed
from classmodels.store.nights import nights_prefix
from classmodels.store.records import gallery_prefix, parse

log = logging.getLogger("classmodels")


def rebuild(store: Store, inside: str = "") -> list[str]:
    """Write the gallery of every run again, then the pages of the nights; which gallery is the latest stays as it is.
    Returns the keys of the pages.

    inside: only galleries below this, such as `galleries/figure-1/`, or pages of nights, such as `nights/nightly/`.

    A plan that is damaged, or is not that of the run it lies under, is passed over with a warning: it cannot stop the
    other galleries, or write over them. Raises InputError where the store holds no run; StoreError, after all other
    galleries are written.
    """
    pages: list[str] = []
    refused: StoreError | None = None
    for key in store.list("runs/"):
        if not (key.endswith("/plan.json") and key.count("/") == 2):
            continue
        try:
            plan = _plan(store, key)
            if gallery_prefix(plan.job, plan.run12).startswith(inside) or key.startswith(inside):
                pages.append(write_gallery(store, plan, latest=False))
        except InputError as error:
            log.warning("%r is passed over: %s", key, error)
        except StoreError as error:
            refused = refused or error
    for job in sorted({key.split("/")[1] for key in store.list("nights/") if "/index/" in key or "/broken/" in key}):
        if nights_prefix(job).startswith(inside):
            pages += write_night(store, job)
    if refused is not None:
        raise refused
    if not pages:
        raise InputError(
            f"{store.uri}: found no run, expected a folder or bucket that `classmodels run` has written to"
        )
    return pages


def _plan(store: Store, key: str) -> RunPlan:
    """The plan under `key`. Raises InputError where it is not that of its run."""
    plan = parse(RunPlan, read_believed(store.read, key) or b"")
    if plan is None:
        raise InputError("it is not the plan of a run")
    if plan.run12 != key.split("/")[1]:
        raise InputError(f"it is the plan of another run, {plan.run12}")
    return plan

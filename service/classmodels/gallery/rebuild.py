"""Every gallery of a store again, from the plans of its runs, their records and verdicts."""

from classmodels.errors import InputError
from classmodels.gallery.page import write_gallery
from classmodels.store import RunPlan, Store
from classmodels.store.records import parse


def rebuild(store: Store) -> list[str]:
    """Write the gallery of every run again and return the keys of the pages; which one is the latest stays as it is.

    Raises InputError where the store holds no run, StoreError.
    """
    pages = []
    for key in store.list("runs/"):
        if key.endswith("/plan.json") and key.count("/") == 2:
            data = store.read(key)
            plan = parse(RunPlan, data) if data is not None else None
            if plan is not None:
                pages.append(write_gallery(store, plan, latest=False))
    if not pages:
        raise InputError(f"{store.uri}: found no run, expected a folder that `classmodels run` has written to")
    return pages

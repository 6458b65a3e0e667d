"""Sidecars and names that say something else by now than when their checkpoint was done: a tag, a time, a step."""

from collections.abc import Iterable

from classmodels.nights.discover import Found
from classmodels.store import Store
from classmodels.store.nights import Done, Listing, Shown, shown_key
from classmodels.store.records import dump, parse


def retag(found: Iterable[Found], listing: Listing, shown: Shown | None, store: Store) -> dict[str, str]:
    """Have the entries of the index say what is told of their checkpoints now.

    Returns source_id and model of those that changed.

    Before the first change `shown` is taken back: a kill from then on has all pages made again.
    """
    told = {one.checkpoint12: one for one in found}
    keys = [key for key in listing.entries if key.split("/")[3] in told]
    with store.reading() as read:
        entries = [(key, parse(Done, read(key) or b"")) for key in keys]
    due = []
    for key, entry in entries:
        now = told[key.split("/")[3]]
        said = {name: getattr(now, name) for name in ("step", "epoch", "time", "tags")}
        if entry is not None and any(getattr(entry, name) != value for name, value in said.items()):
            due.append((key, entry.model_copy(update=said)))
    if due and shown is not None:
        store.write(shown_key(listing.job), dump(shown.model_copy(update={"state": ""})))
    for key, entry in due:
        store.write(key, dump(entry))
    return {entry.source_id: entry.source for _, entry in due}

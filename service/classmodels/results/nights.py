"""Galleries that nights made, for `prune`: of which model, at which place in its line, of checkpoints with tags or not.

The order is that of training: a night does the newest checkpoint first, so that it is not the order of their making.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from classmodels.store import Store
from classmodels.store.believed import read_as
from classmodels.store.nights import Done, in_order, nights_prefix, noise_job


@dataclass(frozen=True)
class Made:
    """A gallery that a night made. place: 0 for the model's oldest checkpoint, and on."""

    source: str
    place: int
    tagged: bool


def made_at_night(store: Store, jobs: Iterable[str]) -> dict[tuple[str, str], Made]:
    """By job and run12; also the galleries of noise, which stand and fall with those of their checkpoints."""
    found: dict[tuple[str, str], Made] = {}
    for job in jobs:
        with store.reading() as read:
            read_all = (read_as(Done, read, key) for key in store.list(f"{nights_prefix(job)}index/"))
            entries = [one for one in read_all if one is not None and one.job == job]
        tagged = {one.model12 for one in entries if one.tags}
        for source in {one.source for one in entries}:
            for place, one in enumerate(in_order(entry for entry in entries if entry.source == source)):
                made = Made(source, place, one.model12 in tagged)
                found[job, one.run12] = made
                if one.noise is not None:
                    found[noise_job(job), one.noise.run12] = made
    return found


def stale_pages(store: Store, jobs: Iterable[str], gone: set[str]) -> Iterable[str]:
    """Keys of comparisons of checkpoints whose units are `gone`: `<source>@<model12>`."""
    for job in jobs:
        for key in store.list(f"{nights_prefix(job)}compare/"):
            parts = key.split("/")
            if len(parts) > 5 and any(f"{parts[3]}@{model12}" in gone for model12 in parts[4].split("-")):
                yield key

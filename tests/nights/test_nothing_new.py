"""What a night costs that finds nothing new: requests by listing, not by checkpoint or unit; and no write."""

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from classmodels.job.identity import ALGORITHM
from classmodels.models.remote import elsewhere
from classmodels.nights.discover import Whole, discover, sidecars12
from classmodels.nights.names import Names
from classmodels.nights.template import read_template
from classmodels.store import open_store
from classmodels.store import s3 as store_s3
from classmodels.store.nights import Done, Shown, done_key, shown_key
from classmodels.store.records import dump
from nights_at_work import JOB, Nights

CHECKPOINTS, CLASSES = 200, 1000


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """How many requests of each method have been sent since `requests.clear()`, by whatever client."""
    counted: Counter[str] = Counter()
    connect = store_s3.connect

    def counting(settings: Any) -> Any:
        client = connect(settings)
        client.meta.events.register("before-send.s3", lambda request, **_: counted.update([request.method]))
        return client

    for module in (store_s3, elsewhere):
        monkeypatch.setattr(module, "connect", counting)
    return counted


def hold(nights: Nights) -> None:
    """Have the index hold every checkpoint that is there, as done."""
    template = read_template(nights.template)
    place = open_store(nights.checkpoints)
    found = discover(
        place, Names(None, list(template.sources)), Whole(settled=timedelta(0)), datetime.now(UTC)
    ).candidates
    (recipe,) = template.recipes
    wanted12 = template.wanted12[recipe.name]

    def put(number: int) -> None:
        one = found[number]
        entry = Done(
            job=JOB,
            source="tiny",
            uri=one.uri,
            source_id=one.source_id,
            sha256=f"{number:064x}",
            model12=f"{number:012x}",
            run12=f"{number:012x}",
            recipe=recipe.name,
            recipe12=f"{1:012x}",
            wanted12=wanted12,
            algorithm=ALGORITHM,
            step=one.told.step,
            modified=one.entry.modified,
            units=CLASSES,
            classes=tuple(range(CLASSES)),
        )
        nights.store.write(done_key(JOB, one.checkpoint12, wanted12, ALGORITHM), dump(entry))

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(put, range(len(found))))
    listing = nights.listing
    shown = Shown(state=listing.state, told=tuple(listing.facts), sidecars=sidecars12(found))
    nights.store.write(shown_key(JOB), dump(shown))


def test_nothing_new_over_200_checkpoints_of_1000_classes_costs_five_requests_and_no_write(
    bucket_nights: Nights, requests: Counter[str]
) -> None:
    nights = bucket_nights
    place = open_store(nights.checkpoints)
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda n: place.write(f"tiny/step_{n:06d}.pt", bytes(100)), range(CHECKPOINTS)))
        list(threads.map(lambda n: place.write(f"tiny/step_{n:06d}.pt.json", b'{"step": 1}'), range(0, CHECKPOINTS, 2)))
    hold(nights)
    assert len(nights.listing.done) == CHECKPOINTS
    requests.clear()
    began = time.monotonic()
    ended = nights.run()
    took = time.monotonic() - began
    assert (ended.code, ended.out) == (0, "nothing new\n")
    # A look at each place and a listing of it, and what the pages were made from.
    assert requests == {"GET": 5}
    assert took < 20


def test_one_new_checkpoint_costs_no_request_by_those_that_are_done_but_for_their_entries(
    bucket_nights: Nights, requests: Counter[str]
) -> None:
    nights = bucket_nights
    for step in range(2):
        nights.save(f"step_{step}.safetensors", seed=step)
    nights.night()
    counted = []
    for step in (2, 3):
        nights.save(f"step_{step}.safetensors", seed=step)
        requests.clear()
        nights.night()
        counted.append(requests["GET"])
        assert requests["PUT"] < 60
    # Another checkpoint in the index: its entry, its row and the note of its comparison are read once or twice more.
    assert counted[1] - counted[0] <= 8

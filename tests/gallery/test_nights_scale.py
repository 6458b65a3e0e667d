"""Years of nights: one more checkpoint beside 198 others of a thousand classes costs what one checkpoint costs."""

import os
import time
from datetime import timedelta

import pytest
from chromium import needs_chromium

from checkpoints import BEGIN, Checkpoints, key_of
from classmodels.gallery.nights import write_night
from classmodels.gallery.rows import Row
from classmodels.job.identity import digest12
from classmodels.models.labels import load_labels
from classmodels.store.nights import checkpoint_digest, compare_prefix, timeline_prefix
from classmodels.store.records import dump, gallery_prefix

CHECKPOINTS, CLASSES = 200, 1000
TIMELINE = timeline_prefix("nightly", "mine")


@pytest.fixture(scope="module")
def no_disk():
    """Ten thousand objects are not waited for until a disk has them."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(scope="module")
def years(no_disk, tmp_path_factory):
    """199 checkpoints with their pages, and the last one, of which there are no pages yet.

    Only two have units of their own. The others lead to those, as far as a browser is concerned, and have all else.
    """
    folder = tmp_path_factory.mktemp("years")
    labels = load_labels("imagenet-1k", folder)
    run = Checkpoints(folder, (199_000,), labels=labels, side=8, pairs=8)
    write_night(run.store, "nightly")
    (first,) = run.done
    (key,) = run.store.list(f"{TIMELINE}quick/rows/")
    row = Row.model_validate_json(run.store.read(key))
    older = []
    for number in range(1, CHECKPOINTS - 1):
        step = 1000 * number
        model12 = digest12(["years", step])
        uri = f"s3://bucket/checkpoints/mine/step_{step}.pt"
        done = first.model_copy(
            update={
                "uri": uri,
                "source_id": uri,
                "step": step,
                "model12": model12,
                "run12": digest12(["run", step]),
                "modified": BEGIN + timedelta(hours=number),
                "noise": None,
            }
        )
        run.store.write(key_of(done), dump(done))
        run.store.write(f"{gallery_prefix('nightly', done.run12)}index.html", b"<!doctype html><title>gallery</title>")
        name = f"{checkpoint_digest(done.source_id)}-{done.wanted12}.{done.algorithm}.json"
        points = tuple(
            point._replace(logit=(point.logit or 0) * number / 200, rank=1 + 7 * (number < 30)) for point in row.points
        )
        run.store.write(
            f"{TIMELINE}quick/rows/{name}",
            row.model_copy(update={"model12": model12, "points": points}).model_dump_json().encode(),
        )
        (folder / "units" / f"mine@{model12}").symlink_to(folder / "units" / f"mine@{first.model12}")
        older.append(done)
    run.add(200_000)
    write_night(run.store, "nightly", set())
    said = b'{"counts":{"classes":1000,"changed":40,"unknown":0},"in_space":1000,"marks":[],"top":[],"changed":%s}'
    changed = str(list(range(0, 1000, 25))).encode()
    for one, other in zip(older, [*older[1:], first], strict=True):
        prefix = compare_prefix("nightly", "mine", one.model12, other.model12, "quick")
        run.store.write(f"{prefix}changes.json", said % changed)
        run.store.write(f"{prefix}index.html", b"<!doctype html><title>compared</title>")
    run.done = [*older, *run.done]
    return run


@pytest.fixture(scope="module")
def night(years):
    """The night that adds the last one: seconds, keys read, keys written."""
    reads, writes = [], []
    read, write = years.store.read, years.store.write
    years.store.read = lambda key: (reads.append(key), read(key))[1]
    years.store.write = lambda key, data: (writes.append(key), write(key, data))[1]
    began = time.monotonic()
    write_night(years.store, "nightly", {"mine"})
    seconds = time.monotonic() - began
    years.store.read, years.store.write = read, write
    return seconds, reads, writes


def test_a_night_reads_two_checkpoints_units_and_a_row_and_a_note_of_the_others(years, night):
    seconds, reads, writes = night
    by_room = {room: sum(key.startswith(room) for key in reads) for room in ("units/", "verdicts/", "nights/")}
    print(f"{seconds:.1f} s, {by_room}, {len(writes)} writes")
    units = {key.split("/")[1] for key in reads if key.startswith("units/")}
    assert units == {f"mine@{done.model12}" for done in years.done[-2:]}
    assert by_room["nights/"] < 3.2 * CHECKPOINTS
    assert len(writes) < 40
    assert seconds < 120


def test_pages_stay_small_however_many_checkpoints_there_are(years, night):
    sizes = {key: len(years.store.read(key)) for key in years.store.list(TIMELINE) if key.endswith(".html")}
    strips = [size for key, size in sizes.items() if "/quick/" in key]
    prefix = compare_prefix("nightly", "mine", years.done[-2].model12, years.done[-1].model12, "quick")
    compared = len(years.store.read(f"{prefix}index.html"))
    print(
        f"{len(strips)} pages of strips, {max(strips):,} bytes at most, {sum(strips):,} together;"
        f" index {sizes[TIMELINE + 'index.html']:,}; comparison {compared:,}"
    )
    assert compared < 4_000_000
    assert len(strips) == CLASSES / 50
    assert max(strips) < 1_200_000
    assert sizes[TIMELINE + "index.html"] < 500_000


@needs_chromium
def test_a_browser_opens_a_page_of_ten_thousand_images_and_loads_what_is_seen(years, night, browser):
    began = time.monotonic()
    browser.open(years.store.locate(f"{TIMELINE}quick/0001.html"))
    seconds = time.monotonic() - began
    loaded = browser.js("[...document.images].filter((image) => image.complete && image.naturalWidth).length")
    print(f"opened in {seconds:.2f} s, {loaded} images loaded")
    assert seconds < 10
    assert len(browser.visible(".strip")) == 50
    assert 10 < loaded < 400
    browser.one("#c7 .track").click()
    assert browser.one("#c7 .when").text.startswith("step ")


@needs_chromium
def test_a_class_is_found_among_a_thousand(years, night, browser):
    browser.open(years.store.locate(f"{TIMELINE}index.html"))
    browser.one("#find").send_keys("kit fox")
    assert browser.js("document.querySelectorAll('.links li:not([hidden])').length") == 1
    browser.one(".links li:not([hidden]) a").click()
    browser.until("location.hash === '#c278'")
    assert browser.one("#c278 .label").text.startswith("kit fox")

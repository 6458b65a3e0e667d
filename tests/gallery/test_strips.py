"""Strips of film and small pictures: what is cut from stored films and images, and for which galleries."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from altered import said_again
from classmodels.gallery import strips, thumbs, write_gallery
from classmodels.gallery.units import read_units
from classmodels.image import encode_animation

PREFIX = "galleries/job/0123456789ab/"


def units_of(run):
    return read_units(run.store, run.plan)


def frames(run, strip):
    """The colour in the middle of each frame of a strip."""
    with Image.open(io.BytesIO(run.store.read(PREFIX + strip["href"]))) as image:
        assert image.size == (strip["frames"] * strip["width"], strip["height"])
        return [image.getpixel(((2 * k + 1) * strip["width"] // 2, 5)) for k in range(strip["frames"])]


def film(run, colours, kind="webp"):
    """Give the run's one unit a film of these greys, as a run would encode it."""
    pictures = [np.full((20, 40, 3), grey, np.uint8) for grey in colours]
    data = encode_animation(pictures, kind)
    (unit,) = units_of(run)
    entry = unit.record.animation
    name = entry.name.replace(entry.sha256[:12], "f" * 12).replace("webp", kind)
    run.store.write(unit.folder + name, data)
    import hashlib

    record = json.loads(run.store.read(unit.key))
    changed = {"name": name, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data), "width": 40, "height": 20}
    record["animation"] |= changed | {"frames": len(pictures)}
    run.store.write(unit.key, said_again(record))
    return strips.write_strips(run.store, units_of(run), PREFIX)


@pytest.mark.parametrize("kind", ["webp", "gif", "apng"])
@pytest.mark.parametrize("merged", [False, True])
def test_a_strip_has_evenly_spaced_frames_each_with_its_step(finished_run, kind, merged):
    run = finished_run(classes={1: "one"})
    greys = [0] * 11 + [200] * 20 + [100] if merged else [8 * k for k in range(32)]
    (strip,) = film(run, greys, kind).values()
    assert strip["frames"] == len(strip["steps"]) == 16
    assert (strip["steps"][0], strip["steps"][-1]) == (0, 256)
    assert (strip["width"], strip["height"]) == (40, 20)
    kept = [round(step * 31 / 256) for step in strip["steps"]]
    assert all(abs(colour[0] - greys[k]) < 6 for colour, k in zip(frames(run, strip), kept, strict=True))


def test_a_film_that_is_altered_or_gone_has_no_strip(finished_run):
    run = finished_run(classes={1: "one", 2: "two", 3: "three"})
    first, second, _ = (unit.folder + unit.record.animation.name for unit in units_of(run))
    run.store.delete(first)
    run.store.write(second, run.store.read(second)[:-1])
    assert list(strips.write_strips(run.store, units_of(run), PREFIX)) == run.keys[2:]


@pytest.mark.parametrize("changed", [("frames", 1), ("frames", 3), ("frames", 10**8), ("width", 7)])
def test_a_record_that_says_another_film_than_there_is_has_no_strip(finished_run, changed):
    run = finished_run(classes={1: "one"})
    record = json.loads(run.store.read(run.keys[0]))
    record["animation"][changed[0]] = changed[1]
    run.store.write(run.keys[0], said_again(record))
    assert strips.write_strips(run.store, units_of(run), PREFIX) == {}


def test_a_large_gallery_has_no_strips(finished_run, monkeypatch):
    run = finished_run()
    monkeypatch.setattr(strips, "FILMS", 4)
    assert strips.write_strips(run.store, units_of(run), PREFIX) == {}
    assert not list(run.store.list(PREFIX))


def test_a_large_gallery_shows_small_pictures_and_leaves_them_alone_later(finished_run, monkeypatch):
    run = finished_run(animation=None, side=200)
    monkeypatch.setattr(thumbs, "MANY", 4)
    key = write_gallery(run.store, run.plan)
    prefix = key.removesuffix("index.html")
    small = {unit["thumb"] for unit in json.loads(run.store.read(prefix + "gallery.json"))["units"]}
    assert {prefix + href for href in small} == set(run.store.list(prefix + "thumbs/"))
    assert len(small) == 5
    page = run.store.read(key).decode()
    for href in small:
        assert f'src="{href}"' in page
        with Image.open(io.BytesIO(run.store.read(prefix + href))) as image:
            assert image.size == (96, 96)
    monkeypatch.setattr(run.store, "write", lambda key, data: pytest.fail(f"{key} was written again"))
    write_gallery(run.store, run.plan)


def test_an_image_that_is_gone_keeps_its_own_place(finished_run, monkeypatch):
    run = finished_run(animation=None)
    monkeypatch.setattr(thumbs, "MANY", 1)
    unit = units_of(run)[0]
    run.store.delete(unit.folder + unit.record.image.name)
    assert list(thumbs.write_thumbs(run.store, units_of(run), PREFIX)) == run.keys[1:]

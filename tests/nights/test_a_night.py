"""A night over a folder or a bucket: what is new is done, and what is done is left alone."""

from pathlib import Path

import pytest

from classmodels.store.nights import in_order
from nights_at_work import JOB, Nights, ends


@pytest.fixture(params=["folder", "bucket"])
def anywhere(request: pytest.FixtureRequest, nights: Nights) -> Nights:
    return nights if request.param == "folder" else request.getfixturevalue("bucket_nights")


def test_each_new_checkpoint_gets_a_gallery_and_an_entry_and_the_next_night_does_nothing(anywhere: Nights) -> None:
    for step in (100, 200, 300):
        anywhere.save(f"step_{step:06d}.safetensors", seed=step)
    first = anywhere.night()
    assert [(one["step"], one["end"], one["made"]) for one in first["checkpoints"]] == [
        (300, "done", 2),
        (200, "done", 2),
        (100, "done", 2),
    ]
    entries = in_order(anywhere.entries)
    assert [one.step for one in entries] == [100, 200, 300]
    for one in entries:
        assert anywhere.store.read(f"galleries/{JOB}/{one.run12}/index.html")
    before = {key: anywhere.store.read(key) for key in anywhere.store.list("")}
    assert anywhere.run().out == "nothing new\n"
    assert {key: anywhere.store.read(key) for key in anywhere.store.list("")} == before

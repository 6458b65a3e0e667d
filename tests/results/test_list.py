"""What a place holds, told from listings; and what SRC may be."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from places import copy, first

from classmodels.results.place import open_place
from classmodels.store import open_store

Command = Callable[..., Any]


def test_galleries_and_units_are_told(source: str, run_command: Command) -> None:
    said = json.loads(run_command("list", source, "--json").out)
    (gallery,) = said["galleries"]
    assert (gallery["job"], gallery["units"], gallery["done"], gallery["judges"]) == ("tiny", 6, 6, 1)
    assert gallery["latest"] is True
    assert gallery["page"] == f"{source}/galleries/tiny/{gallery['run12']}/index.html"
    assert [(row["recipe"].split("@")[0], row["done"], row["galleries"]) for row in said["units"]] == [
        ("calm", 3, 1),
        ("quick", 3, 1),
    ]
    assert all(row["bytes"] > 0 for row in said["units"])
    told = run_command("list", source).out
    assert f"tiny  {gallery['run12']}" in told
    assert "6 of 6 units  latest" in told
    assert told.splitlines()[-1].startswith("1 gallery, 6 units, ")


def test_units_that_no_gallery_shows_and_plans_that_are_none_are_told(in_folder: Any, run_command: Command) -> None:
    store = in_folder.store
    key = first(store, "/0000.json")
    store.write(key.replace("/calm@", "/other@").replace("/quick@", "/other@"), store.read(key))
    store.write("runs/0123456789ab/plan.json", b"{}")
    told = run_command("list", store.uri).out
    (line,) = [line for line in told.splitlines() if "/ other@" in line]
    assert line.endswith(", in no gallery")
    assert "runs/0123456789ab/plan.json: it is no plan of a run" in told


@pytest.mark.parametrize(
    ("below", "inside"),
    [
        ("", ""),
        ("/", ""),
        ("/galleries", "galleries/"),
        ("/galleries/tiny/", "galleries/tiny/"),
        ("/galleries/tiny/{run}/index.html", "galleries/tiny/{run}/"),
        ("/runs/{run}", "runs/{run}/"),
        ("/units", "units/"),
    ],
)
def test_a_source_is_a_store_or_a_path_inside(source: str, below: str, inside: str) -> None:
    run = next(open_store(source).list("runs/")).split("/")[1]
    place = open_place(source + below.format(run=run))
    assert (place.store.uri, place.inside) == (source, inside.format(run=run))


def test_a_store_may_itself_be_called_galleries(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = tmp_path / "galleries"
    copy(open_store(str(finished)), open_store(str(top)))
    assert open_place(str(top)).inside == ""
    assert open_place(str(top / "galleries")).inside == "galleries/"
    assert open_place(str(top / "galleries" / "tiny")).inside == "galleries/tiny/"
    monkeypatch.chdir(top)
    place = open_place("galleries/tiny")
    assert (place.store.uri, place.inside) == (str(top), "galleries/tiny/")


def test_a_bucket_itself_may_be_the_store_and_be_called_galleries(bucket_uri: str, finished: Path) -> None:
    bucket = bucket_uri.rpartition("/")[0]  # s3://galleries
    copy(open_store(str(finished)), open_store(bucket_uri))
    place = open_place(f"{bucket_uri}/galleries/tiny")
    assert (place.store.uri, place.inside) == (bucket_uri, "galleries/tiny/")
    assert bucket == "s3://galleries"

"""`compare A B`: one page of two galleries that stands by itself, with what is noise where a store tells it."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from altered import resealed
from checkpoints import Checkpoints
from classmodels.store import open_store

Command = Callable[..., Any]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Checkpoints:
    """Three checkpoints; at the last one class 3 has got a block in its corner. Nobody changes them."""
    return Checkpoints(tmp_path_factory.mktemp("compared"), planted={3: 400}, films=True)


def units(run: Checkpoints, which: int) -> str:
    done = run.done[which]
    return f"{run.store.uri}/units/mine@{done.model12}/quick@{done.recipe12}"


def test_two_checkpoints_make_a_page_that_stands_by_itself(
    run: Checkpoints, run_command: Command, tmp_path: Path
) -> None:
    ended = run_command("compare", units(run, 1), units(run, 2), "--output", tmp_path / "page")
    assert ended.code == 0
    said = ended.out.splitlines()
    older, newer = (f"mine@{run.done[which].model12}" for which in (1, 2))
    assert said[0] == f"{older} -> {newer}: 6 classes, 1 changed (by chance alone about 0.3)"
    assert said[1].startswith("  3 dog: other does not see it any more, ")
    assert said[-1] == str(tmp_path / "page" / "index.html")
    moved = tmp_path / "moved"
    shutil.move(tmp_path / "page", moved)
    page = (moved / "index.html").read_text()
    files = [unquote(link) for link in re.findall(r'(?:src|data-film)="([^"]+)"', page)]
    assert len(files) == 6 * 2 * 2
    assert all((moved / file).is_file() for file in files)


def test_json_says_the_same(run: Checkpoints, run_command: Command, tmp_path: Path) -> None:
    ended = run_command("compare", units(run, 1), units(run, 2), "--output", tmp_path, "--json")
    (found,) = json.loads(ended.out)["comparisons"]
    assert found["changed"] == [3]
    assert found["floors"]["features"]["pairs"] == 12
    assert found["top"][0]["measures"]["features"]["above"] is True
    assert found["page"] == str(tmp_path / "index.html")
    assert json.loads((tmp_path / "compare.json").read_text())["counts"] == found["counts"]


def test_galleries_are_compared_too_and_may_lie_in_two_stores(
    run: Checkpoints, run_command: Command, tmp_path: Path
) -> None:
    other = Checkpoints(tmp_path / "other", (800,), planted={3: 400})
    ended = run_command(
        "compare",
        f"{run.store.uri}/galleries/nightly/{run.done[1].run12}",
        f"{other.store.uri}/galleries/nightly/{other.done[0].run12}/index.html",
        "--output",
        tmp_path / "page",
        "--json",
    )
    assert ended.code == 0
    (found,) = json.loads(ended.out)["comparisons"]
    assert found["changed"] == [3]
    assert any(mark.startswith("No distance in the network’s own feature space") for mark in found["marks"])


def test_into_a_bucket_and_out_of_one(run: Checkpoints, run_command: Command, bucket_uri: str, tmp_path: Path) -> None:
    store = open_store(bucket_uri)
    for which in (1, 2):
        for key in run.store.list(f"units/mine@{run.done[which].model12}/"):
            store.write(key, run.store.read(key) or b"")
    places = [units(run, which).replace(run.store.uri, bucket_uri) for which in (1, 2)]
    ended = run_command("compare", *places, "--output", f"{bucket_uri}/compared")
    assert ended.code == 0
    assert ended.out.splitlines()[-1] == f"{bucket_uri}/compared/index.html"
    there = list(store.list("compared/"))
    assert len(there) == 2 + 6 * 2 * 2


def test_recipes_of_one_job_and_what_differs_between_them(finished: Path, run_command: Command, tmp_path: Path) -> None:
    quick, calm = (next((finished / "units").glob(f"*/{name}@*")) for name in ("quick", "calm"))
    ended = run_command("compare", quick, calm, "--output", tmp_path)
    assert ended.code == 0
    assert ended.out.startswith("quick -> calm: 3 classes, what is noise is not known\n")
    assert "note: Other settings: optimizer.lr (15, 5), optimizer.schedule (constant, cosine), " in ended.out
    assert "note: No noise floor: no image of another seed was found" in ended.out


def test_another_seed_of_a_real_job_tells_what_is_noise(
    write_job: Callable[..., Path], run_command: Command, tmp_path: Path
) -> None:
    recipes = [{"name": "quick", "extends": "plain", "steps": 3, "precision": "fp32"}]
    job = write_job(tmp_path / "job", classes="all", recipes=recipes, panel=[{"model": "tiny", "features": True}])
    for changes in ([], ["--set", "seed=1"], ["--set", "recipes.quick.steps=4"]):
        assert run_command("run", job, *changes).code == 0
    by_steps = {}
    for record in (tmp_path / "job" / "out" / "units").rglob("0000.json"):
        said = json.loads(record.read_bytes())
        by_steps[said["recipe"]["settings"]["steps"], said["seed"]] = record.parent
    ended = run_command("compare", by_steps[3, 0], by_steps[4, 0], "--output", tmp_path / "page", "--json")
    (found,) = json.loads(ended.out)["comparisons"]
    assert {floor["pairs"] for floor in found["floors"].values()} == {5}
    assert found["in_space"] == 5
    # Seeds themselves are what no floor can be had from but by a third one.
    ended = run_command("compare", by_steps[3, 0], by_steps[3, 1], "--output", tmp_path / "seeds", "--json")
    (found,) = json.loads(ended.out)["comparisons"]
    assert found["floors"] == {}


def test_the_same_units_on_other_numerics_tell_how_far_apart_numerics_are(
    run: Checkpoints, run_command: Command, tmp_path: Path
) -> None:
    other = Checkpoints(tmp_path / "other", (200,))
    for key in other.store.list("units/"):
        if key.endswith(".json"):
            other.store.write(key, resealed((other.store.read(key) or b"").replace(b'"cpp"', b'"cuda"')))
    place = units(other, 0)
    ended = run_command("compare", units(run, 1), place, "--output", tmp_path / "page")
    assert "note: Other numerics: backend (cpp, cuda). The same unit would not have the same bytes." in ended.out
    assert "These are the same units: they are apart by an RMS of at most 0." in ended.out


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ("units/mine@{0}/quick@{r}", "units/mine@{0}/quick@{r}", "are the same units: expected two checkpoints"),
        ("units", "units/mine@{0}/quick@{r}", "found several checkpoints of one name, mine/quick, mine/quick"),
        ("", "units/mine@{0}/quick@{r}", "found galleries of nightly, nightly-noise, expected one"),
        ("nowhere", "", "found no run, expected a folder or bucket"),
    ],
)
def test_what_cannot_be_compared_is_told_with_what_can(
    run: Checkpoints, run_command: Command, tmp_path: Path, a: str, b: str, message: str
) -> None:
    names = {"r": run.done[0].recipe12}
    places = [f"{run.store.uri}/{one}".rstrip("/").format(run.done[0].model12, **names) for one in (a, b)]
    ended = run_command("compare", *places, "--output", tmp_path / "page")
    assert ended.code == 2
    assert message in ended.err
    assert not (tmp_path / "page").exists()


def test_a_damaged_film_is_left_out_and_a_damaged_picture_is_missing(run_command: Command, tmp_path: Path) -> None:
    run = Checkpoints(tmp_path / "store", (1, 2), films=True)
    names = {key.rpartition("/")[2]: key for key in run.store.list(units(run, 1)[len(run.store.uri) + 1 :])}
    film = next(key for name, key in names.items() if name.startswith("0001-") and name.endswith(".webp"))
    picture = next(key for name, key in names.items() if name.startswith("0002-") and name.endswith(".png"))
    for key in (film, picture):
        run.store.write(key, b"something else")
    ended = run_command("compare", units(run, 0), units(run, 1), "--output", tmp_path / "page")
    assert ended.code == 0
    said = json.loads((tmp_path / "page" / "compare.json").read_text())
    assert [entry["index"] for entry in said["classes"] if entry["missing"]] == [2]
    (bee,) = [entry for entry in said["classes"] if entry["index"] == 1]
    assert bee["after"]["animation"] is None
    assert bee["before"]["animation"] is not None


# Pulled


def test_a_pulled_folder_has_its_nights_pages_with_links_that_lead_somewhere(
    run: Checkpoints, run_command: Command, tmp_path: Path
) -> None:
    from classmodels.gallery.nights import write_night

    write_night(run.store, "nightly")
    here = tmp_path / "here"
    ended = run_command("pull", run.store.uri, here)
    assert ended.code == 0
    assert str(here / "nights" / "nightly" / "index.html") in ended.out
    found = 0
    for page in (here / "nights").rglob("*.html"):
        for link in re.findall(r'(?:href|src|data-film)="([^"#]+)[^"]*"', page.read_text()):
            if link != "data:,":
                assert (page.parent / unquote(link)).exists(), (page, link)
                found += 1
    assert found > 60
    before = {path: path.stat().st_mtime_ns for path in here.rglob("*")}
    assert run_command("pull", run.store.uri, here).code == 0
    assert {path: path.stat().st_mtime_ns for path in here.rglob("*")} == before
    assert run_command("verify", here).code == 0

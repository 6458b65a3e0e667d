"""A gallery as one file: what is in it, how large it is, and that it asks nobody for anything."""

import errno
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from places import first, flip

from classmodels.results.export import export
from classmodels.results.place import Place, open_place
from classmodels.store import open_store
from finished import finish

Command = Callable[..., Any]

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory, write_job: Callable[..., Path]) -> Path:
    """Twelve classes under two recipes with images and films of 224 x 224, which hardly compress."""
    folder = tmp_path_factory.mktemp("large")
    recipes = [{"name": name, "extends": name, "steps": 3} for name in ("plain", "probability")]
    source = {"factory": "nets:linear", "args": [12]}
    changes = {"source": source, "checkpoint": None, "labels": None}
    model = {"name": "tiny", "input": {"size": 8, "mean": [0.5] * 3, "std": [0.25] * 3}} | changes
    model = {name: value for name, value in model.items() if value is not None}
    job = write_job(folder, models=[model], classes=["0-11"], recipes=recipes)
    finish(job, open_store(str(folder / "out")), side=224, frames=32)
    return folder / "out"


def inlined(page: str) -> list[str]:
    return re.findall(r"data:image/webp;base64,[A-Za-z0-9+/=]+", page)


def test_everything_is_in_the_file(source: str, tmp_path: Path, run_command: Command) -> None:
    said = json.loads(run_command("export", source, tmp_path / "page.html", "--json").out)
    assert (said["job"], said["images"], said["films"], said["missing"]) == ("tiny", 6, 6, 0)
    page = (tmp_path / "page.html").read_text()
    assert said["bytes"] == len(page.encode())
    links = re.findall(r'(?:href|src)="([^"]+)"', page)
    assert not [link for link in links if not link.startswith(("#", "data:", "https://arxiv.org/"))]
    assert "../" not in page
    assert len(set(inlined(page))) == 12
    assert len(inlined(page)) == 12  # nothing twice


def test_twelve_classes_under_two_recipes_stay_under_5_megabytes(large: Path, tmp_path: Path) -> None:
    done = export(open_place(str(large)), str(tmp_path / "page.html"))
    assert (done.images, done.films) == (24, 24)
    assert 1_000_000 < done.bytes < 5_000_000
    assert done.side >= 224


def test_a_gallery_of_very_many_gets_smaller_pictures_and_no_films(
    large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("classmodels.results.export.LIMIT", 200_000)
    done = export(open_place(str(large)), str(tmp_path / "page.html"))
    assert (done.images, done.films, done.side) == (24, 0, 112)


def test_an_image_that_is_damaged_leaves_a_gap(in_folder: Place, tmp_path: Path) -> None:
    flip(in_folder.store, first(in_folder.store, ".png"))
    done = export(in_folder, str(tmp_path / "page.html"))
    assert (done.images, done.missing) == (5, 1)


def test_one_of_several_jobs_is_to_be_named(
    tmp_path: Path, write_job: Callable[..., Path], run_command: Command
) -> None:
    for name in ("one", "two"):
        run_command("run", write_job(tmp_path, name=name))
    ended = run_command("export", tmp_path / "out", tmp_path / "page.html")
    assert ended.code == 2
    assert f"found galleries of one, two, expected one: {tmp_path / 'out'}/galleries/one" in ended.err
    ended = run_command("export", tmp_path / "out" / "galleries" / "two", tmp_path / "page.html")
    assert ended.out.startswith("two ")


def test_a_page_that_cannot_be_written_is_told(in_folder: Place, tmp_path: Path, run_command: Command) -> None:
    (tmp_path / "file").write_text("")
    ended = run_command("export", in_folder.store.uri, tmp_path / "file" / "page.html")
    assert ended.code == 4
    assert "cannot write" in ended.err


def test_an_export_that_fails_leaves_the_page_that_was_there(
    in_folder: Place, tmp_path: Path, run_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "sent" / "page.html"
    page.parent.mkdir()
    page.write_text("the page of last week")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    ended = run_command("export", in_folder.store.uri, page)
    assert ended.code == 4
    assert f"cannot write {page}: the disk is full" in ended.err
    assert page.read_text() == "the page of last week"
    assert os.listdir(page.parent) == ["page.html"]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Headless Chromium that logs every request."""
    webdriver = pytest.importorskip("selenium.webdriver")
    if not (CHROMIUM and DRIVER):
        pytest.skip("needs chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"):
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('chromium')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def requests(browser: Any) -> list[str]:
    """What the page has asked for since this was last asked, but for what it holds itself."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    return [url for url in urls if not url.startswith(("data:", "about:"))]


LOADED = "return [...document.images].filter(image => image.complete && image.naturalWidth > 0).length"


def test_the_file_shows_its_pictures_and_asks_nobody(large: Path, tmp_path: Path, browser: Any) -> None:
    export(open_place(str(large)), str(tmp_path / "page.html"))
    url = f"file://{tmp_path / 'page.html'}"
    requests(browser)
    browser.set_window_size(1200, 6000)
    browser.get(url)
    pictures = browser.execute_script("return document.images.length")
    browser.execute_async_script("Promise.all([...document.images].map(image => image.decode())).then(arguments[0])")
    assert browser.execute_script(LOADED) == pictures == 24 + 24  # once more in the section on score and probability
    browser.execute_script("document.querySelector('.card .open').click()")
    shown = browser.execute_async_script(
        "const done = arguments[0]; const image = document.querySelector('#detail img.large');"
        "image.decode().then(() => done([image.naturalWidth, image.src.slice(0, 16)]))"
    )
    assert shown[0] >= 224
    assert shown[1] == "data:image/webp;"
    browser.execute_script("document.querySelector('#film').click()")
    browser.execute_async_script("document.querySelector('#detail img.large').decode().then(arguments[0])")
    assert requests(browser) == [url]
    assert browser.get_log("browser") == []

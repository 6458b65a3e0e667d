"""The page by the rules of axe-core, in Chromium: skipped where there is no Chromium, or no axe-core from npm."""

import base64
import hashlib
import json
import shutil
import subprocess
import tarfile

import pytest
from chromium import HOSTILE, needs_chromium

from classmodels.gallery import write_gallery

pytestmark = needs_chromium
AXE = "axe-core@4.14.1"
INTEGRITY = "sha512-FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="


@pytest.fixture(scope="session")
def axe(tmp_path_factory):
    """The source of axe-core, of the pinned version and digest."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("needs npm")
    folder = tmp_path_factory.mktemp("axe")
    try:
        command = [npm, "pack", AXE, "--silent", "--pack-destination", str(folder)]
        subprocess.run(command, check=True, capture_output=True, timeout=60, cwd=folder)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"npm has no {AXE} for us: {(error.stderr or b'').decode()[-200:]}")
    (package,) = folder.glob("*.tgz")
    assert "sha512-" + base64.b64encode(hashlib.sha512(package.read_bytes()).digest()).decode() == INTEGRITY
    with tarfile.open(package) as archive:
        return archive.extractfile("package/axe.min.js").read().decode()


@pytest.fixture(scope="module")
def page(finished_run):
    """Two models under three recipes, one image missing, a pair of score and probability: every part of a page."""
    run = finished_run(
        models=(("lite0", "lite"), ("vgg16", "vgg")),
        recipes=("natural", "l2", "probability"),
        settings={"probability": {"objective": "log_prob"}},
        judges=(("lite0", "lite"), ("lite1", "lite"), ("vgg16", "vgg")),
    )
    run.store.delete(run.keys[-1])
    return run.store.locate(write_gallery(run.store, run.plan))


def grave(browser, axe):
    """The rules that the page breaks gravely, each with what breaks it."""
    browser.driver.execute_script(axe)
    browser.driver.set_script_timeout(60)
    found = browser.driver.execute_async_script(
        """const done = arguments[arguments.length - 1];
        axe.run(document, {resultTypes: ["violations"]}).then((found) => done(JSON.stringify(found)));"""
    )
    found = json.loads(found)
    assert found["testEngine"]["version"] == AXE.partition("@")[2]
    assert len(found["passes"]) > 20  # it has looked
    return {
        rule["id"]: [node["html"][:200] for node in rule["nodes"]]
        for rule in found["violations"]
        if rule["impact"] in ("serious", "critical")
    }


@pytest.mark.parametrize(("scheme", "width"), [("light", 1440), ("dark", 390)])
@pytest.mark.parametrize("opened", ["", "#lite0/natural/9", "#9"])
def test_no_grave_barrier(browser, axe, page, opened, width, scheme):
    browser.open(page, opened, width=width, prefers_color_scheme=scheme)
    if opened:
        browser.until("document.querySelector('.slider:not([hidden])')")
    assert grave(browser, axe) == {}


def test_no_grave_barrier_among_hostile_names(browser, axe, finished_run):
    run = finished_run(classes=HOSTILE, recipes=("natural", "<b>l2"), animation=None)
    browser.open(run.store.locate(write_gallery(run.store, run.plan)))
    assert grave(browser, axe) == {}


def test_axe_finds_a_barrier_where_there_is_one(browser, axe, page):
    browser.open(page)
    browser.driver.execute_script("document.querySelector('.card img').removeAttribute('alt')")
    assert "image-alt" in grave(browser, axe)

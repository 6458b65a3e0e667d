"""Comparisons and timelines as people use them, in headless Chromium from file://."""

import io
import re
import time
from itertools import pairwise

import numpy as np
import pytest
from chromium import HOSTILE, needs_chromium
from PIL import Image
from selenium.webdriver.common.keys import Keys

from checkpoints import Checkpoints
from classmodels.gallery.nights import write_night
from classmodels.store.nights import compare_prefix, timeline_prefix

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Five checkpoints unevenly apart; from step 400 on class 3 has a block in its corner. Nobody changes it."""
    found = Checkpoints(
        tmp_path_factory.mktemp("nights"), (50, 100, 200, 400, 2000), planted={3: 400}, films=True, side=64
    )
    write_night(found.store, "nightly")
    return found


def comparison(run, older=2, newer=3):
    key = compare_prefix("nightly", "mine", run.done[older].model12, run.done[newer].model12, "quick")
    return run.store.locate(f"{key}index.html")


def timeline(run, page="quick/0001.html"):
    return run.store.locate(timeline_prefix("nightly", "mine") + page)


def labels(browser):
    return [heading.text for heading in browser.visible(".change h2 .label")]


# A comparison


def test_the_changed_class_comes_first_with_both_images_and_what_happened(browser, run):
    browser.open(comparison(run))
    assert labels(browser)[0] == "dog"
    card = browser.one(".change")
    assert "does not see it any more" in card.text
    images = "[...document.querySelectorAll('.change:first-child img')]"
    assert browser.js(f"{images}.every((image) => image.complete && image.naturalWidth)")
    captions = [caption.text.split("\n")[0] for caption in browser.visible(".change:first-child figcaption")]
    assert captions == ["step 200", "step 400"]
    assert browser.one(".change:first-child .above .gauge rect.value").size["width"] > 0


def test_changed_only_search_and_order(browser, run):
    browser.open(comparison(run))
    assert len(labels(browser)) == 6
    browser.one("#only").click()
    assert labels(browser) == ["dog"]
    assert browser.one("#shown").text == "1 of 6 classes"
    browser.one("#only").click()
    browser.one("#find").send_keys("EEL")
    assert labels(browser) == ["eel"]
    browser.one("#find").send_keys("x")
    assert labels(browser) == []
    browser.one("#reset").click()
    browser.one("#order option[value=name]").click()
    assert labels(browser) == ["ant", "bee", "crow", "dog", "eel", "fox"]
    browser.one("#order option[value=change]").click()
    assert labels(browser)[0] == "dog"


def test_keys_go_through_the_classes_play_them_and_filter(browser, run):
    browser.open(comparison(run))
    body = browser.one("body")
    body.send_keys("j")
    assert browser.js("document.activeElement.id") == "c3"
    browser.press("j")
    second = browser.js("document.activeElement.id")
    assert second != "c3"
    browser.press("k")
    assert browser.js("document.activeElement.id") == "c3"
    browser.press("p")
    assert browser.one("#c3 .play").get_attribute("aria-pressed") == "true"
    browser.press("p")
    assert browser.one("#c3 .play").get_attribute("aria-pressed") == "false"
    browser.press("c")
    assert labels(browser) == ["dog"]
    browser.press("/")
    assert browser.js("document.activeElement.id") == "find"
    browser.press("c")
    assert browser.one("#find").get_attribute("value") == "c"  # in a field a letter is a letter


def test_both_films_play_in_step(browser, run, tmp_path):
    """Two equal films, one on each side: whenever one looks, both show the same frame."""
    twins = Checkpoints(tmp_path, (1, 2), films=True, side=64, noise=0.0, labels=["ant"], pairs=0)
    write_night(twins.store, "nightly")
    browser.open(comparison(twins, 0, 1))
    browser.one(".play").click()
    films = "[...document.querySelectorAll('img[data-film]')]"
    browser.until(f"{films}.every((image) => /webp#\\d+$/.test(image.src) && image.complete)")
    seen, between = [], []
    for _ in range(12):
        shot = np.asarray(Image.open(io.BytesIO(browser.driver.get_screenshot_as_png())).convert("RGB"), float)
        boxes = browser.js(f"{films}.map((image) => image.getBoundingClientRect().toJSON())")
        one, other = (shot[int(b["top"]) + 9 :, int(b["left"]) + 9 :][:200, :200] for b in boxes)
        between.append(np.abs(one - other).mean())
        seen.append(one)
        time.sleep(0.1)
    from_frame_to_frame = max(np.abs(one - other).mean() for one, other in pairwise(seen))
    assert from_frame_to_frame > 4
    assert max(between) < 1  # they stand at other fractions of a pixel


def test_the_judges_are_asked_in_a_fold(browser, run):
    browser.open(comparison(run))
    assert not browser.visible("#c3 .rows td")
    browser.one("#c3 summary").click()
    rows = [row.text for row in browser.visible("#c3 .rows tbody tr")]
    assert any(re.fullmatch(r"other first, 9\d % rank 4, \d % sees yellow patch", row) for row in rows)
    assert any(row.startswith("step 200 first") for row in rows)


# A timeline


def test_a_checkpoint_stands_where_its_step_is_and_any_can_be_seen_large(browser, run):
    browser.open(timeline(run))
    assert len(browser.visible(".strip")) == 6
    assert browser.one(".strip .when").text == "step 2000"
    left = browser.js("[...document.querySelectorAll('.strip:first-child .thumbs img')].map((i) => i.offsetLeft)")
    assert len(left) == 5
    assert left == sorted(left)
    assert left[4] - left[3] > 3 * (left[3] - left[2])  # from 400 to 2000 is further than from 200 to 400
    browser.one(".strip .thumbs img[data-place='1']").click()
    assert browser.one(".strip .when").text == "step 100"
    source = browser.one(".strip .now img").get_attribute("src")
    assert run.done[1].model12 in source
    browser.until("document.querySelector('.strip .now img').complete")
    assert browser.js("document.querySelector('.strip .now img').naturalWidth") == 64


def test_arrow_keys_walk_through_all_checkpoints(browser, run):
    browser.open(timeline(run))
    track = browser.one(".strip .track")
    browser.driver.execute_script("arguments[0].focus()", track)
    names = []
    browser.press(Keys.HOME)
    for _ in range(6):
        names.append(browser.one(".strip .when").text)
        browser.press(Keys.ARROW_RIGHT)
    assert names == ["step 50", "step 100", "step 200", "step 400", "step 2000", "step 2000"]
    assert track.get_attribute("aria-valuetext") == "step 2000"
    browser.press(Keys.ARROW_LEFT)
    assert track.get_attribute("aria-valuetext") == "step 400"


def test_pointing_at_the_curve_shows_the_nearest_checkpoint(browser, run):
    browser.open(timeline(run))
    box = browser.js("document.querySelector('.strip svg').getBoundingClientRect().toJSON()")
    for share, name in ((0.04, "step 50"), (0.2, "step 400"), (0.7, "step 2000")):
        browser.move(box["left"] + share * box["width"], box["top"] + box["height"] / 2)
        browser.until(f"document.querySelector('.strip .when').textContent === '{name}'")


def test_from_the_timeline_to_the_gallery_the_comparison_and_back(browser, run):
    browser.open(timeline(run))
    browser.one("#c3 .thumbs img[data-place='3']").click()
    links = browser.visible("#c3 .where a")
    assert [link.text for link in links] == ["gallery", "what changed here"]
    assert browser.js("document.querySelectorAll('#c3 .marks').length") == 1
    links[1].click()
    assert browser.one("h1").text == "step 200 → step 400"
    assert browser.js("location.hash") == "#c3"
    next(link for link in browser.visible("nav a") if link.text == "Timeline").click()
    assert browser.one("h1").text == "mine"
    assert not browser.visible("#find")  # there are few classes, all in sight
    next(link for link in browser.visible(".faces a") if link.text == "dog").click()
    browser.until("location.hash === '#c3' && !!document.querySelector('.strip')")
    browser.visible("nav a")[0].click()
    assert browser.one(".checkpoints tbody tr th").text == "step 2000"


def test_the_page_of_all_models_leads_to_what_moved(browser, run, tmp_path):
    found = Checkpoints(tmp_path, planted={3: 400}, side=64)
    write_night(found.store, "nightly")
    browser.open(found.store.locate("nights/nightly/index.html"))
    assert [heading.text for heading in browser.visible(".mover h4")] == ["dog"]
    assert browser.js("[...document.querySelectorAll('.mover img')].every((i) => i.complete && i.naturalWidth === 64)")
    browser.one(".mover a").click()
    assert browser.one("h1").text == "step 200 → step 400"


def test_without_script_thumbnails_and_images_are_there(browser, run):
    browser.command("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(timeline(run))
        assert len(browser.visible(".strip:first-child .thumbs img")) == 5
        browser.open(comparison(run))
        assert len(browser.visible(".change:first-child img")) == 2
    finally:
        browser.command("Emulation.setScriptExecutionDisabled", value=False)


@pytest.mark.parametrize("kind", ["plain", "hostile"])
def test_no_width_scrolls_sideways_and_nothing_runs(browser, run, tmp_path, kind):
    shown = run
    if kind == "hostile":
        shown = Checkpoints(tmp_path, (1, 2), labels=list(HOSTILE.values()))
        shown.add(3, tags=("<b>tag</b>", "y" * 200), uri="s3://b/" + "z" * 900 + "<script>")
        write_night(shown.store, "nightly")
    last = len(shown.done) - 1
    pages = [comparison(shown, last - 1, last), timeline(shown), timeline(shown, "index.html")]
    for page in [*pages, shown.store.locate("nights/nightly/index.html")]:
        for width in (320, 390, 768, 1280, 2560):
            browser.open(page, width=width, height=800)
            assert browser.js("document.documentElement.scrollWidth") <= width, (page, width)
        assert browser.js("document.documentElement.dataset.owned") is None


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_can_be_told_from_the_paper_in_light_and_dark(browser, run, scheme):
    for page, selector in ((comparison(run), ".said .badge"), (timeline(run), ".facts")):
        browser.open(page, prefers_color_scheme=scheme)
        ink, paper = browser.js(
            f"[getComputedStyle(document.querySelector('{selector}')).color,"
            " getComputedStyle(document.body).backgroundColor]"
        )
        one, other = (_luminance(colour) for colour in (ink, paper))
        assert (max(one, other) + 0.05) / (min(one, other) + 0.05) >= 4.5


def _luminance(colour):
    channels = [int(c) / 255 for c in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

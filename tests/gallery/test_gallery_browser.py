"""The page as people use it, in headless Chromium from file://: skipped where there is no Chromium."""

import json
import time

import pytest
from chromium import HOSTILE, OWNED, WebDriverWait, needs_chromium
from selenium.webdriver.common.keys import Keys

from altered import said_again
from classmodels.gallery import write_gallery

pytestmark = needs_chromium


def page_of(run):
    """The path of the run's gallery, written for it."""
    return run.store.locate(write_gallery(run.store, run.plan))


@pytest.fixture(scope="module")
def three(finished_run):
    """Two models under three recipes, two of which differ in the objective alone; nobody changes it."""
    return finished_run(
        models=(("lite0", "lite"), ("vgg16", "vgg")),
        recipes=("natural", "l2", "probability"),
        settings={"probability": {"objective": "log_prob"}},
    )


def test_filters_filter(browser, three):
    browser.open(page_of(three))
    assert len(browser.visible(".card")) == 30
    browser.one("fieldset[data-filter=recipe] .chip:nth-of-type(2)").click()
    assert len(browser.visible(".card")) == 20
    browser.one("fieldset[data-filter=model] .chip:nth-of-type(1)").click()
    assert {card.get_attribute("data-model") for card in browser.visible(".card")} == {"1"}
    assert {card.get_attribute("data-recipe") for card in browser.visible(".card")} == {"0", "2"}
    assert browser.one("#shown").text == "5 of 5 classes, 10 images"


def test_search_finds_classes_by_name_and_index(browser, three):
    browser.open(page_of(three))
    box = browser.one("#find")
    box.send_keys("DUMB")
    assert [h.text for h in browser.visible(".class h3 .label")] == ["dumbbell"]
    box.clear()
    box.send_keys("251")
    assert [h.text for h in browser.visible(".class h3 .label")] == ["dalmatian"]
    box.send_keys("xyz")
    assert browser.visible(".class") == []
    browser.one("#reset").click()
    assert len(browser.visible(".class")) == 5
    assert not browser.one("#nothing").is_displayed()


def test_order_by_name_and_by_held_out_probability(browser, finished_run):
    browser.open(page_of(finished_run(classes={3: "c", 1: "b", 2: "a"})))

    def labels():
        return [h.text for h in browser.visible(".class h3 .label")]

    assert labels() == ["c", "b", "a"]
    for order, expected in (("name", "abc"), ("index", "bac"), ("seen", "bca"), ("job", "cba")):
        browser.one(f"#order option[value={order}]").click()
        assert "".join(labels()) == expected, order


def test_click_opens_the_class_and_escape_returns_to_its_card(browser, three):
    browser.open(page_of(three))
    card = browser.one('.card[data-unit="6"] .open')
    card.click()
    browser.until("document.querySelector('dialog').open")
    assert browser.title == "dalmatian"
    assert browser.js("location.hash") == "#lite0/l2/251"
    assert browser.one("svg.curve .line").is_displayed()
    assert [text.text for text in browser.visible("svg.curve text")][-2:] == ["step", "raw logit"]
    assert len(browser.visible(".verdict li")) == 10
    assert browser.one("#detail table.rows").text.startswith("recipe l2")
    browser.press(Keys.ESCAPE)
    browser.until("!document.querySelector('dialog').open")
    browser.until("location.hash === ''")
    assert browser.js("document.activeElement.closest('.card').dataset.unit") == "6"


def test_back_closes_what_a_click_opened(browser, three):
    browser.open(page_of(three))
    browser.one('.card[data-unit="0"] .open').click()
    browser.until("document.querySelector('dialog').open")
    browser.driver.back()
    browser.until("!document.querySelector('dialog').open")


def test_an_address_opens_its_class_and_arrows_go_to_the_visible_neighbours(browser, three):
    browser.open(page_of(three), "#lite0/natural/251")
    assert browser.title == "dalmatian"
    browser.press(Keys.ARROW_LEFT)
    assert (browser.title, browser.js("location.hash")) == ("ostrich", "#vgg16/probability/9")
    browser.press(Keys.ARROW_RIGHT)
    browser.press(Keys.ARROW_RIGHT)
    assert browser.js("location.hash") == "#lite0/l2/251"
    browser.one("#close").click()
    assert not browser.one("dialog").is_displayed()
    assert browser.js("location.hash") == ""


def test_arrows_stop_at_the_ends_and_pass_over_what_is_not_there(browser, finished_run):
    run = finished_run()
    run.store.delete(run.keys[1])
    browser.open(page_of(run), "#lite0/natural/9")
    assert browser.one("#place").text == "1 of 4"
    assert not browser.one("#before").is_enabled()
    browser.press(Keys.ARROW_LEFT)
    assert browser.title == "ostrich"
    browser.press(Keys.ARROW_RIGHT)
    assert browser.title == "dumbbell"
    browser.open(page_of(run), "#lite0/natural/251")
    assert "not there" in browser.one("#detail").text


def test_hovering_swaps_in_the_animation_and_leaving_the_image(browser, finished_run):
    browser.open(page_of(finished_run()))
    image = "document.querySelector('.card img')"
    loaded = "performance.getEntriesByType('resource').filter((e) => e.name.includes('.webp')).length"
    assert browser.js(loaded) == 0
    box = browser.js("document.querySelector('.card .frame').getBoundingClientRect().toJSON()")
    browser.move(box["x"] + 20, box["y"] + 20)
    browser.until(f"{image}.src.includes('.webp')")
    browser.until(f"{image}.complete && {image}.naturalWidth === 32")
    browser.move(2, 2)
    browser.until(f"{image}.src.endsWith('.png')")


def test_with_reduced_motion_only_the_button_plays(browser, finished_run):
    browser.open(page_of(finished_run()), prefers_reduced_motion="reduce")
    image = "document.querySelector('.card img')"
    box = browser.js("document.querySelector('.card .frame').getBoundingClientRect().toJSON()")
    browser.move(box["x"] + 20, box["y"] + 20)
    time.sleep(0.3)
    assert browser.js(f"{image}.src").endswith(".png")
    browser.js("document.querySelector('.card .play').click()")
    assert ".webp" in browser.js(f"{image}.src")
    browser.js("document.querySelector('.card .play').click()")
    assert browser.js(f"{image}.src").endswith(".png")


def test_the_animation_plays_and_replays_in_the_dialog(browser, finished_run):
    browser.open(page_of(finished_run(animation="gif")), "#lite0/natural/9")
    browser.one("#film").click()
    first = browser.js("document.querySelector('.large').src")
    browser.one("#film").click()
    assert ".gif" in first
    assert browser.js("document.querySelector('.large').src") != first
    browser.one("#film + button").click()
    assert browser.js("document.querySelector('.large').src").endswith(".png")


def test_a_pair_of_score_and_probability_opens_too(browser, three):
    browser.open(page_of(three))
    assert len(browser.visible(".pair")) == 10
    browser.js("document.querySelectorAll('.pair .open')[1].click()")
    browser.until("location.hash === '#lite0/probability/9'")
    assert browser.title == "ostrich"


def test_hostile_strings_execute_nothing_and_are_shown_as_text(browser, finished_run):
    run = finished_run(
        classes=HOSTILE, recipes=("natural", "<b>l2"), job="<i>job", notes=(f"<script>{OWNED}</script>",)
    )
    browser.open(page_of(run))
    for index, label in HOSTILE.items():
        browser.js(f"location.hash = '#lite0/natural/{index}'")
        browser.until(f"document.querySelector('#unit-title')?.textContent.includes('class {index}')")
        assert browser.js("document.querySelector('#unit-title > bdi').textContent")[:390] == label[:390]
        assert browser.js(
            "document.querySelector('dialog').scrollWidth <= document.querySelector('dialog').clientWidth"
        )
    assert (
        browser.js("document.querySelectorAll('#detail script, #detail b, i[src], [onerror], svg[onload]').length") == 0
    )
    assert browser.js("document.documentElement.dataset.owned ?? null") is None
    assert browser.js("document.querySelector('h1').textContent") == "<i>job"


@pytest.mark.parametrize("source", ["script", "handler", "style", "frame", "request"])
def test_the_policy_stops_what_markup_would_do(started, finished_run, source):
    started.open(page_of(finished_run()))
    insert = "document.body.insertAdjacentHTML('beforeend', {})".format
    script = f"Object.assign(document.createElement('script'), {{textContent: {json.dumps(OWNED)}}})"
    attempt = {
        "script": f"document.body.append({script})",
        "handler": insert(json.dumps(f"<img src=data:, onerror={json.dumps(OWNED)}>")),
        "style": insert("'<p style=\"color: red\">'"),
        "frame": insert("'<iframe src=\"data:text/html,x\"></iframe>'"),
        "request": "fetch('gallery.json').catch(() => 0)",
    }[source]
    started.js(f"void ({attempt})")
    WebDriverWait(started.driver, 5, 0.05).until(
        lambda _: any("Content Security Policy" in p for p in started.problems)
    )
    assert started.js("document.documentElement.dataset.owned ?? null") is None


@pytest.mark.parametrize("labels", ["plain", "hostile"])
def test_no_width_scrolls_sideways(browser, finished_run, three, labels):
    run = three if labels == "plain" else finished_run(classes=HOSTILE, job="y" * 120 + " z" * 60, animation=None)
    for width in (320, 360, 768, 1280, 2560):
        browser.open(page_of(run), width=width, height=800)
        assert browser.js("document.documentElement.scrollWidth") <= width, width
        browser.one(".card .open").click()
        browser.until("document.querySelector('dialog').open")
        assert browser.js(
            "document.querySelector('dialog').scrollWidth <= document.querySelector('dialog').clientWidth"
        )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_in_light_and_dark(browser, finished_run, scheme):
    run = finished_run(recipes=("natural", "l2"), classes={1: "a", 2: "b", 3: "c"})
    browser.open(page_of(run), prefers_color_scheme=scheme)
    browser.driver.execute_script(
        """window.contrast = (element) => {
          const rgb = (color) => color.match(/[\\d.]+/g).map(Number);
          let ground = element;
          while (ground && (rgb(getComputedStyle(ground).backgroundColor)[3] ?? 1) === 0) ground = ground.parentElement;
          const light = (color) => rgb(color).slice(0, 3).map((v) => v / 255)
            .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
            .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
          const a = light(getComputedStyle(element).color);
          const b = light(getComputedStyle(ground ?? document.body).backgroundColor);
          return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        };"""
    )
    for selector in (
        ".lead",
        ".facts",
        ".badge.all",
        ".badge.some",
        ".variant",
        ".soft",
        ".mark",
        "footer",
        "a",
        ".chip",
    ):
        assert browser.js(f"Math.min(...[...document.querySelectorAll('{selector}')].map(window.contrast))") >= 4.5, (
            selector
        )


def test_without_script_the_cards_still_show_and_link_to_their_images(browser, finished_run):
    browser.command("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(page_of(finished_run()))
        cards = browser.visible(".card .open, .single .open")
        assert len(cards) == 5
        assert not browser.visible(".tools")
        assert not browser.visible(".play")
    finally:
        browser.command("Emulation.setScriptExecutionDisabled", value=False)


def test_what_was_not_deterministic_is_named(browser, finished_run):
    run = finished_run()
    run.change(run.keys[0], '"deterministic": true', '"deterministic": false')
    run.change(run.keys[0], r'"nondeterministic": \[\]', '"nondeterministic": ["grid_sample backward"]')
    browser.open(page_of(run), "#lite0/natural/9")
    assert "deterministic no, grid_sample backward" in browser.js(
        "document.querySelector('#detail').textContent"
    ).replace("deterministicno", "deterministic no")


def test_a_large_gallery_opens_quickly(browser, finished_run):
    run = finished_run(classes={i: f"class {i}" for i in range(120)}, judges=(), animation=None)
    start = time.monotonic()
    browser.open(page_of(run))
    assert browser.one("#shown").text == "120 of 120 classes"
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("score", ["1e16", "-3.4e38", "5e-324", "0.0"])
def test_a_score_that_never_changes_draws_a_flat_curve_and_does_not_hang(browser, finished_run, score):
    run = finished_run(classes={1: "one"})
    record = json.loads(run.store.read(run.keys[0]))
    run.store.write(run.keys[0], said_again(record | {"scores": [float(score)] * 5}))
    browser.driver.set_script_timeout(5)
    browser.open(page_of(run), "#lite0/natural/1")
    browser.until("document.querySelector('svg.curve .line')")
    assert "NaN" not in browser.one("svg.curve .line").get_attribute("d")
    assert len(browser.visible("svg.curve .axis")) <= 16

"""Class by class on the page, in headless Chromium: side by side, through the ascent, by keys, found in any script."""

import json

import pytest
from chromium import needs_chromium
from selenium.webdriver.common.keys import Keys

from classmodels.gallery import write_gallery
from classmodels.results.export import export
from classmodels.results.place import open_place

pytestmark = needs_chromium
RECIPES = ("natural", "l2", "l1")


def page_of(run):
    return run.store.locate(write_gallery(run.store, run.plan))


@pytest.fixture(scope="module")
def three(finished_run):
    """Five classes under three recipes."""
    return finished_run(recipes=RECIPES)


def slide(browser, value):
    browser.driver.execute_script(
        """const range = document.getElementById("ascent");
        range.value = arguments[0];
        range.dispatchEvent(new Event("input"));""",
        value,
    )


def centre(browser, selector):
    """The colour in the middle of what a canvas shows, [r, g, b]; from a picture of the screen: it may not be read."""
    import base64
    import io

    from PIL import Image

    box = browser.js(f"document.querySelector('{selector}').getBoundingClientRect().toJSON()")
    data = browser.command("Page.captureScreenshot", format="png")["data"]
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        return image.convert("RGB").getpixel((int(box["x"] + box["width"] / 2), int(box["y"] + box["height"] / 2)))


def test_all_methods_of_a_class_stand_side_by_side(browser, three):
    browser.open(page_of(three))
    browser.js("document.querySelectorAll('.beside')[1].click()")
    browser.until("document.querySelector('dialog').open")
    assert browser.title == "dalmatian"
    assert browser.js("location.hash") == "#251"
    assert [tile.text for tile in browser.visible(".tile .variant")] == list(RECIPES)
    tops = browser.js("[...document.querySelectorAll('.tile')].map((t) => t.getBoundingClientRect().top)")
    assert len(set(tops)) == 1
    browser.press(Keys.ARROW_RIGHT)
    assert (browser.title, browser.js("location.hash")) == ("dumbbell", "#543")
    browser.visible(".tile")[2].click()
    assert browser.js("location.hash") == "#lite0/l1/543"
    browser.one("#together").click()
    assert browser.js("location.hash") == "#543"
    browser.press(Keys.ESCAPE)
    browser.until("!document.querySelector('dialog').open")
    assert browser.js("document.activeElement.className") == "beside"


def test_side_by_side_shows_the_recipes_that_the_filter_shows(browser, three):
    browser.open(page_of(three))
    browser.one("fieldset[data-filter=recipe] .chip:nth-of-type(2)").click()
    browser.js("document.querySelectorAll('.beside')[0].click()")
    browser.until("document.querySelector('dialog').open")
    assert [tile.text for tile in browser.visible(".tile .variant")] == ["natural", "l1"]


def test_two_classes_of_one_index_have_addresses_of_their_own(browser, finished_run):
    run = finished_run(models=(("a", "f"), ("b", "g")), classes={3: "bird"}, judges=())
    run.change(run.keys[1], '"label": "bird"', '"label": "plane"')
    browser.open(page_of(run), "#3-2")
    assert browser.title == "plane"


@pytest.mark.parametrize("animation", ["webp", "gif"])
def test_a_slider_goes_through_the_ascent_from_the_disk(browser, finished_run, animation):
    browser.open(page_of(finished_run(animation=animation)), "#lite0/natural/9")
    browser.until("document.querySelector('.slider:not([hidden])')")
    assert browser.one(".slider output").text == "step 256 of 256"
    assert not browser.visible(".stage canvas")
    final = centre(browser, ".stage")
    end = browser.js("document.querySelector('.curve .end').getAttribute('cx')")
    slide(browser, 0)
    assert browser.one(".slider output").text == "step 0 of 256"
    assert browser.one("#ascent").get_attribute("aria-valuetext") == "step 0 of 256"
    first = centre(browser, ".stage canvas")
    assert max(abs(a - b) for a, b in zip(first, (124, 116, 104), strict=True)) < 12  # the blank of the film
    slide(browser, 1)
    assert browser.one(".slider output").text == "step 85 of 256"
    second = centre(browser, ".stage canvas")
    expected = [a + (b - a) / 3 for a, b in zip((124, 116, 104), final, strict=True)]
    assert max(abs(a - b) for a, b in zip(second, expected, strict=True)) < 16
    assert float(browser.js("document.querySelector('.curve .end').getAttribute('cx')")) < float(end)
    slide(browser, 3)
    assert not browser.visible(".stage canvas")


def test_arrow_keys_on_the_slider_move_it_and_not_the_page(browser, three):
    browser.open(page_of(three), "#lite0/natural/251")
    browser.until("document.querySelector('.slider:not([hidden])')")
    browser.one("#ascent").send_keys(Keys.ARROW_LEFT)
    assert browser.title == "dalmatian"
    assert browser.one(".slider output").text == "step 171 of 256"


def test_one_slider_moves_all_methods_of_a_class(browser, three):
    browser.open(page_of(three), "#9")
    browser.until("document.querySelector('#ascent')?.max === '3'")
    browser.until("[...document.querySelectorAll('.tile canvas')].every((c) => c.width === 32)")
    slide(browser, 1)
    assert len(browser.visible(".tile canvas")) == 3
    assert browser.one(".slider output").text == "33 % of the steps"


def test_without_a_strip_the_ascent_still_plays(browser, finished_run):
    run = finished_run()
    page = page_of(run)
    view = json.loads(run.store.read(f"galleries/figure-1/{run.plan.run12}/gallery.json"))
    run.store.delete(f"galleries/figure-1/{run.plan.run12}/{view['units'][0]['strip']['href']}")
    browser.open(page, "#lite0/natural/9")
    browser.one("#film").click()
    assert ".webp" in browser.js("document.querySelector('.large').src")
    assert not browser.visible(".slider")
    assert all("ERR_FILE_NOT_FOUND" in problem for problem in browser.problems)


def test_a_page_that_stands_alone_has_the_slider_too(browser, finished_run, tmp_path):
    run = finished_run(classes={9: "ostrich"}, recipes=("natural", "l2"))
    write_gallery(run.store, run.plan)
    export(open_place(str(run.store.root)), str(tmp_path / "page.html"))
    browser.open(tmp_path / "page.html", "#lite0/natural/9")
    browser.until("document.querySelector('.slider:not([hidden])')")
    slide(browser, 0)
    first = centre(browser, ".stage canvas")
    assert max(abs(a - b) for a, b in zip(first, (124, 116, 104), strict=True)) < 12


@pytest.mark.parametrize(
    ("typed", "label"),
    [
        ("espanol", "Español"),
        ("ESPAÑOL", "Español"),
        ("strasse", "Straße"),
        ("lodz", "Łódź"),
        ("smorrebrod", "smørrebrød"),
        ("鴕鳥", "鴕鳥 (だちょう)"),
        ("νυχτα", "νύχτα"),
        ("елка", "ёлка"),
        ("قطة", "قِطّة"),
        ("tieng viet", "tiếng Việt"),
        ("ＦＵＬＬ", "full width"),
        ("🦩", "🦩 flamingo"),
    ],
)
def test_search_folds_accents_in_any_script(browser, words, typed, label):
    box = browser.one("#find")
    browser.driver.execute_script(
        "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input', {bubbles: true}))", box, typed
    )
    assert browser.js("[...document.querySelectorAll('.class:not([hidden]) .label')].map((e) => e.textContent)") == [
        label
    ]


@pytest.fixture(scope="module")
def words(started, finished_run):
    labels = ["Español", "Straße", "Łódź", "smørrebrød", "鴕鳥 (だちょう)", "νύχτα", "ёлка", "قِطّة", "tiếng Việt"]
    run = finished_run(classes=dict(enumerate([*labels, "full width", "🦩 flamingo"])), animation=None)
    started.open(page_of(run))


def test_keys_find_move_open_and_return(browser, three):
    browser.open(page_of(three), width=1440)
    focused = "document.activeElement.closest('.card')?.dataset.unit ?? document.activeElement.id"
    browser.press("/")
    assert browser.js(focused) == "find"
    browser.press("/")
    assert browser.one("#find").get_attribute("value") == "/"
    browser.press(Keys.BACKSPACE)
    browser.press(Keys.ENTER)
    assert browser.js(focused) == "0"
    browser.press(Keys.ARROW_RIGHT)
    assert browser.js(focused) == "5"  # the same class under the next recipe
    assert browser.js("document.activeElement.matches(':focus-visible')")
    assert browser.js("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    browser.press(Keys.ARROW_DOWN)
    across = browser.js("document.activeElement.getBoundingClientRect().left")
    assert browser.js(focused) == "7"
    browser.press(Keys.ARROW_UP)
    assert browser.js(focused) == "5"
    assert browser.js("document.activeElement.getBoundingClientRect().left") == across
    browser.press(Keys.ENTER)
    browser.until("document.querySelector('dialog').open")
    assert browser.js("location.hash") == "#lite0/l2/9"
    browser.press(Keys.ESCAPE)
    browser.until("!document.querySelector('dialog').open")
    assert browser.js(focused) == "5"


def test_order_by_score_and_by_disagreement(browser, finished_run):
    run = finished_run(classes={1: "a", 2: "b", 3: "c"}, animation=None)
    for key, logit, own in zip(run.keys, ("5.0", "7.0", "9.0"), ("0.2", "0.5", "0.1"), strict=True):
        run.change(key, '"logit": [0-9.]+', f'"logit": {logit}')
        run.change(key, '(?s)("logit": [0-9.]+,\n *"probability": )[0-9.]+', f'"logit": {logit}, "probability": {own}')
    said = [unit["disagreement"] for unit in run.view()["units"]]
    # Judges give .9 where they rank it first and .05 elsewhere: both rank a first, one of them b and c.
    assert said == [pytest.approx(0.7), pytest.approx(0.85), pytest.approx(0.85)]
    browser.open(page_of(run))
    for order, expected in (("score", "cba"), ("apart", "bca"), ("job", "abc")):
        browser.one(f"#order option[value={order}]").click()
        assert "".join(h.text for h in browser.visible(".class h3 .label")) == expected, order


def test_the_command_that_makes_an_image_again_can_be_copied(browser, finished_run):
    run = finished_run(recipes=("natural", "it's [1]*"))
    browser.open(page_of(run))
    browser.js("document.querySelectorAll('.card .open')[1].click()")
    browser.until("document.querySelector('.command')")
    command = browser.one(".command code").text
    assert command == ("""classmodels run figure-1.yaml --only 'lite0/it'"'"'s [[]1][*]/9' --output ./again""")
    browser.one(".command button").click()
    browser.until("document.querySelector('.command button').textContent === 'Copied'")
    browser.one("#close").click()
    browser.one("#find").send_keys(Keys.CONTROL, "v")
    assert browser.one("#find").get_attribute("value") == command


def test_every_picture_has_a_text_that_names_its_class_and_method(browser, three):
    browser.open(page_of(three), "#9")
    texts = browser.js("[...document.querySelectorAll('.card img')].map((image) => image.alt)")
    assert len(set(texts)) == len(texts) == 15
    assert "Class model of ostrich (lite0, l1)" in texts
    assert browser.js("[...document.images].every((image) => image.hasAttribute('alt'))")

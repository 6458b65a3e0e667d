"""The page as a file: it stands alone, its links hold, its bytes are a function of records and verdicts."""

import base64
import hashlib
import json
import re
from hashlib import sha256
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import pytest

from classmodels.errors import InputError, StoreError
from classmodels.gallery import render_page, write_gallery
from classmodels.gallery.rebuild import rebuild
from classmodels.gallery.shares import measure
from classmodels.gallery.units import read_units
from classmodels.gallery.view import view_of
from classmodels.store import open_store

HOSTILE = {
    1: "<script>document.title='owned'</script>",
    2: '"><img src=x onerror="document.title=\'owned\'">',
    3: "</script><script>document.title='owned'</script><!--",
    4: "{{ 7 * 7 }}{% raw %}",
    5: "abc\u202egpj.exe\u2066",
    6: "🦩 عربى עברית 鴕鳥",
    7: "long " * 2_000,
    8: "' onclick='document.title=1' \u2028 & &lt;b&gt; ]]> \\u003cb>",
    9: "",
}
VOID = {"meta", "link", "img", "br", "input"}


class Document(HTMLParser):
    """Checks that tags close in order; gathers links, tags with attributes, and text."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.links, self.texts, self.blocks = [], [], [], [], {}
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        assert len(attributes) == len(attrs), f"an attribute twice in <{tag}>"
        self.tags.append((tag, attributes))
        self.links += [attributes[name] for name in ("href", "src") if name in attributes]
        if tag not in VOID:
            self.open.append(tag)
            if tag in ("script", "style"):
                self.blocks[attributes.get("id", tag)] = ""

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("script", "style"):
            self.blocks[list(self.blocks)[-1]] += data
        else:
            self.texts.append(data)


def page_of(run):
    key = write_gallery(run.store, run.plan)
    return key, run.store.read(key).decode()


def tree(run):
    return {key: run.store.read(key) for key in run.store.list("galleries/")}


def test_a_gallery_is_four_objects_and_latest_points_at_the_page(finished_run):
    run = finished_run(animation=None)
    key = write_gallery(run.store, run.plan)
    prefix = f"galleries/figure-1/{run.plan.run12}/"
    assert key == prefix + "index.html"
    assert sorted(tree(run)) == sorted(
        [prefix + "contact-sheet.png", prefix + "gallery.json", key, "galleries/figure-1/latest.json"]
    )
    latest = json.loads(run.store.read("galleries/figure-1/latest.json"))
    assert latest == {"run12": run.plan.run12, "page": f"{run.plan.run12}/index.html"}
    said = json.loads(run.store.read(prefix + "gallery.json"))
    digests = {name: sha256(run.store.read(prefix + name)).hexdigest() for name in ("contact-sheet.png", "index.html")}
    units = read_units(run.store, run.plan)
    view = view_of(units, run.plan, measure(run.store, units))
    assert said == {**view, "files": digests, "content_sha256": said["content_sha256"]}


def test_rebuilding_elsewhere_gives_the_same_bytes(finished_run):
    one, other = finished_run(recipes=("natural", "l2")), finished_run(recipes=("natural", "l2"))
    for run in (one, other):
        write_gallery(run.store, run.plan)
    assert tree(one) == tree(other)


def test_writing_again_writes_nothing_and_latest_is_written_last(finished_run, monkeypatch):
    run = finished_run()
    written = []
    monkeypatch.setattr(run.store, "write", lambda key, data: written.append(key))
    write_gallery(run.store, run.plan)
    assert [key.rpartition("/")[2] for key in written if "/strips/" not in key] == [
        "contact-sheet.png",
        "gallery.json",
        "index.html",
        "latest.json",
    ]
    monkeypatch.undo()
    write_gallery(run.store, run.plan)
    monkeypatch.setattr(run.store, "write", lambda key, data: pytest.fail(f"{key} was written again"))
    write_gallery(run.store, run.plan)


def test_a_gallery_can_be_written_without_becoming_the_latest(finished_run):
    run = finished_run()
    page = write_gallery(run.store, run.plan)
    other = run.plan.model_copy(update={"run12": "0123456789ab"})
    assert write_gallery(run.store, other, latest=False) != page
    assert json.loads(run.store.read("galleries/figure-1/latest.json"))["run12"] == run.plan.run12


def test_rebuilding_a_store_mends_its_pages_and_keeps_the_latest(finished_run):
    run = finished_run()
    page = write_gallery(run.store, run.plan)
    before = tree(run)
    run.store.delete(page)
    assert rebuild(run.store) == [page]
    assert tree(run) == before


def test_rebuilding_where_nothing_ran_says_so(tmp_path):
    with pytest.raises(InputError, match="found no run"):
        rebuild(open_store(str(tmp_path)))


@pytest.mark.parametrize("animation", ["webp", "gif", None])
def test_every_relative_link_leads_to_a_file(finished_run, animation):
    run = finished_run(
        classes={9: "ostrich", 10: "a b%c#d?e"},
        animation=animation,
        recipes=("natural", "probability"),
        settings={"probability": {"objective": "log_prob"}},
    )
    key, page = page_of(run)
    folder = (run.store.root / key).parent
    view = json.loads(Document(page).blocks["view"])
    links = Document(page).links
    links += [unit[name]["href"] for unit in view["units"] for name in ("image", "animation") if unit[name]]
    links += [unit["record"] for unit in view["units"]]
    outside = [link for link in links if urlsplit(link).scheme]
    assert set(outside) == {"data:,", "https://arxiv.org/abs/1312.6034"}
    files = [link for link in links if not urlsplit(link).scheme and not link.startswith("#")]
    assert len(files) > 8
    for link in files:
        assert (folder / unquote(urlsplit(link).path)).is_file(), link
    anchors = {link[1:] for link in links if link.startswith("#")}
    assert anchors <= {attributes.get("id") for _, attributes in Document(page).tags}


def test_style_and_script_are_allowed_by_digest_and_nothing_else_is(finished_run):
    document = Document(page_of(finished_run())[1])
    policy = next(a["content"] for _, a in document.tags if a.get("http-equiv") == "Content-Security-Policy")
    rules = {name: rest for name, _, rest in (rule.strip().partition(" ") for rule in policy.split(";"))}
    for block, rule in (("style", "style-src"), ("script", "script-src")):
        digest = base64.b64encode(hashlib.sha256(document.blocks[block].encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["img-src"] == "'self' file: data:"
    assert not [(tag, name) for tag, a in document.tags for name in a if name == "style" or name.startswith("on")]


def test_hostile_labels_are_text(finished_run):
    run = finished_run(classes=HOSTILE, recipes=("natural", "l2"), notes=("<b>note</b>",))
    document = Document(page_of(run)[1])
    shown = "".join(document.texts)
    for label in HOSTILE.values():
        assert re.sub(r"[\u2028\n]", " ", label[:300]) in shown
    harmless = Document(page_of(finished_run(classes=dict.fromkeys(HOSTILE, "x"), recipes=("natural", "l2")))[1])
    assert [tag for tag, _ in document.tags] == [tag for tag, _ in harmless.tags]
    labels = [entry["label"] for entry in json.loads(document.blocks["view"])["classes"]]
    assert [label[:300] for label in labels] == [re.sub(r"[\u2028\n]", " ", label[:300]) for label in HOSTILE.values()]
    assert not set("<>&\u2028\u2029") & set(document.blocks["view"])


def test_no_attribute_or_title_carries_direction_controls_or_ten_kilobytes(finished_run):
    document = Document(page_of(finished_run(classes=HOSTILE, job="job \u202e x"))[1])
    for tag, attributes in document.tags:
        for name, value in attributes.items():
            assert not re.search("[\u202a-\u202e\u2066-\u2069]", value or ""), (tag, name)
            assert len(value or "") < 1000, (tag, name)


def test_names_are_isolated_from_the_direction_of_their_neighbours(finished_run):
    page = page_of(finished_run(classes=HOSTILE))[1]
    assert re.search(r"<bdi [^>]*>abc\u202egpj\.exe\u2066</bdi>", page)


def test_hostile_names_of_models_recipes_and_judges_are_text(finished_run):
    name = "<img src=x onerror=alert(1)>\"'"
    run = finished_run(
        models=((name, "f"), ("b", "g")), recipes=(name, "l2"), judges=((name, name),), classes={1: "one"}
    )
    document = Document(page_of(run)[1])
    assert all("onerror" not in attributes for _, attributes in document.tags)
    assert name in document.texts


def test_missing_and_damaged_records_are_quiet_cards_counted_in_the_header(finished_run):
    run = finished_run()
    run.store.delete(run.keys[0])
    run.store.write(run.keys[1], b"{}")
    document = Document(page_of(run)[1])
    shown = " ".join("".join(document.texts).split())
    assert "3 of 5 images done" in shown
    assert "1 image is not there: not done yet, or failed. 1 record is damaged and not shown." in shown
    assert "not done" in document.texts
    assert "record damaged" in document.texts
    assert sum(tag == "img" for tag, _ in document.tags) == 3


def test_a_gallery_of_nothing_is_still_a_page(finished_run):
    run = finished_run()
    for key in run.keys:
        run.store.delete(key)
    assert "0 of 5 images done" in " ".join("".join(Document(page_of(run)[1]).texts).split())
    empty = run.plan.model_copy(update={"records": ()})
    Document(run.store.read(write_gallery(run.store, empty)).decode())


def test_filters_appear_only_where_there_is_a_choice(finished_run):
    def filters(run):
        return {a["data-filter"] for tag, a in Document(page_of(run)[1]).tags if tag == "fieldset"}

    assert filters(finished_run()) == set()
    assert filters(finished_run(recipes=("natural", "l2"))) == {"recipe"}
    assert filters(finished_run(models=(("a", "f"), ("b", "f")), recipes=("natural", "l2"))) == {"model", "recipe"}


def test_the_panel_table_has_a_row_for_each_model_and_recipe_and_marks_kin(finished_run):
    run = finished_run(recipes=("natural", "l2"), judges=(("lite0", "lite"), ("lite1", "lite"), ("vgg16", "vgg")))
    page = page_of(run)[1]
    table = page[page.index('<table class="panel">') :].partition("</table>")[0]
    assert table.count('<th scope="row">') == 2
    assert table.count(">itself<") == 2
    assert table.count(">same family<") == 2


def test_the_heading_says_where_all_held_out_judges_are_kin(finished_run):
    def heading(run):
        return " ".join("".join(Document(page_of(run)[1]).texts).split())

    one = {"classes": {3: "three"}}
    kin = heading(finished_run(judges=(("lite0", "lite"), ("lite1", "lite")), **one))
    assert "held-out judges, all of the same family, rank the class first in 100 %" in kin
    assert "held-out judges rank the class first in 50 %" in heading(finished_run(**one))


def test_badges_say_in_words_how_many_held_out_judges_see_the_class(finished_run):
    page = page_of(finished_run(classes={1: "one", 3: "three"}))[1]
    assert '</span> 2/2 <span class="words">judges see it' in page
    assert '</span> 1/2 <span class="words">judges see it' in page


def test_a_page_without_judges_says_so(finished_run):
    document = Document(page_of(finished_run(judges=()))[1])
    assert "no judges" in "".join(document.texts)
    assert not [a for _, a in document.tags if a.get("id") == "panel"]


def test_the_page_says_what_a_class_model_does_not_prove(finished_run):
    shown = " ".join("".join(Document(page_of(finished_run())[1]).texts).split())
    assert "not a training photo, not an average member of the class, not what the network needs to see" in shown
    assert "arXiv:1312.6034" in shown


def test_a_page_can_stand_alone_when_its_view_holds_data_urls(finished_run):
    run = finished_run(animation=None)
    view = run.view()
    for unit in view["units"]:
        unit["image"]["href"] = "data:image/png;base64,AAAA"
    assert 'src="data:image/png;base64,AAAA"' in render_page(view)


def test_a_thousand_classes_stay_within_reach_of_a_browser(finished_run):
    run = finished_run(classes={9: "ostrich"})
    view = run.view()
    view["units"] = [view["units"][0] | {"id": f"lite0/natural/{i}", "class": i} for i in range(1000)]
    view["classes"] = [{"id": str(i), "index": i, "label": f"class {i}"} for i in range(1000)]
    page = render_page(view)
    assert 'class="classes single many"' in page
    assert len(page) < 5_000_000


def test_a_job_name_cannot_lead_out_of_the_store(finished_run):
    run = finished_run()
    with pytest.raises(StoreError, match="leaves the folder"):
        write_gallery(run.store, run.plan.model_copy(update={"job": "../../elsewhere"}))

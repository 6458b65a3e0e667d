"""The contact sheet: bounded, complete, and never stopped by a picture or a name."""

import io
from dataclasses import replace

import pytest
from PIL import Image

from classmodels.gallery.sheet import PALE, TILES, WIDTH, contact_sheet
from classmodels.gallery.units import read_units
from classmodels.store.records import Record, dump


def sheet_of(run, units=None):
    data = contact_sheet(run.store, units or read_units(run.store, run.plan), run.plan.job)
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def test_twelve_classes_are_a_grid_on_white(finished_run):
    run = finished_run(classes={i: f"class number {i}" for i in range(12)})
    sheet = sheet_of(run)
    assert sheet.mode == "RGB"
    assert sheet.getpixel((0, 0)) == (255, 255, 255)
    assert 900 < sheet.width < 1100
    assert 700 < sheet.height < sheet.width


def test_each_picture_is_on_the_sheet(finished_run):
    run = finished_run(classes={1: "red"}, side=224)
    record = Record.model_validate_json(run.store.read(run.keys[0]))
    picture = Image.open(run.store.root / run.keys[0].rpartition("/")[0] / record.image.name).convert("RGB")
    assert list(sheet_of(run).crop((40, 40, 264, 264)).tobytes()) == list(picture.tobytes())


def test_few_classes_under_many_recipes_are_a_table_with_a_row_for_each_class(finished_run):
    few = sheet_of(finished_run(classes={1: "one", 2: "two"}, recipes=[f"recipe-{i}" for i in range(7)]))
    assert few.width > 2 * few.height
    many = sheet_of(finished_run(classes={i: str(i) for i in range(7)}, recipes=("natural", "l2")))
    assert many.width > 2 * many.height


def test_many_classes_under_two_models_are_a_block_for_each_model(finished_run):
    models = (("a", "f"), ("b", "g"))
    run = finished_run(classes={i: str(i) for i in range(13)}, models=models, judges=(), animation=None)
    one = finished_run(classes={i: str(i) for i in range(13)}, models=models[:1], judges=(), animation=None)
    assert sheet_of(run).width > sheet_of(one).width
    assert sheet_of(run).height > sheet_of(one).height


def test_a_thousand_classes_make_a_bounded_sheet(finished_run):
    run = finished_run(classes={1: "one"})
    (unit,) = read_units(run.store, run.plan)
    units = [replace(unit, class_index=i) for i in range(1000)]
    sheet = sheet_of(run, units)
    assert sheet.width <= WIDTH
    assert sheet.height <= 5000
    assert TILES < 1000


def test_a_thousand_models_make_a_bounded_sheet(finished_run):
    run = finished_run(classes={1: "one"})
    (unit,) = read_units(run.store, run.plan)
    units = [replace(unit, model12=f"{i:012x}") for i in range(1000)]
    sheet = sheet_of(run, units)
    assert sheet.width <= WIDTH
    assert sheet.height <= 8000


@pytest.mark.parametrize("damage", ["gone", "other bytes", "not a PNG", "another size", "missing record"])
def test_what_cannot_be_shown_is_a_pale_tile(finished_run, damage):
    run = finished_run(classes={1: "one"})
    record = Record.model_validate_json(run.store.read(run.keys[0]))
    name = run.keys[0].rpartition("/")[0] + "/" + record.image.name
    if damage == "gone":
        run.store.delete(name)
    elif damage == "other bytes":
        run.store.write(name, b"other")
    elif damage == "not a PNG":
        entry = run.put(run.keys[0].rpartition("/")[0] + "/", 1, "one", run.picture(0), "webp", 2)
        run.change(run.keys[0], record.image.sha256, entry.sha256)
        run.store.write(name, run.store.read(run.keys[0].rpartition("/")[0] + "/" + entry.name))
    elif damage == "another size":
        run.change(run.keys[0], r'"width": 32', '"width": 31')
    else:
        run.store.delete(run.keys[0])
    assert sheet_of(run).getpixel((152, 152)) == PALE


@pytest.mark.parametrize("label", ["鴕鳥", "🦩", "نعامة", "x" * 10_000, "long words " * 900, "", "\0\u202e", "\ud7ff"])
def test_no_label_stops_the_sheet(finished_run, label):
    assert sheet_of(finished_run(classes={1: label}, job=label or "job")).width < 1000


def test_a_label_beyond_the_font_is_replaced_by_its_index(finished_run):
    run = finished_run(classes={7: "鴕鳥"})
    plain = finished_run(classes={7: "class 7"})
    assert sheet_of(run).tobytes() == sheet_of(plain).tobytes()


def test_pictures_of_any_shape_keep_it(finished_run):
    run = finished_run(classes={1: "one"})
    record = Record.model_validate_json(run.store.read(run.keys[0]))
    folder = run.keys[0].rpartition("/")[0] + "/"
    entry = run.put(folder, 1, "wide", Image.new("L", (600, 200), 0), "png", 1)
    run.store.write(run.keys[0], dump(record.model_copy(update={"image": entry})))
    sheet = sheet_of(run)
    assert sheet.getpixel((152, 200)) == (0, 0, 0)
    assert sheet.getpixel((152, 100)) == (255, 255, 255)

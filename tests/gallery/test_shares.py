"""What a regularizer leaves in its images, counted in images whose shares are known."""

import numpy as np
import pytest
from PIL import Image

from classmodels.gallery import write_gallery
from classmodels.gallery.formula import filters, regularizer
from classmodels.gallery.shares import LEAST, SAMPLE, count, measure, x0_of
from classmodels.gallery.units import read_units
from classmodels.gallery.view import view_of
from classmodels.job.presets import PRESETS

GREY = np.array([127, 128, 127], np.uint8)
BLACK = np.zeros(3, np.uint8)


def grey(side=10):
    return np.full((side, side, 3), 90, np.uint8)


def test_a_value_at_an_edge_is_saturated_whatever_the_others_of_its_pixel_are():
    pixels = grey()
    pixels[0, :5, 0] = 255
    pixels[1, :5, 2] = 0
    assert count(Image.fromarray(pixels), GREY) == (10 / 300, 0)


def test_an_edge_that_is_x0_is_not_saturated():
    pixels = grey()
    pixels[:5] = 0
    pixels[5, 0] = 255
    assert count(Image.fromarray(pixels), BLACK) == (3 / 300, 50 / 100)


def test_a_pixel_is_at_x0_only_with_all_its_values():
    pixels = grey()
    pixels[:2] = GREY
    pixels[2, :, :2] = GREY[:2]
    assert count(Image.fromarray(pixels), GREY) == (0, 20 / 100)


def test_one_channel_is_counted_like_three():
    pixels = np.array([[[0], [255], [127], [127]]], np.uint8)
    assert count(Image.fromarray(pixels[..., 0]), [127]) == (0.5, 0.5)


class Painted:
    """Makes a finished run whose images are painted: every recipe's name says what share of its rows is white."""

    def __init__(self, finished_run, monkeypatch, shares, **how):
        paint = iter([share for share in shares for _ in how["classes"]])

        def picture(run, seed):
            pixels = grey(run.side)
            pixels[: round(run.side * next(paint))] = 255
            return Image.fromarray(pixels)

        monkeypatch.setattr(type(finished_run()), "picture", picture)
        self.run = finished_run(side=20, animation=None, judges=(), **how)
        self.units = read_units(self.run.store, self.run.plan)


def test_shares_are_means_over_the_images_of_each_recipe(finished_run, monkeypatch):
    painted = Painted(finished_run, monkeypatch, (0.5, 0.1), recipes=("plain", "l2"), classes={1: "a", 2: "b"})
    found = measure(painted.run.store, painted.units)
    assert {variant[2]: tuple(shares) for variant, shares in found.items()} == {
        "plain": (0.5, 0, 2),
        "l2": (pytest.approx(0.1), 0, 2),
    }


def test_an_image_that_is_gone_or_altered_is_not_counted(finished_run, monkeypatch):
    painted = Painted(finished_run, monkeypatch, (0.5,), classes={1: "a", 2: "b", 3: "c"})
    first, second, _ = (unit.folder + unit.record.image.name for unit in painted.units)
    painted.run.store.delete(first)
    painted.run.store.write(second, painted.run.store.read(second) + b" ")
    assert [shares.n for shares in measure(painted.run.store, painted.units).values()] == [1]


def test_of_many_images_an_even_sample_is_read(finished_run):
    run = finished_run(recipes=("a", "b"), classes={i: str(i) for i in range(300)}, side=2, animation=None, judges=())
    found = measure(run.store, read_units(run.store, run.plan))
    assert all(LEAST <= shares.n <= SAMPLE // 2 for shares in found.values())
    assert len(found) == 2


@pytest.mark.parametrize(
    "mean", ["null", "[]", '["x"]', "[NaN]", "[7]", "[0.5]", "[0.5, 0.5]", "[" + "[" * 9 + "]" * 10]
)
def test_a_record_without_a_usable_mean_is_not_counted(finished_run, mean):
    run = finished_run(classes={1: "a"}, judges=(), animation=None)
    run.change(run.keys[0], r'"mean": \[[^]]*\]', f'"mean": {mean}')
    assert measure(run.store, read_units(run.store, run.plan)) == {}


def test_x0_is_the_mean_image_or_black(finished_run):
    run = finished_run(
        classes={1: "a"}, recipes=("l2", "l1"), settings={"l1": {"regularizers": {"l1": 1, "towards": "black"}}}
    )
    mean, black = (unit.record for unit in read_units(run.store, run.plan))
    assert x0_of(mean) == (128,) * 3
    assert x0_of(black) == (0,) * 3


def test_the_page_says_what_each_regularizer_shows(finished_run, monkeypatch):
    settings = {"l2": {"regularizers": {"l2": 0.01}}, "l1": {"regularizers": {"l1": 0.005, "towards": "black"}}}
    painted = Painted(
        finished_run, monkeypatch, (0.5, 0.1, 0.25), recipes=("plain", "l2", "l1"), settings=settings, classes={1: "a"}
    )
    run = painted.run
    page = run.store.read(write_gallery(run.store, run.plan)).decode()
    table = page[page.index('class="panel shares"') :].partition("</table>")[0]
    plain, l2, l1 = table.split("<tr>")[2:]
    assert "<strong>50 %</strong>" in plain
    assert ">most</span>" in plain
    assert "<strong>10 %</strong>" in l2
    assert ">fewest</span>" in l2
    assert "S_c(x) − (0.01·Σ(x−x0)²)" in l2
    assert "<strong>25 %</strong>" in l1
    assert "x0 is black" in l1


def test_formulas_say_what_the_presets_do():
    said = {name: regularizer(PRESETS[name]) for name in ("plain", "l2", "l1", "tv")}
    assert said == {"plain": "", "l2": "0.01·Σ(x−x0)²", "l1": "0.005·Σ|x−x0|", "tv": "0.004·TV(x)"}
    assert filters(PRESETS["yosinski"]) == [
        "blur of 0.7 px after every 4 steps",
        "the 40 % of pixels of smallest norm set to x0 after every step",
    ]


@pytest.mark.parametrize("settings", [{}, {"regularizers": 3}, {"regularizers": {"l2": "x", "blur": [], "l1": -1}}])
def test_settings_that_are_no_recipe_have_no_formula(settings):
    assert regularizer(settings) == ""
    assert filters(settings) == []


def test_a_recipe_that_clips_pixels_to_x0_is_not_called_the_one_with_most(finished_run, monkeypatch):
    x0 = iter((0.5, 0.2, 0.1))

    def picture(run, seed):
        pixels = grey(run.side)
        pixels[: round(run.side * next(x0))] = 128
        return Image.fromarray(pixels)

    monkeypatch.setattr(type(finished_run()), "picture", picture)
    settings = {"clipped": {"regularizers": {"small_norm": {"percentile": 50}}}, "l1": {"regularizers": {"l1": 1}}}
    run = finished_run(
        recipes=("clipped", "l1", "l2"), settings=settings, side=20, classes={1: "a"}, judges=(), animation=None
    )
    units = read_units(run.store, run.plan)
    rows = view_of(units, run.plan, measure(run.store, units))["regularizers"]
    assert [row["at_x0"] for row in rows] == [0.5, 0.2, 0.1]
    assert ["most at x0" in row["marks"] for row in rows] == [False, True, False]

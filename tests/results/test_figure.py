"""`figure` and `cite`: what a paper shows of its class models, and what it says of them."""

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from places import first, flip

from altered import said_again
from classmodels.errors import InputError
from classmodels.results.chosen import chosen
from classmodels.results.cite import cite
from classmodels.results.figure import DPI, WIDTH, figure
from classmodels.results.place import Place

Command = Callable[..., Any]


def shown(file: Path) -> NDArray[np.uint8]:
    with Image.open(file) as image:
        assert image.info["dpi"] == pytest.approx((DPI, DPI), abs=0.1)
        return np.asarray(image.convert("RGB"))


def tiles(sheet: NDArray[np.uint8]) -> list[tuple[int, int]]:
    """How many blocks of non-white there are across and down, by rows and columns that are white throughout."""
    ink = (sheet < 250).any(axis=2)

    def runs(line: NDArray[np.bool_], least: int) -> int:
        edges = np.flatnonzero(np.diff(np.concatenate([[0], line.astype(int), [0]])))
        return int(((edges[1::2] - edges[::2]) >= least).sum())

    return [(runs(ink.mean(axis=0) > 0.3, 100), runs(ink.mean(axis=1) > 0.3, 100))]


def test_one_recipe_is_a_grid_and_several_are_a_table(in_folder: Place, tmp_path: Path) -> None:
    figure(in_folder, str(tmp_path / "grid.png"), recipes=["quick"])
    figure(in_folder, str(tmp_path / "table.png"))
    assert tiles(shown(tmp_path / "grid.png")) == [(3, 1)]
    assert tiles(shown(tmp_path / "table.png")) == [(2, 3)]
    assert shown(tmp_path / "table.png").shape[1] <= WIDTH


def test_classes_stand_in_the_order_in_which_they_are_chosen(in_folder: Place, tmp_path: Path) -> None:
    figure(in_folder, str(tmp_path / "a.png"), recipes=["quick"], classes=["crow", "ant"])
    figure(in_folder, str(tmp_path / "b.png"), recipes=["quick"], classes=["ant"])
    both, ant = shown(tmp_path / "a.png"), shown(tmp_path / "b.png")
    side = ant.shape[1]
    assert np.array_equal(both[:side, -side:], ant[:side])


@pytest.mark.parametrize(
    ("wanted", "indices"),
    [(["crow", "0"], [2, 0]), (["0-1"], [0, 1]), (["BEE"], [1]), (["1", "bee"], [1]), ([], [0, 1, 2])],
)
def test_classes_go_by_index_range_and_name(in_folder: Place, wanted: list[str], indices: list[int]) -> None:
    _, units = chosen(in_folder, wanted, ["calm"])
    assert [unit.class_index for unit in units] == indices


@pytest.mark.parametrize("kind", ["png", "pdf"])
def test_the_same_figure_has_the_same_bytes(in_folder: Place, tmp_path: Path, kind: str) -> None:
    files = [tmp_path / f"{n}.{kind}" for n in range(2)]
    for file in files:
        figure(in_folder, str(file))
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_pdf_is_a_page_of_the_size_that_is_told(source: str, tmp_path: Path, run_command: Command) -> None:
    said = json.loads(run_command("figure", source, "--output", tmp_path / "f", "--format", "pdf", "--json").out)
    data = (tmp_path / "f").read_bytes()
    assert data.startswith(b"%PDF-")
    box = re.search(rb"/MediaBox \[ ?0 0 ([0-9.]+) ([0-9.]+)", data)
    assert box is not None
    assert [float(side) for side in box.groups()] == pytest.approx([said["width"] * 0.24, said["height"] * 0.24])
    jpeg = data[data.index(b"\xff\xd8") :]
    with Image.open(io.BytesIO(jpeg)) as image:
        assert image.size == (said["width"], said["height"])


def test_an_altered_image_leaves_its_place_empty(in_folder: Place, tmp_path: Path) -> None:
    flip(in_folder.store, first(in_folder.store, ".png"))
    done = figure(in_folder, str(tmp_path / "a.png"))
    assert (done.images, done.missing) == (5, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output", "x.jpg"], "expected a name that ends with .png or .pdf, or --format"),
        (["--output", "x.png", "--classes", "dragon"], "found no class 'dragon'"),
        (["--output", "x.png", "--recipes", "quick,l3"], "found no recipe 'l3'"),
        (["--output", "x.png", "--models", "m"], "found no model 'm'"),
    ],
)
def test_what_cannot_be_drawn_is_told_and_nothing_is_written(
    finished: Path, tmp_path: Path, run_command: Command, monkeypatch: Any, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    said = run_command("figure", finished, *arguments)
    assert said.code == 2
    assert message in said.err
    assert list(tmp_path.iterdir()) == []


def test_too_many_images_for_a_page_are_refused(in_folder: Place, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("classmodels.results.figure.MOST", 5)
    with pytest.raises(InputError, match="found 6 images, expected at most 5"):
        figure(in_folder, str(tmp_path / "x.png"))
    monkeypatch.undo()
    monkeypatch.setattr("classmodels.results.figure.LEAST", 4000)
    with pytest.raises(InputError, match="found more images than a page holds"):
        figure(in_folder, str(tmp_path / "x.png"))


def test_cite_says_network_recipes_and_version_from_the_records(source: str, run_command: Command) -> None:
    said = json.loads(run_command("cite", source, "--json").out)
    assert "Class models (Simonyan et al., 2013, section 2) of 3 classes of tiny" in said["methods"]
    assert "Recipe quick maximises S_c(x): 3 steps of sgd; learning rate 15, constant; seed 0." in said["methods"]
    assert "Recipe calm maximises S_c(x) - (0.01·Σ(x−x0)²), x0 being the mean image" in said["methods"]
    assert "@article{simonyan2013deep," in said["bibtex"]
    assert said["again"] == "classmodels run tiny.yaml --output ./again"
    plain = run_command("cite", source).out
    assert all(part in plain for part in (said["methods"], said["bibtex"], said["again"]))


def test_cite_says_where_the_balance_is_not_exact(in_folder: Place) -> None:
    for key in list(in_folder.store.list("units/")):
        if key.endswith(".json"):
            record = json.loads(in_folder.store.read(key) or b"")
            record["recipe"]["settings"]["optimizer"]["normalize"] = "rms"
            in_folder.store.write(key, said_again(record))
    quick, calm = cite(in_folder).methods.split("\n")[1:3]
    assert "the penalty weighs against the direction of the step" in calm
    assert "the penalty" not in quick


def test_the_braces_of_bibtex_close_whatever_a_record_says(in_folder: Place) -> None:
    for key in list(in_folder.store.list("units/")):
        if key.endswith(".json"):
            record = json.loads(in_folder.store.read(key) or b"")
            record["package"]["classmodels"] = "1}\\input{x"
            in_folder.store.write(key, said_again(record))
    bibtex = cite(in_folder).bibtex
    assert bibtex.count("{") == bibtex.count("}")
    assert "\\" not in bibtex


def test_a_gallery_without_images_has_nothing_to_cite(in_folder: Place) -> None:
    for key in list(in_folder.store.list("units/")):
        in_folder.store.delete(key)
    with pytest.raises(InputError, match="found no image that is done"):
        cite(in_folder)

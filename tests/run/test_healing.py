"""What a run does about damage, strange networks and mended labels."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Ended = Any


def run(run_command: Callable[..., Ended], job: Path) -> Ended:
    return run_command("run", job, "--json")


def only(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


NETWORK = '''
from nets import linear
import torch
from torch import nn

class Shy(nn.Module):
    """Fails as soon as it meets more than two images."""
    def __init__(self):
        super().__init__()
        self.inner = linear()
    def forward(self, x):
        assert len(x) <= 2, "two at most"
        return self.inner(x)

class Remembering(nn.Module):
    """Has state that is no tensor."""
    def __init__(self):
        super().__init__()
        self.inner = linear()
    def get_extra_state(self):
        return {"calls": 3}
    def set_extra_state(self, state):
        pass
    def forward(self, x):
        return self.inner(x)
'''


@pytest.fixture
def two_models(tmp_path: Path, tiny_data: Callable[[], dict[str, Any]], write_job: Callable[..., Path]):
    def make(factory: str, **changes: Any) -> Path:
        good = tiny_data()["models"][0]
        odd = {"name": "odd", "source": {"factory": f"odd:{factory}"}, "input": good["input"], "labels": good["labels"]}
        job = write_job(tmp_path, models=[odd | changes, good], panel="none")
        (tmp_path / "src" / "odd.py").write_text(NETWORK)
        return job

    return make


def test_a_network_that_breaks_under_way_fails_its_units_and_no_others(two_models, run_command) -> None:
    ended = run(run_command, two_models("Shy"))
    report = json.loads(ended.out)
    assert (ended.code, report["done"]) == (3, 2)
    assert {failure["what"] for failure in report["failed"]} == {"odd/quick/0 (ant)", "odd/quick/2 (crow)"}
    assert all("AssertionError: two at most" in failure["reason"] for failure in report["failed"])


def test_state_that_is_no_tensor_does_no_harm(two_models, run_command) -> None:
    ended = run(run_command, two_models("Remembering"))
    assert (ended.code, json.loads(ended.out)["done"]) == (0, 4)


def test_a_judge_that_breaks_leaves_images_and_the_page(
    tmp_path: Path, write_job: Callable[..., Path], tiny_data: Callable[[], dict[str, Any]], run_command
) -> None:
    good = tiny_data()["models"][0]
    judge = {"name": "shy", "role": "judge", "source": {"factory": "odd:Shy"}, "input": good["input"]}
    job = write_job(tmp_path, models=[good, judge], panel="all")
    (tmp_path / "src" / "odd.py").write_text(NETWORK)
    ended = run(run_command, job)
    report = json.loads(ended.out)
    assert (ended.code, report["done"], report["verdicts"]) == (3, 2, 2)
    assert report["failed"][0]["what"] == "judge shy"
    assert Path(report["page"]).exists()


def test_an_image_that_is_not_the_one_recorded_is_not_judged(
    tmp_path: Path, write_job: Callable[..., Path], run_command
) -> None:
    job = write_job(tmp_path)
    assert run(run_command, job).code == 0
    ant, crow = only(tmp_path, "out/units/*/*/0000-*.png"), only(tmp_path, "out/units/*/*/0002-*.png")
    ant.write_bytes(crow.read_bytes())
    ended = run(run_command, write_job(tmp_path, panel="all"))
    report = json.loads(ended.out)
    assert (ended.code, report["verdicts"]) == (3, 1)
    assert report["failed"][0]["what"].endswith("0 (ant)")
    assert "not the one its record names" in report["failed"][0]["reason"]


def test_a_damaged_record_that_the_page_shows_is_made_anew(tmp_path: Path, tiny_job: Path, run_command) -> None:
    assert run(run_command, tiny_job).code == 0
    record = only(tmp_path, "out/units/*/*/0000.json")
    before = json.loads(record.read_text())
    record.write_text("{}")
    assert run_command("gallery", tmp_path / "out").code == 0
    ended = run(run_command, tiny_job)
    assert (ended.code, json.loads(ended.out)["done"]) == (0, 1)
    assert json.loads(record.read_text())["image"] == before["image"]


def test_mending_a_judges_labels_gives_its_verdicts_anew(
    tmp_path: Path, write_job: Callable[..., Path], tiny_data: Callable[[], dict[str, Any]], run_command
) -> None:
    good = tiny_data()["models"][0]
    judge = good | {"name": "judge", "role": "judge", "labels": "./judge.txt", "source": {"factory": "nets:conv"}}
    del judge["checkpoint"]
    job = write_job(tmp_path, models=[good, judge], panel=["judge"])
    (tmp_path / "judge.txt").write_text("ameise\nbee\nkraehe\ndog\neel\n")
    assert json.loads(run(run_command, job).out)["verdicts"] == 2

    def known() -> list[Any]:
        index = json.loads(next(tmp_path.glob("out/galleries/tiny/*/index.html")).with_name("gallery.json").read_text())
        return [verdict["rank"] for unit in index["units"] for verdict in unit["verdicts"]]

    (tmp_path / "judge.txt").write_text("ant\nbee\ncrow\ndog\neel\n")
    report = json.loads(run(run_command, job).out)
    assert (report["done"], report["verdicts"]) == (0, 2)
    verdicts = [json.loads(path.read_text()) for path in tmp_path.glob("out/verdicts/judge@*/*/*/*.json")]
    assert sorted(v["class_index"] for v in verdicts if v["class_index"] is not None) == [0, 2]


def test_a_judge_of_five_channels_is_no_member_of_the_panel(
    tmp_path: Path, write_job: Callable[..., Path], tiny_data: Callable[[], dict[str, Any]], run_command
) -> None:
    good = tiny_data()["models"][0]
    judge = {
        "name": "five",
        "role": "judge",
        "source": {"factory": "nets:conv", "kwargs": {"channels": 5}},
        "input": {"size": 8, "mean": [0.5] * 5, "std": [0.5] * 5},
    }
    named = run_command("validate", write_job(tmp_path, models=[good, judge], panel=["five"]))
    assert named.code == 2
    assert "takes 5 channels" in named.err
    assert run_command("validate", write_job(tmp_path, models=[good, judge], panel="all")).code == 0


def test_names_and_labels_are_no_part_of_a_png(
    tmp_path: Path, write_job: Callable[..., Path], tiny_data: Callable[[], dict[str, Any]], run_command
) -> None:
    def image(folder: Path, name: str, label: str) -> bytes:
        job = write_job(folder, models=[tiny_data()["models"][0] | {"name": name}], classes=[0])
        (folder / "labels.txt").write_text(f"{label}\nbee\ncrow\ndog\neel\n")
        assert run(run_command, job).code == 0
        return only(folder, "out/units/*/*/0000-*.png").read_bytes()

    assert image(tmp_path / "a", "tiny", "ant") == image(tmp_path / "b", "renamed", "emmet")


def test_nothing_to_do_reads_no_record_and_no_image(tmp_path: Path, write_job, run_command, monkeypatch) -> None:
    from classmodels.store.folder import FolderStore

    job = write_job(tmp_path, panel="all", classes="all")
    assert run(run_command, job).code == 0
    read, seen = FolderStore.read, []
    monkeypatch.setattr(FolderStore, "read", lambda store, key: (seen.append(key), read(store, key))[1])
    assert json.loads(run(run_command, job).out)["already"] == 5
    assert not [key for key in seen if key.startswith(("units/", "verdicts/"))]


@pytest.mark.parametrize("what", ["units", "verdicts"])
def test_what_a_killed_process_left_unshown_is_shown_by_the_next_run(
    tmp_path: Path, write_job, run_command, what: str
) -> None:
    job = write_job(tmp_path, panel="all")
    assert run(run_command, job).code == 0
    page = only(tmp_path, "out/galleries/tiny/*/gallery.json")
    whole = page.read_bytes()
    removed = only(tmp_path, f"out/{what}/tiny@*/**/0002*.json")
    data = removed.read_bytes()
    removed.unlink()
    assert run_command("gallery", tmp_path / "out").code == 0
    assert page.read_bytes() != whole
    removed.write_bytes(data)  # as it is after a kill between this and the page
    ended = json.loads(run(run_command, job).out)
    assert (ended["done"], ended["verdicts"]) == (0, 0)
    assert page.read_bytes() == whole


def test_half_precision_carries_small_gradients() -> None:
    import torch

    from classmodels.ascent.loop import Ascent, Numerics
    from classmodels.ascent.recipe import Recipe
    from classmodels.ascent.space import Space

    # Each factor is a half-precision number; the product, which the gradient is, is none.
    weights = torch.full((2, 3 * 4 * 4), 1e-4)
    tail = torch.full((2, 2), 1e-4)
    space = Space.of((0.5,) * 3, (0.25,) * 3, (4, 4))
    recipe = Recipe.model_validate({"steps": 1, "clamp": False, "optimizer": {"lr": 1.0, "normalize": "rms"}})
    moved = []
    for dtype in (None, torch.float16):
        ascent = Ascent(
            lambda x: torch.nn.functional.linear(torch.nn.functional.linear(x.flatten(1), weights), tail),
            torch.tensor([0]),
            torch.zeros(1, 3, 4, 4),
            None,
            recipe,
            space,
            "softmax",
            Numerics(dtype),
        )
        ascent.step()
        moved.append(ascent.x.numpy())
    np.testing.assert_allclose(moved[0], 1.0, rtol=1e-5)
    np.testing.assert_allclose(moved[1], 1.0, rtol=1e-2)


def test_results_inside_the_code_folder_are_no_code(tmp_path: Path, write_job, run_command) -> None:
    job = write_job(tmp_path, code="./src", output=str(tmp_path / "src" / "galleries"))
    first = json.loads(run(run_command, job).out)
    again = json.loads(run(run_command, job).out)
    assert (first["done"], again["already"], first["run"] == again["run"]) == (2, 2, True)


def test_a_recipe_named_after_a_preset_changes_that_preset() -> None:
    from classmodels.job.recipes import recipe_of

    assert recipe_of({"name": "l2", "steps": 4}) == recipe_of({"extends": "l2", "steps": 4})
    assert recipe_of({"name": "mine", "steps": 4}).recipe == recipe_of({"extends": "plain", "steps": 4}).recipe

"""Identity: what must change a digest does, and nothing else does."""

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from classmodels.ascent.recipe import Optimizer, Recipe
from classmodels.job import identity
from classmodels.job.check import load_job
from classmodels.job.identity import digest12, recipe_identity, unit_identity
from classmodels.job.plan import expand_plan
from classmodels.job.presets import PRESETS
from classmodels.job.recipes import expand, recipe_of

Digests = tuple[str, str]  # model12, recipe12


@pytest.fixture
def digests(
    tmp_path: Path, write_job: Callable[..., Path], tiny_data: Callable[[], dict[str, Any]]
) -> Callable[..., Digests]:
    """`digests(model={...}, recipe={...}, **job)`: the digests of the smallest job with these changes."""

    def of(
        folder: Path = tmp_path, model: dict[str, Any] | None = None, recipe: dict[str, Any] | None = None, **job: Any
    ) -> Digests:
        data = tiny_data()
        before = {path: path.read_bytes() for path in [*folder.glob("src/*.py"), *folder.glob("*.safetensors")]}
        entries = {"models": [data["models"][0] | (model or {})], "recipes": [data["recipes"][0] | (recipe or {})]}
        file = write_job(folder, **entries | job)
        for path, content in before.items():  # what a test has changed stays changed
            path.write_bytes(content)
        unit = expand_plan(load_job(file)).units[0]
        return unit.task.model.model12, unit.task.recipe12

    return of


# model12


@pytest.mark.parametrize(
    "change",
    [
        {"select": "ema"},
        {"source": {"factory": "nets:conv"}},
        {"source": {"factory": "nets:linear", "args": [5]}},
        {"source": {"factory": "nets:linear", "kwargs": {"classes": 5}}},
        {"input": {"size": 9, "mean": [0.5] * 3, "std": [0.25] * 3}},
        {"input": {"size": [8, 9], "mean": [0.5] * 3, "std": [0.25] * 3}},
        {"input": {"size": 8, "mean": [0.5, 0.5, 0.4], "std": [0.25] * 3}},
        {"input": {"size": 8, "mean": [0.5] * 3, "std": [0.25, 0.25, 0.2]}},
        {"head": "sigmoid"},
        {"output": "logits"},
        {"output": 0},
        {"checkpoint": None},  # the factory's own weights are others
    ],
    ids=str,
)
def test_what_decides_the_networks_scores_changes_model12(
    digests: Callable[..., Digests], change: dict[str, Any]
) -> None:
    model12, recipe12 = digests()
    changed, same = digests(model=change)
    assert changed != model12
    assert same == recipe12


def test_one_byte_of_the_checkpoint_changes_model12(digests: Callable[..., Digests], tmp_path: Path) -> None:
    before = digests()
    checkpoint = tmp_path / "tiny.safetensors"
    content = bytearray(checkpoint.read_bytes())
    content[-1] ^= 1
    checkpoint.write_bytes(content)
    assert digests()[0] != before[0]


@pytest.mark.parametrize("file", ["nets.py", "another.py", "deep/inside.py", "table.json"])
def test_any_file_of_the_code_folder_changes_model12(
    digests: Callable[..., Digests], tmp_path: Path, file: str
) -> None:
    before = digests()
    path = tmp_path / "src" / file
    path.parent.mkdir(exist_ok=True)
    path.write_text((path.read_text() if path.exists() else "") + "\n# changed\n")
    assert digests()[0] != before[0]


def test_what_importing_leaves_behind_does_not_change_model12(digests: Callable[..., Digests], tmp_path: Path) -> None:
    before = digests()
    (tmp_path / "src" / "__pycache__").mkdir(exist_ok=True)
    (tmp_path / "src" / "__pycache__" / "nets.cpython-311.pyc").write_bytes(b"x")
    (tmp_path / "src" / ".git").mkdir()
    (tmp_path / "src" / ".git" / "HEAD").write_text("x")
    assert digests() == before


@pytest.mark.parametrize(
    "change",
    [
        {"name": "another"},
        {"family": "linear"},
        {"licence": "MIT"},
        {"labels": None},
        {"labels": "./other.txt"},
        {"input": {"size": [8, 8], "mean": [0.5] * 3, "std": [0.25] * 3}},
        {"input": {"std": [0.25] * 3, "mean": [0.50, 5e-1, 0.5], "size": 8}},
        {"head": "softmax", "output": "auto", "select": None, "role": "ascend"},
        {"source": {"factory": "nets:linear", "args": [], "kwargs": {}}},
    ],
    ids=str,
)
def test_names_labels_and_other_spellings_do_not_change_model12(
    digests: Callable[..., Digests], tmp_path: Path, change: dict[str, Any]
) -> None:
    before = digests(classes=[0])
    (tmp_path / "other.txt").write_text("v\nw\nx\ny\nz\n")
    assert digests(model=change, classes=[0]) == before


def test_whole_numbers_and_decimals_of_one_value_are_one_input(digests: Callable[..., Digests]) -> None:
    whole = digests(model={"input": {"size": 8, "mean": [0, 0, 0], "std": [1, 1, 1]}})
    assert digests(model={"input": {"size": 8, "mean": [0.0] * 3, "std": [1.0] * 3}}) == whole


def test_judging_does_not_need_another_identity_than_ascending(
    digests: Callable[..., Digests], tmp_path: Path, write_job: Callable[..., Path], tiny_data: Callable[[], Any]
) -> None:
    model = tiny_data()["models"][0]
    job = write_job(tmp_path, models=[model, model | {"name": "judge", "role": "judge"}], panel="all")
    assert len({resolved.model12 for resolved in load_job(job).models}) == 1


def test_neither_the_place_nor_the_name_of_the_files_changes_anything(
    digests: Callable[..., Digests], tmp_path: Path
) -> None:
    before = digests()
    (tmp_path / "elsewhere").mkdir()
    assert digests(folder=tmp_path / "elsewhere") == before
    os.utime(tmp_path / "tiny.safetensors", (0, 0))
    os.utime(tmp_path / "src" / "nets.py", (0, 0))
    assert digests() == before
    (tmp_path / "renamed.safetensors").write_bytes((tmp_path / "tiny.safetensors").read_bytes())
    assert digests(model={"checkpoint": "./renamed.safetensors"}) == before
    assert digests(model={"checkpoint": str(tmp_path / "tiny.safetensors")}) == before
    (tmp_path / "src").rename(tmp_path / "code")
    assert digests(code="./code") == before


def test_the_same_weights_in_another_file_are_another_checkpoint(
    digests: Callable[..., Digests], tmp_path: Path, tiny_nets: dict[str, Any]
) -> None:
    before = digests()
    weights = tiny_nets["linear"](seed=2).state_dict()
    save_file(weights, tmp_path / "noted.safetensors", metadata={"epoch": "3"})
    assert digests(model={"checkpoint": "./noted.safetensors"})[0] != before[0]


# recipe12

RECIPE_CHANGES: list[dict[str, Any]] = [
    {"objective": "log_prob"},
    {"steps": 4},
    {"init": {"kind": "zeros"}},
    {"init": {"scale": 0.02}},
    {"precision": "bf16"},
    {"precision": "fp16"},
    {"precision": "auto"},
    {"transforms": {"jitter": 1}},
    {"transforms": {"rotate": 1}},
    {"transforms": {"scale": [0.9, 1]}},
    {"transforms": {"scale": [1, 1.1]}},
    {"transforms": {"shift": 0.1}},
    {"transforms": {"flip": True}},
    {"preconditioner": {"spectral": 0.5}},
    {"preconditioner": {"spectral": [0.5, 0.4]}},
    {"preconditioner": {"floor": 2}},
    {"preconditioner": {"color": True}},
    {"preconditioner": {"focus": 0.5}},
    {"optimizer": {"kind": "adam"}},
    {"optimizer": {"lr": 0.06}},
    {"optimizer": {"momentum": 0.8}},
    {"optimizer": {"betas": [0.8, 0.999]}},
    {"optimizer": {"betas": [0.9, 0.99]}},
    {"optimizer": {"normalize": "l2"}},
    {"optimizer": {"schedule": "cosine"}},
    {"regularizers": {"l2": 0.1}},
    {"regularizers": {"l1": 0.1}},
    {"regularizers": {"tv": 0.1}},
    {"regularizers": {"towards": "black"}},
    {"regularizers": {"blur": {"sigma": 1}}},
    {"regularizers": {"blur": {"every": 2}}},
    {"regularizers": {"small_norm": {"percentile": 5}}},
    {"regularizers": {"small_norm": {"every": 2}}},
    {"regularizers": {"small_contribution": {"percentile": 5}}},
    {"regularizers": {"small_contribution": {"every": 2}}},
    {"clamp": False},
]


def recipe12(recipe: dict[str, Any], seed: int = 0) -> str:
    return digest12(recipe_identity(recipe_of({"name": "r", "precision": "fp32"} | recipe).recipe, seed))


@pytest.mark.parametrize("change", RECIPE_CHANGES, ids=str)
def test_every_field_of_a_recipe_changes_recipe12(change: dict[str, Any]) -> None:
    assert recipe12(change) != recipe12({})


def test_no_field_of_a_recipe_is_forgotten_above() -> None:
    def leaves(value: dict[str, Any], at: str = "") -> set[str]:
        found: set[str] = set()
        for key, inner in value.items():
            found |= leaves(inner, f"{at}{key}.") if isinstance(inner, dict) else {f"{at}{key}"}
        return found

    whole = recipe_of("plain").recipe.model_dump(mode="json")
    assert set().union(*map(leaves, RECIPE_CHANGES)) == leaves(whole)


def test_all_these_recipes_differ_from_each_other() -> None:
    assert len({recipe12(change) for change in RECIPE_CHANGES}) == len(RECIPE_CHANGES)


def test_the_seed_changes_recipe12_and_not_model12(digests: Callable[..., Digests]) -> None:
    (model12, first), (same, second) = digests(seed=0), digests(seed=1)
    assert model12 == same
    assert first != second


def test_the_algorithms_version_changes_recipe12(monkeypatch: pytest.MonkeyPatch) -> None:
    before = recipe12({})
    monkeypatch.setattr(identity, "ALGORITHM", identity.ALGORITHM + 1)
    assert recipe12({}) != before


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"preconditioner": {"spectral": 0.5}}, {"preconditioner": {"spectral": [0.5, 0.5]}}),
        ({"preconditioner": {"floor": 1}}, {"preconditioner": {"floor": 1.0}}),
        ({"regularizers": {"l2": 1, "l1": 0}}, {"regularizers": {"l1": 0.0, "l2": 1.0}}),
        ({"transforms": {"rotate": 15, "scale": [1, 2]}}, {"transforms": {"scale": [1.0, 2.0], "rotate": 15.0}}),
        ({"transforms": {}}, {"transforms": {"jitter": 0, "flip": False}}),
        ({"regularizers": {"blur": {"sigma": 0, "every": 1}}}, {}),
        ({"preconditioner": {"focus": None}}, {}),
        ({"name": "another"}, {}),
        ({"extends": "plain"}, {}),
    ],
    ids=str,
)
def test_equal_recipes_are_equal_however_they_are_written(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert recipe12(one) == recipe12(other)


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_a_preset_is_the_same_as_it_written_out_in_full(preset: str) -> None:
    whole = recipe_of(preset).recipe.model_dump(mode="json")
    precision = {"precision": "auto"}
    assert recipe12({"name": "in-full"} | whole) == recipe12({"extends": preset} | precision)
    assert recipe12(expand({"extends": preset}, {}) | precision) == recipe12({"extends": preset} | precision)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "another-job"},
        {"classes": [0, 1, 2]},
        {"classes": "all"},
        {"panel": "all"},
        {"animation": {"frames": 2, "format": "gif"}},
        {"animation": ...},
        {"output": "./elsewhere"},
        {"storage": {"region": "eu-west-1"}},
        {"limits": {"units": 100}},
        {"cluster": {"shards": 3, "image": "x:1"}},
    ],
    ids=str,
)
def test_what_only_says_where_and_how_much_changes_no_digest(
    digests: Callable[..., Digests], change: dict[str, Any]
) -> None:
    assert digests(**change) == digests()


def test_neighbours_and_the_order_of_keys_change_no_digest(
    digests: Callable[..., Digests], tmp_path: Path, tiny_data: Callable[[], dict[str, Any]]
) -> None:
    before = digests()
    quick = tiny_data()["recipes"][0]
    assert digests(recipes=[quick, "l2"]) == before
    turned = dict(reversed(tiny_data()["models"][0].items()))
    assert digests(models=[turned], recipes=[dict(reversed(quick.items()))]) == before


# Digests and units


def test_a_digest_is_twelve_hex_digits_of_canonical_json() -> None:
    # Independently: printf '{"a":[1,2.5],"b":null}' | sha256sum
    assert digest12({"b": None, "a": [1, 2.5]}) == "f66b2c50ccae"
    assert re.fullmatch(r"[0-9a-f]{12}", digest12("x"))


def test_not_a_number_has_no_digest() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest12(float("nan"))


def test_a_unit_is_its_model_its_recipe_and_its_class() -> None:
    identities = {unit_identity(m, r, c) for m in ("aa", "ab") for r in ("ra", "rb") for c in (1, 11)}
    assert len(identities) == 8


def test_digests_stay_what_they_were() -> None:
    # Stored results are found by these: when this fails, everything already made would be made again.
    recipe = Recipe(steps=7, optimizer=Optimizer(lr=0.5))
    text = '{"algorithm":1,"precision":"auto","recipe":{"optimizer":{"lr":0.5},"steps":7},"seed":3}'
    assert digest12(recipe_identity(recipe, 3)) == hashlib.sha256(text.encode()).hexdigest()[:12]

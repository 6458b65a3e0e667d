"""A job file is checked as a whole: every problem at once, each at its place, with what was expected."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from classmodels.ascent.recipe import Recipe
from classmodels.errors import InputError
from classmodels.job.check import CheckedJob, load_job
from classmodels.job.document import JobFileError
from classmodels.job.presets import PRESETS
from classmodels.job.schema import Job

EVERY_FIELD = """\
apiVersion: classmodels/v1
name: every-field
seed: 7
code: ./src
models:
  - name: first
    source: {factory: "nets:linear", args: [5], kwargs: {channels: 3, size: 8}}
    checkpoint: ./tiny.safetensors
    select: null
    input: {size: [8, 8], mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]}
    output: auto
    head: softmax
    labels: ./labels.txt
    role: ascend
    family: linear
    licence: Apache-2.0
  - name: second
    source: {factory: "nets:conv"}
    input: {size: 8, mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]}
    output: 0
    head: sigmoid
    role: judge
classes: [ant, 2, 3-4]
recipes:
  - natural
  - {name: strong-l2, extends: l2, steps: 300, regularizers: {l2: 0.02}}
  - name: whole
    objective: log_prob
    steps: 3
    init: {kind: zeros, scale: 0.01}
    precision: fp32
    transforms: {jitter: 1, rotate: 5, scale: [0.9, 1.1], shift: 0.1, flip: true}
    preconditioner: {spectral: [1.0, 0.5], floor: 1, color: true, focus: 0.5}
    optimizer: {kind: adam, lr: 0.1, momentum: 0.0, betas: [0.9, 0.999], normalize: rms, schedule: cosine}
    regularizers:
      l2: 0.1
      l1: 0.1
      tv: 0.1
      towards: black
      blur: {sigma: 0.5, every: 4}
      small_norm: {percentile: 5, every: 2}
      small_contribution: {percentile: 5, every: 2}
    clamp: false
animation: {frames: 4, format: apng}
panel: [first, {model: second, map: {ant: 0}}]
output: s3://bucket/prefix
storage: {endpoint_url: "http://localhost:9000", region: eu-west-1, path_style: true, checksum: when_required}
limits: {units: 20}
cluster:
  image: registry.example/classmodels:1
  namespace: vision
  shards: 2
  parallelism: 2
  gpu: {resource: nvidia.com/gpu, count: 1}
  resources: {requests: {cpu: 2, memory: 4Gi}, limits: {memory: 8Gi}}
  queue: gpu-queue
  priority_class: low
  service_account: runner
  s3_secret: bucket-keys
  ttl: 3600
  node_selector: {zone: a}
  tolerations: [{key: gpu, operator: Exists}]
  volumes: [{name: cache, emptyDir: {}}]
  pod_template: {spec: {runtimeClassName: nvidia}}
"""


class Checker:
    """Writes a job into a folder and checks it; problems come back as lines without the folder's name."""

    def __init__(self, folder: Path, write_job: Callable[..., Path], data: dict[str, Any]) -> None:
        self.folder, self.write_job, self.data = folder, write_job, data

    def accepts(self, *overrides: str, **changes: Any) -> CheckedJob:
        return load_job(self.write_job(self.folder, **changes), overrides)

    def accepts_text(self, text: str) -> CheckedJob:
        job = self.write_job(self.folder)
        job.write_text(text)
        return load_job(job)

    def refuses(self, *overrides: str, **changes: Any) -> list[str]:
        return self._lines(self.write_job(self.folder, **changes), overrides)

    def refuses_text(self, text: str) -> list[str]:
        job = self.write_job(self.folder)
        job.write_text(text)
        return self._lines(job, ())

    def model(self, **changes: Any) -> list[dict[str, Any]]:
        return [self.data["models"][0] | changes]

    def _lines(self, job: Path, overrides: tuple[str, ...]) -> list[str]:
        with pytest.raises(InputError) as caught:
            load_job(job, overrides)
        assert caught.value.exit_code == 2
        return str(caught.value).replace(f"{self.folder}/", "").split("\n")


@pytest.fixture
def checker(tmp_path: Path, write_job: Callable[..., Path], tiny_data: Callable[[], dict[str, Any]]) -> Checker:
    return Checker(tmp_path, write_job, tiny_data())


# What is right


def test_every_field_of_the_contract_is_accepted_at_once(checker: Checker) -> None:
    checked = checker.accepts_text(EVERY_FIELD)
    assert [model.spec.name for model in checked.models] == ["first", "second"]
    assert [recipe.name for recipe in checked.recipes] == ["natural", "strong-l2", "whole"]
    assert checked.classes == {"first": (0, 2, 3, 4)}
    assert [(judge.model.spec.name, judge.map) for judge in checked.panel] == [("first", {}), ("second", {"ant": 0})]


def test_the_job_with_every_field_leaves_none_out() -> None:
    def names(model: Any) -> set[str]:
        return set(model.model_fields)

    data = yaml.safe_load(EVERY_FIELD)
    assert set(data) == names(Job)
    assert set(data["models"][0]) | set(data["models"][1]) == names(Job.model_fields["models"].annotation.__args__[0])
    assert set(data["cluster"]) == names(Job.model_fields["cluster"].annotation)
    assert set(data["storage"]) == names(Job.model_fields["storage"].annotation)
    assert set(data["recipes"][2]) - {"name"} == names(Recipe)
    for part in ("init", "transforms", "preconditioner", "optimizer", "regularizers"):
        assert set(data["recipes"][2][part]) == names(Recipe.model_fields[part].annotation)


def test_the_shortest_job_has_the_defaults_of_the_contract(checker: Checker) -> None:
    absent = {"recipes": ..., "panel": ..., "animation": ..., "output": ..., "name": "short"}
    checked = checker.accepts(**absent)
    assert [recipe.name for recipe in checked.recipes] == ["natural"]
    assert [judge.model.spec.name for judge in checked.panel] == ["tiny"]
    assert (checked.job.animation.frames, checked.job.animation.format) == (32, "webp")
    assert (checked.job.output, checked.job.seed, checked.job.limits.units) == ("./galleries", 0, 20_000)


def test_files_are_found_from_the_job_files_folder_whatever_the_working_directory(
    checker: Checker, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = checker.accepts()
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    there = load_job(checker.folder / "job.yaml")
    assert there.models[0].model12 == here.models[0].model12
    monkeypatch.chdir(checker.folder)
    assert load_job("job.yaml").models[0].model12 == here.models[0].model12


def test_a_job_holds_no_secrets_and_needs_none(checker: Checker, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    checker.accepts(output="s3://bucket/prefix", storage={"endpoint_url": "https://s3.example"})
    for secret in ("access_key", "secret_key", "password"):
        assert f"found the unknown field '{secret}'" in checker.refuses(storage={secret: "x"})[0]


# Every problem at once


def test_all_problems_are_told_at_once_in_the_order_of_the_file(checker: Checker) -> None:
    lines = checker.refuses_text(
        """\
apiVersion: classmodels/v2
nmae: x
code: ./src
models:
  - name: tiny
    source: {factory: "nets:linear"}
    checkpoint: ./tinny.safetensors
    input: {size: 8, mean: [.5, .5, .5], std: [.25, .25, .25]}
    labels: ./labels.txt
  - name: a/b
    source: {factory: "nets:linaer"}
classes: [crwo, 9]
recipes: [natrual, {name: quick, stpes: 3}]
animation: {format: wepb}
panel: [tinny]
limits: {units: many}
cluster: {gpu: {cuont: 1}}
"""
    )
    assert [line.partition(": ")[0] for line in lines] == [
        f"job.yaml:{place}"
        for place in "1:1 1:13 2:1 7:17 10:11 12:11 12:17 13:11 13:34 14:21 16:17 17:17".split()  # noqa: SIM905
    ]
    assert [line.rpartition("; did you mean ")[2] for line in lines if "did you mean" in line] == [
        '"classmodels/v1"?',
        '"name"?',
        '"tiny.safetensors"?',
        '"crow"?',
        '"natural"?',
        '"steps"?',
        '"webp"?',
        '"count"?',
    ]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"classses": [1]}, "job.yaml:32:1: found the unknown field 'classses', expected one of apiVersion, name,"),
        ({"animation": {"fromat": "gif"}}, "job.yaml:29:3: found the unknown field 'fromat', expected one of frames,"),
        ({"storage": {"endpont_url": "x"}}, "job.yaml:33:3: found the unknown field 'endpont_url', expected one of"),
        ({"limits": {"unit": 1}}, "job.yaml:33:3: found the unknown field 'unit', expected one of units"),
        (
            {"cluster": {"gpu": {"cuont": 1}}},
            "job.yaml:34:5: found the unknown field 'cuont', expected one of resource",
        ),
        (
            {"cluster": {"resources": {"limts": {}}}},
            "job.yaml:34:5: found the unknown field 'limts', expected one of requests",
        ),
        ({"panel": [{"model": "tiny", "mapp": {}}]}, "job.yaml:32:3: found the unknown field 'mapp', expected one of"),
    ],
)
def test_an_unknown_field_is_found_at_every_depth_with_the_nearest_name(
    checker: Checker, changes: dict[str, Any], line: str
) -> None:
    (found,) = checker.refuses(**changes)
    assert found.startswith(line)
    assert "; did you mean " in found


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"chekpoint": "x"}, "20:3: found the unknown field 'chekpoint'"),
        ({"source": {"factry": "nets:linear"}}, "7:5: found the unknown field 'factry'"),
        ({"input": {"size": 8, "men": [0.5]}}, "11:5: found the unknown field 'men'"),
        ({"head": "softmx"}, "20:9: found 'softmx', expected 'softmax', 'sigmoid' or 'binary'"),
        ({"role": "jugde"}, "20:9: found 'jugde', expected 'ascend' or 'judge'"),
        ({"labels": "./lables.txt"}, "19:11: model tiny: labels "),
        ({"checkpoint": "./tinny.safetensors"}, "8:15: model tiny: checkpoint "),
        ({"source": {"factory": "nets:linaer"}}, "7:14: model tiny: factory nets:linaer: nets has no attribute"),
        ({"source": {"factory": "netz:linear"}}, '7:14: model tiny: factory netz:linear: there is no module "netz"'),
        ({"source": {"factory": "nets"}}, "7:14: found 'nets', expected module:callable"),
        ({"source": {}}, "6:11: found none, expected exactly one of torchvision, timm, transformers, factory, program"),
        ({"source": {"factory": "nets:linear", "timm": "x"}}, "7:5: found timm and factory, expected exactly one"),
        ({"source": {"torchvision": "vgg61"}}, '7:18: model tiny: torchvision has no classifier "vgg61"'),
        ({"name": "a b"}, "5:9: found 'a b', expected a name of at most 64 letters"),
        ({"input": {"size": 0, "mean": [0.5], "std": [1]}}, "10:11: found [0, 0], expected sides from 1 to 4096"),
        ({"input": {"size": 8, "mean": [0.5], "std": [1, 1]}}, "10:5: mean has 1 channels and std has 2"),
        ({"input": {"size": 8, "mean": [0.5], "std": [0]}}, "10:5: found std [0.0], expected every one above 0"),
        ({"input": None}, "9:10: model tiny: a factory does not say what it expects; give `input`"),
    ],
)
def test_what_is_wrong_with_a_model_is_one_problem_at_its_field(
    checker: Checker, changes: dict[str, Any], line: str
) -> None:
    (found,) = checker.refuses(models=checker.model(**changes), classes=[0])
    assert found.startswith(f"job.yaml:{line}")


def test_classes_are_checked_though_the_models_checkpoint_is_missing(checker: Checker) -> None:
    lines = checker.refuses(models=checker.model(checkpoint="./none.pth"), classes=["crwo"])
    assert ["checkpoint" in lines[0], "crwo" in lines[1]] == [True, True]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n", "found ['a'], expected a mapping"),
        ("5\n", "found 5, expected a mapping"),
        ("~\n", "found null, expected a mapping"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused(checker: Checker, text: str, message: str) -> None:
    (line,) = checker.refuses_text(text)
    assert line.startswith(f"job.yaml:1:1: {message}")


# Strictness


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": True}, "32:7: found true, expected a whole number"),
        ({"seed": "3"}, "32:7: found '3', expected a whole number"),
        ({"seed": 1.0}, "32:7: found 1.0, expected a whole number"),
        ({"seed": -1}, "32:7: found -1, expected at least 0"),
        ({"seed": 2**63}, "32:7: found 9223372036854775808, expected below 9223372036854775808"),
        ({"seed": float("nan")}, "32:7: found nan, expected a whole number"),
        ({"name": 5}, "2:7: found 5, expected text"),
        ({"name": None}, "2:7: found null, expected text"),
        ({"name": "a/b"}, "2:7: found 'a/b', expected a name"),
        ({"name": "../x"}, "2:7: found '../x', expected a name"),
        ({"name": "a\n"}, "2:7: found 'a\\n', expected a name"),
        ({"name": "x" * 65}, "2:7: found 'xxx"),
        ({"output": ""}, "31:9: found '', expected at least 1 character"),
        ({"models": []}, "4:9: found [], expected at least 1 of them"),
        ({"classes": []}, "20:10: expected a list of class names, indices and ranges"),
        ({"classes": "crow"}, "20:10: expected a list of class names, indices and ranges"),
        ({"classes": [True]}, "21:3: found true, expected text or a whole number"),
        ({"classes": [0, 1.5]}, "22:3: found 1.5, expected text or a whole number"),
        ({"recipes": "natural"}, "23:10: expected a list of presets and of mappings"),
        ({"recipes": ["l2", 5]}, "25:3: found 5, expected text or a mapping"),
        ({"panel": "some"}, "30:8: expected all, none, or a list of model names"),
        ({"panel": ["tiny", 5]}, "32:3: found 5, expected text or a mapping"),
        ({"animation": {"frames": 1}}, "29:11: found 1, expected at least 2"),
        ({"animation": {"frames": "9"}}, "29:11: found '9', expected a whole number"),
        ({"storage": {"path_style": "yes"}}, "33:15: found 'yes', expected true or false"),
        ({"limits": {"units": 0}}, "33:10: found 0, expected at least 1"),
        ({"cluster": {"namespace": "My_Space"}}, "33:14: found 'My_Space', expected text of the form"),
        ({"cluster": {"shards": 0}}, "33:11: found 0, expected at least 1"),
        ({"cluster": {"tolerations": [5]}}, "34:5: found 5, expected a mapping"),
        ({"apiVersion": "v1"}, "1:13: found 'v1', expected 'classmodels/v1'"),
        ({"apiVersion": ...}, "1:1: the field 'apiVersion' is missing"),
    ],
)
def test_values_have_the_type_and_range_of_their_field(checker: Checker, changes: dict[str, Any], message: str) -> None:
    (line,) = checker.refuses(**changes)
    assert line.startswith(f"job.yaml:{message}")


# Classes


@pytest.mark.parametrize(
    ("classes", "indices"),
    [
        ("all", (0, 1, 2, 3, 4)),
        (["crow", "ANT"], (2, 0)),
        ([4, 0], (4, 0)),
        (["1-3"], (1, 2, 3)),
        (["2-2"], (2,)),
        ([3, "dog", "2-4", 3], (3, 2, 4)),
    ],
)
def test_classes_are_names_indices_ranges_or_all_each_once(
    checker: Checker, classes: Any, indices: tuple[int, ...]
) -> None:
    assert checker.accepts(classes=classes).classes == {"tiny": indices}


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("crwo", 'class "crwo" is not among the 5 labels; did you mean "crow"?'),
        ("3", 'class "3" is not among the 5 labels'),
        (5, "found the class index 5, expected 0 to 4"),
        (-1, "found the class index -1, expected 0 to 4"),
        ("2-5", "found the class index 5, expected 0 to 4"),
        ("4-2", "found the range 4-2, expected the lower index first"),
    ],
)
def test_a_class_that_is_none_is_refused_at_its_place(checker: Checker, item: Any, message: str) -> None:
    assert checker.refuses(classes=[0, item]) == [f"job.yaml:22:3: model tiny: {message}"]


def test_a_name_needs_labels_but_an_index_does_not(checker: Checker) -> None:
    bare = checker.model(labels=None)
    assert checker.accepts(models=bare, classes="all").classes == {"tiny": (0, 1, 2, 3, 4)}
    assert checker.refuses(models=bare, classes=[0, "crow", 5]) == [
        "job.yaml:22:3: model tiny: found the class 'crow', expected an index: the model has no labels",
        "job.yaml:23:3: model tiny: found the class index 5, expected 0 to 4",
    ]


def test_a_class_named_like_a_range_is_that_class(checker: Checker) -> None:
    checker.write_job(checker.folder)
    (checker.folder / "sizes.txt").write_text("0-4\n5-9\n")
    model = checker.model(source={"factory": "nets:linear", "kwargs": {"classes": 2}}, labels="./sizes.txt")
    del model[0]["checkpoint"]
    assert checker.accepts(models=model, classes=["5-9"]).classes == {"tiny": (1,)}


def test_each_model_finds_a_class_among_its_own_labels(checker: Checker) -> None:
    checker.write_job(checker.folder)
    (checker.folder / "other.txt").write_text("owl\npig\ncrow\nant\neel\n")
    other = checker.model(name="other", labels="./other.txt")
    models = checker.model() + other
    assert checker.accepts(models=models, classes=["ant", 1]).classes == {"tiny": (0, 1), "other": (3, 1)}
    (line,) = checker.refuses(models=models, classes=["pig"])
    assert 'model tiny: class "pig" is not among the 5 labels' in line


def test_judges_need_not_know_the_classes(checker: Checker) -> None:
    two = {"factory": "nets:linear", "kwargs": {"classes": 2}}
    judge = checker.model(name="judge", role="judge", source=two, labels=None)
    del judge[0]["checkpoint"]
    assert checker.accepts(models=checker.model() + judge, classes=[4]).classes == {"tiny": (4,)}


def test_a_job_of_judges_alone_is_refused(checker: Checker) -> None:
    (line,) = checker.refuses(models=checker.model(role="judge"))
    assert line == "job.yaml:5:1: every model is a judge, expected at least one with role: ascend"


# Recipes


def recipe_of(checker: Checker, *entries: Any) -> Recipe:
    return checker.accepts(recipes=list(entries)).recipes[0].recipe


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_every_preset_is_a_recipe(checker: Checker, preset: str) -> None:
    assert checker.accepts(recipes=[preset]).recipes[0].name == preset


def test_a_recipe_without_extends_stands_on_plain(checker: Checker) -> None:
    assert recipe_of(checker, {"name": "own"}) == recipe_of(checker, "plain")
    assert recipe_of(checker, {"name": "own", "extends": None}) == recipe_of(checker, "plain")


def test_extends_merges_key_by_key_and_replaces_lists(checker: Checker) -> None:
    below = {"name": "below", "optimizer": {"lr": 0.5, "momentum": 0.5}, "transforms": {"scale": [0.5, 2], "jitter": 3}}
    above = {"name": "above", "extends": "below", "optimizer": {"lr": 0.25}, "transforms": {"scale": [1, 1]}}
    merged = recipe_of(checker, above, below)
    assert (merged.optimizer.lr, merged.optimizer.momentum) == (0.25, 0.5)
    assert merged.steps == 128  # of plain, beneath both
    assert (merged.transforms.scale, merged.transforms.jitter) == ((1.0, 1.0), 3)


def test_a_recipe_may_extend_the_preset_it_is_named_after(checker: Checker) -> None:
    own = recipe_of(checker, {"name": "l2", "extends": "l2", "steps": 7})
    assert own.steps == 7
    assert own.regularizers == recipe_of(checker, "l2").regularizers


def test_a_jobs_own_recipe_hides_the_preset_of_its_name(checker: Checker) -> None:
    assert recipe_of(checker, {"name": "mine", "extends": "l2"}, {"name": "l2", "steps": 9}).steps == 9


@pytest.mark.parametrize(
    ("recipes", "lines"),
    [
        (
            ["natrual"],
            [
                (
                    "24:3: found the unknown recipe 'natrual', expected one of l1, l2, natural, plain, probability, "
                    'tv, yosinski; did you mean "natural"?'
                )
            ],
        ),
        (
            [{"name": "mine", "extends": "quik"}, {"name": "quick"}],
            [
                (
                    "25:12: found the unknown recipe 'quik', expected one of l1, l2, mine, natural, plain, "
                    'probability, quick, tv, yosinski; did you mean "quick"?'
                )
            ],
        ),
        (
            [{"name": "a", "extends": "b"}, {"name": "b", "extends": "a"}],
            [
                "25:12: the recipe 'a' extends itself, expected a chain that ends at a preset",
                "27:12: the recipe 'b' extends itself, expected a chain that ends at a preset",
            ],
        ),
        (
            [{"name": "x", "extends": "x"}],
            ["25:12: the recipe 'x' extends itself, expected a chain that ends at a preset"],
        ),
        ([{}], ["24:3: the recipe has no name, expected name: or extends:"]),
        ([{"name": "a/b"}], ["24:9: found 'a/b', expected a name of at most 64 letters, digits, dots, hyphens and"]),
        ([{"name": "a", "steps": 0}], ["25:10: found 0, expected at least 1"]),
        ([{"name": "a", "steps": True}], ["25:10: found true, expected a whole number"]),
        ([{"name": "a", "steps": "3"}], ["25:10: found '3', expected a whole number"]),
        ([{"name": "a", "optimizer": {"lr": 0}}], ["26:9: found 0, expected above 0"]),
        ([{"name": "a", "optimizer": {"lr": float("inf")}}], ["26:9: found inf, expected a finite number"]),
        ([{"name": "a", "optimizer": {"betas": [0.9]}}], ["27:5: found [0.9], expected more than 1 of them"]),
        ([{"name": "a", "optimizer": {"kind": "adm"}}], ["26:11: found 'adm', expected 'sgd' or 'adam'"]),
        ([{"name": "a", "optimizer": {"lrr": 3}}], ["26:5: found the unknown field 'lrr', expected one of kind, lr,"]),
        ([{"name": "a", "regularizers": {"blur": {"sgima": 1}}}], ["27:7: found the unknown field 'sgima'"]),
        ([{"name": "a", "regularizers": None}], ["25:17: found null, expected a mapping"]),
        ([{"name": "a", "transforms": {"scale": [2, 1]}}], ["27:5: found [2.0, 1.0], expected [lowest, highest]"]),
        ([{"name": "a", "preconditioner": {"spectral": 9}}], ["26:15: found [9.0, 9.0], expected exponents from -4"]),
        ([{"extends": "l2", "nmae": "a"}], ["25:3: found the unknown field 'nmae', expected one of name, extends,"]),
    ],
)
def test_a_wrong_recipe_is_refused_at_its_place(checker: Checker, recipes: list[Any], lines: list[str]) -> None:
    found = checker.refuses(recipes=recipes)
    assert [line[: len(f"job.yaml:{start}")] for line, start in zip(found, lines, strict=True)] == [
        f"job.yaml:{start}" for start in lines
    ]


def test_what_is_wrong_with_a_recipe_is_not_told_again_of_those_that_extend_it(checker: Checker) -> None:
    (line,) = checker.refuses(recipes=[{"name": "above", "extends": "below"}, {"name": "below", "stpes": 3}])
    assert line.startswith("job.yaml:27:3: found the unknown field 'stpes'")


# Names that collide


@pytest.mark.parametrize("name", ["tiny", "TINY"])
def test_two_models_of_one_name_are_refused_also_where_only_the_case_differs(checker: Checker, name: str) -> None:
    assert checker.refuses(models=checker.model() + checker.model(name=name)) == [
        f"job.yaml:20:3: found the name '{name}' a second time; give one of them another name"
    ]


def test_two_recipes_of_one_name_are_refused_at_the_second(checker: Checker) -> None:
    lines = checker.refuses(recipes=["natrual", "l2", {"name": "L2", "steps": 3}])
    assert lines[1] == "job.yaml:26:3: found the name 'L2' a second time; give one of them another name"


def test_one_network_under_two_names_is_fine(checker: Checker) -> None:
    checked = checker.accepts(models=checker.model() + checker.model(name="again"))
    assert checked.models[0].model12 == checked.models[1].model12


# The panel


def test_the_panel_is_all_none_or_a_list(checker: Checker) -> None:
    models = checker.model() + checker.model(name="judge", role="judge")

    def judges(panel: Any) -> list[str]:
        return [judge.model.spec.name for judge in checker.accepts(models=models, panel=panel).panel]

    assert judges("all") == ["tiny", "judge"]
    assert judges("none") == []
    assert judges(["judge"]) == ["judge"]
    assert judges([{"model": "judge", "map": {"ant": "bee", "crow": 4}}]) == ["judge"]


@pytest.mark.parametrize(
    ("panel", "line"),
    [
        (["tniy"], "31:3: found the unknown model 'tniy', expected one of tiny; did you mean \"tiny\"?"),
        (["tiny", "tiny"], "32:3: found the name 'tiny' a second time; a judge judges once"),
        (
            [{"model": "tiny", "map": {"crwo": 0}}],
            "33:5: found 'crwo', expected a label of an ascended model; did you mean \"crow\"?",
        ),
        (
            [{"model": "tiny", "map": {"ant": "crwo"}}],
            '33:10: judge tiny: class "crwo" is not among the 5 labels; did you mean "crow"?',
        ),
        ([{"model": "tiny", "map": {"ant": 5}}], "33:10: judge tiny: found the class index 5, expected 0 to 4"),
        ([{"model": "tiny", "map": {"ant": True}}], "33:10: found true, expected text or a whole number"),
    ],
)
def test_a_wrong_judge_is_refused_at_its_place(checker: Checker, panel: list[Any], line: str) -> None:
    assert checker.refuses(panel=panel) == [f"job.yaml:{line}"]


def test_another_map_makes_another_judge(checker: Checker) -> None:
    def judge12(panel: Any) -> str:
        return checker.accepts(panel=panel).panel[0].judge12

    assert judge12(["tiny"]) == judge12([{"model": "tiny"}]) == judge12([{"model": "tiny", "map": {}}])
    assert judge12([{"model": "tiny", "map": {"ant": 1}}]) not in (
        judge12(["tiny"]),
        judge12([{"model": "tiny", "map": {"ant": 2}}]),
    )


def test_asking_for_features_makes_another_judge_and_not_asking_the_same(checker: Checker) -> None:
    def judge12(**member: Any) -> str:
        return checker.accepts(panel=[{"model": "tiny", **member}]).panel[0].judge12

    assert judge12(features=False) == judge12() == checker.accepts(panel=["tiny"]).panel[0].model.model12
    four = {judge12(), judge12(features=True), judge12(map={"ant": 1}), judge12(map={"ant": 1}, features=True)}
    assert len(four) == 4


# Limits


def test_a_job_with_more_units_than_its_limit_is_refused(checker: Checker) -> None:
    recipes = ["l2", "l1", "tv"]
    checker.accepts(classes="all", recipes=recipes, limits={"units": 15})
    (line,) = checker.refuses(classes="all", recipes=recipes, limits={"units": 14})
    assert line.endswith("the job has 15 units, expected at most 14; raise limits.units if it is meant")


# --set


@pytest.mark.parametrize("path", ["recipes.quick.steps", "recipes.0.steps"])
def test_set_finds_an_item_by_name_or_index(checker: Checker, path: str) -> None:
    assert checker.accepts(f"{path}=5").recipes[0].recipe.steps == 5


def test_set_takes_yaml_of_any_kind(checker: Checker) -> None:
    checked = checker.accepts(
        "seed=3", "recipes.quick.optimizer.lr=1e-3", "classes=[bee, 2-3]", "models.tiny.input.size=[8, 8]", "name=no"
    )
    assert (checked.job.seed, checked.job.name) == (3, "no")
    assert checked.recipes[0].recipe.optimizer.lr == 0.001
    assert checked.classes == {"tiny": (1, 2, 3)}


def test_set_makes_fields_that_the_file_does_not_have(checker: Checker) -> None:
    checked = checker.accepts("cluster.gpu.count=0", "animation.frames=4", "models.tiny.family=linear")
    assert checked.job.cluster.gpu.count == 0
    assert (checked.job.animation.frames, checked.job.animation.format) == (4, "none")
    assert checked.models[0].family == "linear"


@pytest.mark.parametrize("recipes", [["natural"], ...])
def test_set_reaches_into_a_preset_also_the_one_that_is_the_default(checker: Checker, recipes: Any) -> None:
    (recipe,) = checker.accepts("recipes.natural.steps=5", recipes=recipes).recipes
    assert recipe.name == "natural"
    assert recipe.recipe.steps == 5
    assert recipe.recipe.preconditioner == checker.accepts(recipes=["natural"]).recipes[0].recipe.preconditioner


def test_the_last_set_wins(checker: Checker) -> None:
    assert checker.accepts("seed=1", "seed=2").job.seed == 2


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("seed", "--set 'seed': expected path=value, such as recipes.natural.steps=64"),
        ("=3", "--set '=3': expected path=value, such as recipes.natural.steps=64"),
        ("seed=x", "--set seed=x: found 'x', expected a whole number"),
        ("seed=", "--set seed=: found null, expected a whole number"),
        ("seed.x=3", "--set seed.x=3: found {'x': 3}, expected a whole number"),
        (
            "name.x=3",
            "--set 'name.x=3': name is 'tiny' and has no 'x'",
        ),
        (
            "recipes.quik.steps=5",
            (
                "--set 'recipes.quik.steps=5': found no item 'quik', expected an index below 1 or one of quick; "
                'did you mean "quick"?'
            ),
        ),
        (
            "recipes.1.steps=5",
            "--set 'recipes.1.steps=5': found no item '1', expected an index below 1 or one of quick",
        ),
        ("recipes.quick.stpes=5", "--set recipes.quick.stpes=5: found the unknown field 'stpes', expected one of"),
        ("clutser.shards=2", "--set clutser.shards=2: found the unknown field 'clutser', expected one of"),
        ("cluster.gpu.cuont=0", "--set cluster.gpu.cuont=0: found the unknown field 'cuont', expected one of"),
        ("classes=[crow, 9]", "--set classes=[crow, 9]: model tiny: found the class index 9, expected 0 to 4"),
        ("limits.units=1", "--set limits.units=1: the job has 2 units, expected at most 1"),
        ("name={", "--set name={:1:2: not YAML: "),
        ("models.tiny=5", "--set models.tiny=5: found 5, expected a mapping"),
    ],
)
def test_a_wrong_set_is_named_as_it_was_typed(checker: Checker, override: str, line: str) -> None:
    (found,) = checker.refuses(override)
    assert found.startswith(line)


def test_set_over_a_file_that_is_no_mapping_is_refused(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("~\n")
    with pytest.raises(InputError, match="the job is null and has no 'seed'"):
        load_job(tmp_path / "job.yaml", ["seed=1"])


def test_problems_come_as_data_too(checker: Checker) -> None:
    shutil.rmtree(checker.folder / "src", ignore_errors=True)
    with pytest.raises(JobFileError) as caught:
        checker.accepts(code="./scr", seed=-1)
    first, last = caught.value.problems[0], caught.value.problems[-1]
    assert (first.line, first.column) == (3, 7)
    assert first.message.startswith("code ")
    assert (last.line, last.column, last.message) == (32, 7, "found -1, expected at least 0")

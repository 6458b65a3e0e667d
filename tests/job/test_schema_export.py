"""The JSON Schema that `classmodels schema` prints: valid, and of one mind with what the commands accept."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from classmodels.job.schema import json_schema

JOBS = Path(__file__).parents[2] / "jobs"


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json_schema())


def test_the_schema_is_itself_valid() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())


@pytest.mark.parametrize("job", sorted(JOBS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_jobs_that_ship_fit_the_schema(job: Path, validator: jsonschema.Draft202012Validator) -> None:
    validator.validate(yaml.safe_load(job.read_text()))


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"classes": "all"},
        {"classes": ["ostrich", 251, "10-19"]},
        {"panel": "none"},
        {"panel": ["a", {"model": "b", "map": {"ant": "bee", "crow": 3}}]},
        {"recipes": ["natural", {"extends": "l2"}, {"name": "own", "extends": "l2", "steps": 3}]},
        {"recipes": [{"name": "own", "preconditioner": {"spectral": 0.5}}]},
        {"recipes": [{"name": "own", "preconditioner": {"spectral": [1, 0.5], "focus": None}}]},
        {"recipes": [{"name": "own", "optimizer": {"momentum": 0.5}}]},
        {"recipes": [{"name": "own", "regularizers": {"blur": {"sigma": 1}}}]},
        {"cluster": {"gpu": {"count": 0}, "resources": {"requests": {"cpu": 2, "memory": "4Gi"}}}},
        {"storage": {"endpoint_url": None, "path_style": True}},
        {"limits": {"units": 5}, "animation": {"frames": 2, "format": "gif"}},
    ],
)
def test_every_shorthand_of_a_job_fits_the_schema(
    change: dict[str, Any], tiny_data: Callable[[], dict[str, Any]], validator: jsonschema.Draft202012Validator
) -> None:
    validator.validate(tiny_data() | change)


@pytest.mark.parametrize(
    "change",
    [
        {"classses": ["ostrich"]},
        {"apiVersion": "classmodels/v2"},
        {"seed": "3"},
        {"seed": -1},
        {"name": "a/b"},
        {"models": []},
        {"models": [{"name": "a"}]},
        {"models": [{"name": "a", "source": {"factry": "nets:linear"}}]},
        {"models": [{"name": "a", "source": {"factory": "nets:linear"}, "head": "softmx"}]},
        {"recipes": [5]},
        {"recipes": [{"name": "own", "stpes": 3}]},
        {"recipes": [{"name": "own", "optimizer": {"lrr": 3}}]},
        {"recipes": [{"name": "own", "regularizers": {"blur": {"sgima": 3}}}]},
        {"animation": {"format": "mp4"}},
        {"cluster": {"gpu": {"cuont": 1}}},
        {"limits": {"units": 0}},
    ],
)
def test_what_a_command_refuses_does_not_fit_the_schema(
    change: dict[str, Any], tiny_data: Callable[[], dict[str, Any]], validator: jsonschema.Draft202012Validator
) -> None:
    assert not validator.is_valid(tiny_data() | change)

"""What a job file may hold: every field of the contract with its type, bounds and default.

`check.py` validates against it and says what is wrong; `schema` on the command line prints it as JSON Schema.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from classmodels.models.spec import ModelSpec, Name, Strict

Quantity = Annotated[str | int | float, Field(description="A Kubernetes quantity: 2, 500m, 4Gi")]
KubernetesName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")]


class Animation(Strict):
    """The film of the ascent that goes with each image: how many frames, evenly spaced over the steps."""

    frames: Annotated[int, Field(ge=2, le=512)] = 32
    format: Literal["webp", "gif", "apng", "none"] = "webp"


class PanelMember(Strict):
    """A judge with an explicit map from the ascended model's labels to the judge's own (label or index).

    features: its verdicts carry what it sees before it decides, so that checkpoints can be compared in its own terms.
    """

    model: str
    map: dict[str, str | int] = {}
    features: bool = False


class Storage(Strict):
    """How to reach S3-compatible storage; null fields come from the environment."""

    endpoint_url: str | None = None
    region: str | None = None
    path_style: bool | None = None
    checksum: Literal["when_required", "when_supported"] | None = None


class Limits(Strict):
    """A job with more units than this is refused, so that a slip does not cost a week."""

    units: Annotated[int, Field(ge=1)] = 20_000


class Gpu(Strict):
    """The extended resource that a worker asks for, and how many: one, or none to compute on the CPU."""

    resource: Annotated[str, Field(pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$")] = "nvidia.com/gpu"
    count: Annotated[int, Field(ge=0, le=1)] = 1

    @field_validator("count", mode="before")
    @classmethod
    def _count(cls, value: Any) -> Any:
        if isinstance(value, int) and value > 1:
            raise ValueError(
                f"found {value}, expected 0 or 1: a worker computes on one GPU; more parallelism uses more"
            )
        return value


class Resources(Strict):
    """Requests and limits of a worker's container, as Kubernetes has them."""

    requests: dict[str, Quantity] = {}
    limits: dict[str, Quantity] = {}


class Cluster(Strict):
    """How a run is laid over a Kubernetes cluster; null fields come from the site's defaults."""

    image: str | None = None
    namespace: KubernetesName | None = None
    shards: Annotated[int, Field(ge=1, le=10_000)] | None = None
    parallelism: Annotated[int, Field(ge=1, le=10_000)] | None = None
    gpu: Gpu = Gpu()
    resources: Resources = Resources()
    queue: str | None = None
    priority_class: KubernetesName | None = None
    service_account: KubernetesName | None = None
    s3_secret: KubernetesName | None = None
    ttl: Annotated[int, Field(ge=0, description="Seconds a finished Job is kept")] | None = None
    node_selector: dict[str, str] = {}
    tolerations: tuple[dict[str, Any], ...] = ()
    volumes: tuple[dict[str, Any], ...] = ()
    pod_template: dict[str, Any] = {}


class Job(Strict):
    """A whole job file. A recipe is a preset's name or a mapping: `name`, `extends`, and any field of a recipe."""

    apiVersion: Literal["classmodels/v1"]  # noqa: N815
    name: Name
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    code: str | None = None
    models: Annotated[tuple[ModelSpec, ...], Field(min_length=1, max_length=1000)]
    classes: tuple[str | int, ...] | Literal["all"]
    recipes: Annotated[tuple[str | dict[str, Any], ...], Field(min_length=1, max_length=1000)] = ("natural",)
    animation: Animation = Animation()
    panel: Literal["all", "none"] | tuple[str | PanelMember, ...] = "all"
    output: Annotated[str, Field(min_length=1)] = "./galleries"
    storage: Storage = Storage()
    limits: Limits = Limits()
    cluster: Cluster = Cluster()

    @field_validator("classes", mode="before")
    @classmethod
    def _classes(cls, value: Any) -> Any:
        if value == "all":
            return value
        if not isinstance(value, list) or not value:
            raise ValueError("expected a list of class names, indices and ranges such as 10-19, or all")
        return tuple(value)

    @field_validator("recipes", mode="before")
    @classmethod
    def _recipes(cls, value: Any) -> Any:
        if not isinstance(value, list):
            raise ValueError("expected a list of presets and of mappings such as {name: mine, extends: l2, steps: 300}")
        return tuple(value)

    @field_validator("panel", mode="before")
    @classmethod
    def _panel(cls, value: Any) -> Any:
        if isinstance(value, list):
            return tuple(value)
        if value in ("all", "none"):
            return value
        raise ValueError("expected all, none, or a list of model names")


RANGE = re.compile(r"^(\d{1,9})-(\d{1,9})$")


def json_schema() -> dict[str, Any]:
    """The job file as JSON Schema (2020-12), for editors and other programs."""
    from classmodels.ascent.recipe import Recipe

    schema = Job.model_json_schema()
    recipe = Recipe.model_json_schema(ref_template="#/$defs/{model}")
    schema["$defs"].update(recipe.pop("$defs"))
    # What a job writes is a part of a recipe: everything is optional, and it may have a name and extend another.
    own = {"name": {"type": "string"}, "extends": {"type": "string"}}
    schema["$defs"]["Recipe"] = {
        "type": "object",
        "additionalProperties": False,
        "description": recipe["description"],
        "properties": own | recipe["properties"],
    }
    schema["$defs"]["Optimizer"].pop("required", None)
    schema["properties"]["recipes"]["items"] = {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/Recipe"}]}
    schema["properties"]["classes"]["description"] = "Names, indices, ranges such as 10-19; or all"
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "classmodels job"
    _allow_shorthands(schema["$defs"])
    return schema


def _allow_shorthands(definitions: dict[str, Any]) -> None:
    """`size: 224` and `spectral: 0.75` stand for pairs; the validators accept them, the schema must say so."""
    for model, name, kind in (("InputSpec", "size", "integer"), ("Preconditioner", "spectral", "number")):
        pair = definitions[model]["properties"][name]
        definitions[model]["properties"][name] = {"anyOf": [{"type": kind}, pair]}

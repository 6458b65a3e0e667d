"""How a run is laid over a cluster: what the job says, before what the site says, before what is built in.

A site's defaults are the fields of a job's `cluster`, as YAML: the values of the ConfigMap that `DEFAULTS` names, or
files. They come in layers, so that what belongs to the GPUs, the queue and the network can each say its part.
`objects.py` makes a run's objects from the `Settings` found here.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import reduce
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from classmodels import __version__
from classmodels.cluster.merge import strategic_merge
from classmodels.errors import InputError
from classmodels.job.document import Document, JobFileError, parse, shown
from classmodels.job.explain import problems_of
from classmodels.job.schema import Cluster, Gpu

DEFAULTS = "classmodels-defaults"
"""The ConfigMap with the site's defaults. Each key is a layer, in the order of their names, and `OWN` the last one."""
OWN = "cluster.yaml"
NAMESPACE = "classmodels"
WORKER_ACCOUNT = "classmodels-worker"
S3_SECRET = "classmodels-s3"
TTL = 7 * 24 * 3600
REQUESTS = {"cpu": "2", "memory": "8Gi", "ephemeral-storage": "10Gi"}
UNITS_PER_SHARD = 50
"""Of a run that does not say how many shards it wants: a pod that is lost costs its batch, a new one its start."""
MOST_SHARDS = 10_000
PARALLELISM = 8

_QUANTITY = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(?:([numkMGTPE]|[KMGTPE]i)|[eE]([+-]?\d+))?")
_POWERS = {suffix: Decimal(1000) ** power for power, suffix in enumerate("num kMGTPE", -3) if suffix != " "}
_POWERS |= {f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", 1)}
_MOUNT = ("mountPath", "readOnly", "subPath")


@dataclass(frozen=True)
class Settings:
    """Everything of a job's `cluster`, with the defaults filled in.

    shards, parallelism: None where nobody says; `objects.py` chooses by the number of units. gpus: 0 for the CPU.
    requests, limits: without the GPU. volumes, mounts: as a pod's and its container's. pod_templates: what is merged
    into the pod template last, in this order.
    """

    image: str
    namespace: str
    shards: int | None
    parallelism: int | None
    gpu_resource: str
    gpus: int
    requests: dict[str, str]
    limits: dict[str, str]
    queue: str | None
    priority_class: str | None
    service_account: str
    s3_secret: str
    ttl: int
    node_selector: dict[str, str]
    tolerations: list[dict[str, Any]]
    volumes: list[dict[str, Any]]
    mounts: list[dict[str, Any]]
    pod_templates: list[dict[str, Any]]


def read_site(data: bytes, where: str) -> dict[str, Any]:
    """A site's defaults from YAML; `where` is the name that problems carry. Raises JobFileError with all of them."""
    if all(line.isspace() or line.lstrip().startswith(b"#") for line in data.splitlines(keepends=True)):
        return {}
    document = parse(data, where)
    problems = []
    try:
        Cluster.model_validate_json(json.dumps(document.data), strict=True)
    except ValidationError as error:
        problems = problems_of(error, document, Cluster, (), document.data)
    if problems:
        raise JobFileError(problems)
    found: dict[str, Any] = document.data
    return found


def read_site_file(file: str) -> dict[str, Any]:
    """As `read_site`, from a file."""
    try:
        data = Path(file).read_bytes()
    except OSError as error:
        raise InputError(
            f"{file}: {(error.strerror or str(error)).lower()}; expected the site's defaults in YAML"
        ) from error
    return read_site(data, file)


def read_defaults(data: Mapping[str, str]) -> list[dict[str, Any]]:
    """A site's defaults from the data of its ConfigMap, the strongest last."""
    names = sorted(data, key=lambda name: (name == OWN, name))
    return [read_site(data[name].encode(), f"ConfigMap {DEFAULTS}, {name}") for name in names]


def settings(job_cluster: Cluster, site: Sequence[Mapping[str, Any]] = ()) -> Settings:
    """The job's `cluster` over the site's defaults, the last of which is the strongest, over what is built in.

    A field that is missing or null says nothing. Of gpu, resources and node_selector every key counts by itself; all
    pod_templates are merged, the job's last; a list replaces the other's. Raises InputError for what cannot be used.
    """
    layers = [job_cluster.model_dump(mode="json", exclude_unset=True, exclude_none=True)]
    layers[:0] = map(_validated, site)
    both = reduce(_over, layers, dict[str, Any]())
    resources = both.get("resources", {})
    requests, limits = _resources(_quantities(resources, "requests"), _quantities(resources, "limits"))
    gpu = Gpu(**both.get("gpu", {}))
    if gpu.resource in requests:
        raise InputError(f"cluster.resources: found {gpu.resource}, expected that as cluster.gpu.count")
    mounted = [_mounted(volume, index) for index, volume in enumerate(both.get("volumes", []))]
    return Settings(
        image=both.get("image", f"classmodels:{__version__}"),
        namespace=both.get("namespace", NAMESPACE),
        shards=both.get("shards"),
        parallelism=both.get("parallelism"),
        gpu_resource=gpu.resource,
        gpus=gpu.count,
        requests=requests,
        limits=limits,
        queue=both.get("queue"),
        priority_class=both.get("priority_class"),
        service_account=both.get("service_account", WORKER_ACCOUNT),
        s3_secret=both.get("s3_secret", S3_SECRET),
        ttl=both.get("ttl", TTL),
        node_selector=both.get("node_selector", {}),
        tolerations=both.get("tolerations", []),
        volumes=[volume for volume, _ in mounted],
        mounts=[mount for _, mount in mounted],
        pod_templates=[_template(layer["pod_template"]) for layer in layers if layer.get("pod_template")],
    )


def quantity(value: str) -> Decimal:
    """A Kubernetes quantity as a number: 500m is 0.5, 4Gi is 4294967296. Raises ValueError."""
    match = _QUANTITY.fullmatch(value)
    if match is None:
        raise ValueError(value)
    number = Decimal(value[: match.end(1)])
    return number * (_POWERS[match[2]] if match[2] else Decimal(10) ** int(match[3] or 0))


def shards_of(chosen: Settings, units: int) -> int:
    """How many parts `units` are done in: never more than there are units, so that no pod is for nothing."""
    return max(1, min(chosen.shards or math.ceil(units / UNITS_PER_SHARD), units, MOST_SHARDS))


def _validated(site: Mapping[str, Any]) -> dict[str, Any]:
    try:
        found = Cluster.model_validate_json(json.dumps(site), strict=True)
    except ValidationError as error:
        problems = problems_of(error, Document("the site's defaults", None), Cluster, (), dict(site))
        raise InputError("the site's defaults: " + "; ".join(problem.message for problem in problems)) from None
    return found.model_dump(mode="json", exclude_unset=True, exclude_none=True)


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    both = dict(below)
    for key, value in above.items():
        both[key] = _over(below[key], value) if isinstance(value, dict) and key in below else value
    return both


def _quantities(resources: Mapping[str, Any], part: str) -> dict[str, str]:
    found = {name: str(value) for name, value in resources.get(part, {}).items()}
    for name, value in found.items():
        try:
            usable = quantity(value) >= 0
        except ValueError:
            usable = False
        if not usable:
            raise InputError(
                f"cluster.resources.{part}.{name}: found {shown(value)}, expected a Kubernetes quantity"
                " such as 2, 500m or 8Gi"
            )
    return found


def _resources(requests: dict[str, str], limits: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Both with the defaults: what is limited and not requested is requested so; memory and disk always have a limit,
    so that a worker that needs more is ended and not its neighbours. Processors are shared as the node has them."""
    for name, default in REQUESTS.items():
        requests.setdefault(name, limits.get(name, default))
        if name != "cpu":
            limits.setdefault(name, requests[name])
    for name, limit in limits.items():
        if quantity(requests.setdefault(name, limit)) > quantity(limit):
            raise InputError(
                f"cluster.resources: {name} has the request {requests[name]} and the limit {limit},"
                " expected a request within its limit"
            )
    return requests, limits


def _mounted(entry: Mapping[str, Any], index: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """A volume and its mount, from an item of `volumes`, which is both."""
    at = f"cluster.volumes.{index}"
    volume = {key: value for key, value in entry.items() if key not in _MOUNT}
    mount = {"name": entry.get("name")} | {key: entry[key] for key in _MOUNT if key in entry}
    path = mount.get("mountPath")
    if not isinstance(mount["name"], str) or len(volume) != 2 or not isinstance(path, str) or not path.startswith("/"):
        raise InputError(
            f"{at}: found {shown(dict(entry))}, expected a volume as Kubernetes has it and where it goes, such as"
            " {name: weights, persistentVolumeClaim: {claimName: weights}, mountPath: /weights}"
        )
    return volume, {"readOnly": True} | mount


def _template(template: dict[str, Any]) -> dict[str, Any]:
    if unknown := set(template) - {"metadata", "spec"}:
        raise InputError(
            f"cluster.pod_template: found {shown(min(unknown))}, expected metadata or spec, as a pod template has them"
        )
    # What cannot be merged is told now, and not once there is a pod.
    strategic_merge({}, template)
    return template

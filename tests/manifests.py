"""What is wrong with Kubernetes objects: by the API's own schemas, and by the rules that these do not hold.

`problems(object)` is empty for an object that an API server would take, as far as that can be told without one.
"""

import functools
import ipaddress
import re
import zoneinfo
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import kubernetes_validate
import kubernetes_validate.utils

# It reads its files of several megabytes anew for each object.
kubernetes_validate.utils.schema_contents = functools.cache(kubernetes_validate.utils.schema_contents)

OLDEST = "1.33"
NEWEST = kubernetes_validate.latest_version()
UNKNOWN = ("kueue.x-k8s.io/", "monitoring.coreos.com/")
"""Groups of kinds that do not come with Kubernetes, and have no schema here."""

LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
SUBDOMAIN = rf"{LABEL}(\.{LABEL})*"
VALUE = r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?"
KEY = rf"({SUBDOMAIN}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{{0,61}}[A-Za-z0-9])?"
IMAGE = r"[a-z0-9][a-z0-9._:/-]*?(:(?!latest\b)[A-Za-z0-9_][A-Za-z0-9._-]*(@sha256:[0-9a-f]{64})?|@sha256:[0-9a-f]{64})"

# The values of fields whose names mean the same wherever they stand, in the objects that are made here.
ENUMS = {
    "restartPolicy": ("Never", "OnFailure", "Always"),
    "imagePullPolicy": ("Always", "IfNotPresent", "Never"),
    "terminationMessagePolicy": ("File", "FallbackToLogsOnError"),
    "completionMode": ("Indexed", "NonIndexed"),
    "podReplacementPolicy": ("Failed", "TerminatingOrFailed"),
    "action": ("FailJob", "FailIndex", "Ignore", "Count"),
    "effect": ("NoSchedule", "PreferNoSchedule", "NoExecute"),
    "protocol": ("TCP", "UDP", "SCTP"),
    "medium": ("", "Memory", "HugePages"),
    "dnsPolicy": ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"),
    "concurrencyPolicy": ("Allow", "Forbid", "Replace"),
    "policyTypes": ("Ingress", "Egress"),
    "accessModes": ("ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"),
    "verbs": ("create", "get", "list", "watch", "patch", "update", "delete", "deletecollection"),
}


def quantity(text: Any) -> Decimal:
    """The number that a quantity stands for. Raises ValueError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(m|[kMGTPE]|[KMGTPE]i)?", str(text))
    if match is None:
        raise ValueError(f"{text!r} is no quantity")
    suffix = match[2] or ""
    base = 1024 if suffix.endswith("i") else 1000
    power = -1 if suffix == "m" else " KMGTPE".index(suffix[0].upper()) if suffix else 0
    return Decimal(match[1]) * Decimal(base) ** power


def problems(found: dict[str, Any]) -> list[str]:
    """Everything that is wrong with one object."""
    said = [f"schema {version}: {message}" for version in (OLDEST, NEWEST) for message in _schema(found, version)]
    said += _names(found["metadata"])
    said += _enums(found, "")
    for rules in (_job, _cron_job, _network):
        said += rules(found)
    for spec in pod_specs(found):
        said += _pod(spec)
    return said


def pod_specs(found: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The pod specs within an object."""
    spec = found.get("spec", {})
    for holder in (spec.get("template"), spec.get("jobTemplate", {}).get("spec", {}).get("template")):
        if holder:
            yield holder["spec"]


def _schema(found: dict[str, Any], version: str) -> Iterator[str]:
    if found["apiVersion"].startswith(UNKNOWN):
        return
    try:
        kubernetes_validate.validate(found, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        yield f"{'.'.join(map(str, error.path))}: {error.message}"


def _names(metadata: dict[str, Any]) -> Iterator[str]:
    if len(metadata["name"]) > 253 or not re.fullmatch(SUBDOMAIN, metadata["name"]):
        yield f"{metadata['name']!r} is no name"
    for key, value in metadata.get("labels", {}).items():
        if not re.fullmatch(KEY, key) or not re.fullmatch(VALUE, value):
            yield f"{key}: {value!r} is no label"
    for key in metadata.get("annotations", {}):
        if not re.fullmatch(KEY, key):
            yield f"{key!r} is no annotation"


def _enums(value: Any, at: str) -> Iterator[str]:
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _enums(item, f"{at}.{index}")
    elif isinstance(value, dict):
        for key, item in value.items():
            if key in ENUMS:
                for one in item if isinstance(item, list) else [item]:
                    if one not in ENUMS[key]:
                        yield f"{at}.{key}: {one!r} is none of {ENUMS[key]}"
            else:
                yield from _enums(item, f"{at}.{key}")


def _job(found: dict[str, Any]) -> Iterator[str]:
    if found["kind"] != "Job":
        return
    name, spec = found["metadata"]["name"], found["spec"]
    pod, completions = spec["template"]["spec"], spec.get("completions", 1)
    if len(f"{name}-{completions - 1}") > 63 or not re.fullmatch(LABEL, name):
        yield f"{name!r} with an index is no host name"
    if not 0 < completions <= 100_000 or not 0 <= spec.get("parallelism", 1) <= 100_000:
        yield "an Indexed Job has at most 100000 completions and as much parallelism"
    if "backoffLimitPerIndex" in spec and spec.get("completionMode") != "Indexed":
        yield "backoffLimitPerIndex goes with Indexed"
    if policy := spec.get("podFailurePolicy"):
        if pod.get("restartPolicy") != "Never" or spec.get("podReplacementPolicy", "Failed") != "Failed":
            yield "podFailurePolicy goes with restartPolicy Never and podReplacementPolicy Failed"
        for rule in policy["rules"]:
            yield from _rule(rule, spec, [one["name"] for one in pod["containers"]])
    suspended_by_kueue = "kueue.x-k8s.io/queue-name" in found["metadata"].get("labels", {})
    if suspended_by_kueue and not spec.get("suspend"):
        yield "Kueue's Jobs begin suspended"
    fewest = found["metadata"].get("annotations", {}).get("kueue.x-k8s.io/job-min-parallelism")
    if fewest is not None and not 1 <= int(fewest) < spec["parallelism"]:
        yield "job-min-parallelism is below parallelism"


def _rule(rule: dict[str, Any], spec: dict[str, Any], containers: list[str]) -> Iterator[str]:
    codes, conditions = rule.get("onExitCodes"), rule.get("onPodConditions")
    if bool(codes) == bool(conditions):
        yield f"{rule}: one of onExitCodes and onPodConditions"
    if rule["action"] == "FailIndex" and "backoffLimitPerIndex" not in spec:
        yield "FailIndex goes with backoffLimitPerIndex"
    if codes:
        values = codes["values"]
        if codes["operator"] not in ("In", "NotIn") or (codes["operator"] == "In" and 0 in values):
            yield f"{codes}: In or NotIn, and never In 0"
        if values != sorted(set(values)) or not 1 <= len(values) <= 255:
            yield f"{values}: sorted, each once"
        if codes.get("containerName", containers[0]) not in containers:
            yield f"{codes}: no such container"


def _cron_job(found: dict[str, Any]) -> Iterator[str]:
    if found["kind"] == "CronJob":
        zone = found["spec"].get("timeZone")
        if zone is not None and zone not in zoneinfo.available_timezones():
            yield f"{zone!r} is no time zone"


def _network(found: dict[str, Any]) -> Iterator[str]:
    if found["kind"] != "NetworkPolicy":
        return
    for direction, side in (("ingress", "from"), ("egress", "to")):
        for rule in found["spec"].get(direction, []):
            if direction.title() not in found["spec"]["policyTypes"]:
                yield f"{direction} rules without the type"
            for block in [peer["ipBlock"] for peer in rule.get(side, []) if "ipBlock" in peer]:
                whole = ipaddress.ip_network(block["cidr"])
                for part in map(ipaddress.ip_network, block.get("except", [])):
                    if part.version != whole.version or not part.subnet_of(whole):  # type: ignore[arg-type]
                        yield f"{part} is not within {whole}"


def _pod(spec: dict[str, Any]) -> Iterator[str]:
    volumes = [volume["name"] for volume in spec.get("volumes", [])]
    if len(volumes) != len(set(volumes)) or not all(re.fullmatch(LABEL, name) for name in volumes):
        yield f"{volumes}: names, each once"
    for volume in spec.get("volumes", []):
        if len(volume) != 2:
            yield f"{volume}: one source"
        if "sizeLimit" in volume.get("emptyDir", {}):
            quantity(volume["emptyDir"]["sizeLimit"])
    for container in spec["containers"] + spec.get("initContainers", []):
        yield from _container(container, volumes)
    for toleration in spec.get("tolerations", []):
        if toleration.get("operator", "Equal") not in ("Exists", "Equal"):
            yield f"{toleration}: Exists or Equal"


def _container(container: dict[str, Any], volumes: list[str]) -> Iterator[str]:
    if not re.fullmatch(IMAGE, container["image"]):
        yield f"{container['image']!r}: a tag that is not latest, or a digest"
    mounts = container.get("volumeMounts", [])
    if len({mount["mountPath"] for mount in mounts}) != len(mounts):
        yield "two mounts at one path"
    for mount in mounts:
        if mount["name"] not in volumes or ":" in mount["mountPath"]:
            yield f"{mount}: no such volume, or no path"
    names = [variable["name"] for variable in container.get("env", [])]
    if len(names) != len(set(names)) or not all(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) for name in names):
        yield f"{names}: names, each once"
    for variable in container.get("env", []):
        if ("value" in variable) == ("valueFrom" in variable):
            yield f"{variable}: a value or where it is from"
    requests, limits = (container.get("resources", {}).get(part, {}) for part in ("requests", "limits"))
    for name in {*requests, *limits}:
        asked, most = (quantity(part[name]) if name in part else None for part in (requests, limits))
        if asked is not None and most is not None and asked > most:
            yield f"{name}: more requested than the limit"
        if "/" in name and (asked != most or asked != int(asked or 0)):
            yield f"{name}: whole numbers, the same in both"

"""What an API server does with objects: checks them by the schema, fills in defaults, merges patches, refuses changes.

By what Kubernetes documents for 1.36, and in the words that it answers with. `api.py` speaks HTTP before it.
"""

import copy
import functools
import re
from collections.abc import Iterator
from typing import Any

import kubernetes_validate
from kubernetes_validate import utils

VERSION = "1.36"
MANAGED = ("batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name", "controller-uid", "job-name")
"""Labels that a Job's pods get from the server; nobody else may choose them."""
FROZEN = ("completions", "selector", "completionMode", "podFailurePolicy", "backoffLimitPerIndex", "template")
"""Fields of a Job's spec that stay as they were created."""
KEYS = {"ownerReferences": "uid", "containers": "name", "env": "name", "volumes": "name", "volumeMounts": "mountPath"}
"""Lists whose items a strategic merge tells apart, by this field."""
DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
DNS_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")

utils.schema_contents = functools.cache(utils.schema_contents)

Object = dict[str, Any]


class RefusedError(Exception):
    """The request fails with a Status object of this code."""

    def __init__(self, code: int, reason: str, message: str, **details: Any) -> None:
        super().__init__(message)
        self.code, self.reason, self.message, self.details = code, reason, message, details


def invalid(obj: Object, *causes: tuple[str, str, str]) -> RefusedError:
    """422, as for an object that is well formed and makes no sense. causes: field, reason, message."""
    kind, name = obj["kind"], obj["metadata"]["name"]
    shown = f"{kind}.batch" if kind == "Job" else kind
    listed = [{"reason": reason, "message": message, "field": field} for field, reason, message in causes]
    said = ", ".join(f"{field}: {message}" for field, _, message in causes)
    if len(causes) > 1:
        said = f"[{said}]"
    return RefusedError(422, "Invalid", f'{shown} "{name}" is invalid: {said}', kind=kind, name=name, causes=listed)


def check_new(obj: Object, strict: bool) -> None:
    """Raises RefusedError where the server would not create `obj`. strict: as with fieldValidation=Strict."""
    _check_schema(obj, strict)
    causes = list(_job_causes(obj) if obj["kind"] == "Job" else ())
    if not DNS_NAME.fullmatch(obj["metadata"]["name"]):
        message = (
            f'Invalid value: "{obj["metadata"]["name"]}": a lowercase RFC 1123 subdomain must consist of lower case'
        )
        causes.append(("metadata.name", "FieldValueInvalid", message))
    for key, value in obj["metadata"].get("labels", {}).items():
        if not re.fullmatch(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?", value):
            message = f'Invalid value: "{value}": a valid label must be an empty string or consist of alphanumeric'
            causes.append(("metadata.labels", "FieldValueInvalid", f"{message} characters ({key})"))
    if obj["kind"] == "ConfigMap" and sum(len(v.encode()) for v in obj.get("data", {}).values()) > 2**20:
        causes.append(("", "FieldValueTooLong", "Too long: may not be more than 1048576 bytes"))
    if causes:
        raise invalid(obj, *causes)


def _check_schema(obj: Object, strict: bool) -> None:
    head = f'{obj["kind"]} in version "{obj["apiVersion"].rpartition("/")[2]}" cannot be handled as a {obj["kind"]}'
    try:
        kubernetes_validate.validate(obj, VERSION, strict=strict)
    except kubernetes_validate.ValidationError as error:
        path = ".".join(map(str, error.absolute_path))
        if error.validator == "additionalProperties":
            fields = re.findall(r"'([^']+)'", error.message)
            said = ", ".join(f'unknown field "{path}.{field}"' for field in fields)
            raise RefusedError(400, "BadRequest", f"{head}: strict decoding error: {said}") from None
        found = type(error.instance).__name__
        message = f"{head}: json: cannot unmarshal {found} into Go struct field {path} of type {error.validator_value}"
        raise RefusedError(400, "BadRequest", message) from None


def _job_causes(job: Object) -> Iterator[tuple[str, str, str]]:
    """What the schema does not say, of what `render` makes use of."""
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    required = ("FieldValueRequired", "Required value")
    if not DNS_LABEL.fullmatch(job["metadata"]["name"]):
        yield "metadata.name", "FieldValueInvalid", "Invalid value: must be no more than 63 characters"
    if spec.get("completionMode") == "Indexed" and spec.get("completions") is None:
        yield ("spec.completions", required[0], f"{required[1]}: when completion mode is Indexed")
    if "backoffLimitPerIndex" in spec and spec.get("completionMode") != "Indexed":
        yield "spec.backoffLimitPerIndex", "FieldValueInvalid", "Invalid value: requires indexed completion mode"
    if pod.get("restartPolicy", "Always") not in ("Never", "OnFailure"):
        supported = 'supported values: "OnFailure", "Never"'
        yield (
            "spec.template.spec.restartPolicy",
            "FieldValueNotSupported",
            f'Unsupported value: "{pod.get("restartPolicy", "Always")}": {supported}',
        )
    names = [container["name"] for container in pod["containers"]]
    volumes = [volume["name"] for volume in pod.get("volumes", [])]
    for index, container in enumerate(pod["containers"]):
        for at, mount in enumerate(container.get("volumeMounts", [])):
            if mount["name"] not in volumes:
                field = f"spec.template.spec.containers[{index}].volumeMounts[{at}].name"
                yield field, "FieldValueNotFound", f'Not found: "{mount["name"]}"'
        for resource, limit in container.get("resources", {}).get("requests", {}).items():
            if "/" in resource and container["resources"].get("limits", {}).get(resource) != limit:
                field = f"spec.template.spec.containers[{index}].resources.limits"
                yield field, "FieldValueRequired", "Required value: Limit must be set for non overcommitable resources"
    if not names:
        yield "spec.template.spec.containers", *required
    rules = spec.get("podFailurePolicy", {}).get("rules", [])
    for index, rule in enumerate(rules):
        at = f"spec.podFailurePolicy.rules[{index}]"
        wanted = rule.get("onExitCodes", {}).get("containerName")
        if wanted is not None and wanted not in names:
            yield f"{at}.onExitCodes.containerName", "FieldValueInvalid", f'Invalid value: "{wanted}": must be one of'
        if rule["action"] not in ("FailJob", "FailIndex", "Ignore", "Count"):
            yield f"{at}.action", "FieldValueNotSupported", f'Unsupported value: "{rule["action"]}"'
        if rule["action"] == "FailIndex" and "backoffLimitPerIndex" not in spec:
            yield f"{at}.action", "FieldValueInvalid", "Invalid value: requires the backoffLimitPerIndex to be set"
    if rules and pod.get("restartPolicy") != "Never":
        yield "spec.podFailurePolicy", "FieldValueInvalid", 'Invalid value: only allowed with restartPolicy "Never"'
    if rules and spec.get("podReplacementPolicy", "Failed") != "Failed":
        yield "spec.podReplacementPolicy", "FieldValueNotSupported", 'Unsupported value: supported values: "Failed"'
    if "selector" in spec and not spec.get("manualSelector"):
        yield "spec.selector", "FieldValueInvalid", "Invalid value: `selector` not auto-generated"


def fill_in(obj: Object) -> None:
    """The defaults that a new object gets."""
    if obj["kind"] != "Job":
        return
    spec, name, uid = obj["spec"], obj["metadata"]["name"], obj["metadata"]["uid"]
    generated = dict(zip(MANAGED, (uid, name, uid, name), strict=True))
    template = spec["template"]
    template.setdefault("metadata", {}).setdefault("labels", {}).update(generated)
    spec["selector"] = {"matchLabels": {MANAGED[0]: uid}}
    for field, value in {"parallelism": 1, "completions": 1, "suspend": False, "completionMode": "NonIndexed"}.items():
        spec.setdefault(field, value)
    spec.setdefault("backoffLimit", 2**31 - 1 if "backoffLimitPerIndex" in spec else 6)
    spec.setdefault("podReplacementPolicy", "Failed" if "podFailurePolicy" in spec else "TerminatingOrFailed")
    pod = template["spec"]
    pod |= {"dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler"} | pod
    for container in pod["containers"]:
        container.setdefault("imagePullPolicy", "IfNotPresent")
        container.setdefault("terminationMessagePath", "/dev/termination-log")
    obj.setdefault("status", {})


def check_change(old: Object, new: Object) -> None:
    """Raises RefusedError where `new` changes what stays as it was created."""
    kind = old["kind"]
    if kind == "ConfigMap" and old.get("immutable"):
        for field in ("data", "binaryData", "immutable"):
            if old.get(field) != new.get(field):
                message = "Forbidden: field is immutable when `immutable` is set"
                raise invalid(old, (field, "FieldValueForbidden", message))
    if kind == "Job":
        changed = [field for field in FROZEN if old["spec"].get(field) != new["spec"].get(field)]
        if changed:
            message = "Invalid value: {}: field is immutable"
            raise invalid(old, *((f"spec.{field}", "FieldValueInvalid", message) for field in changed))


def patched(obj: Object, content_type: str, change: Any) -> Object:
    """`obj` after a patch of one of the kinds that there are. Raises RefusedError for another."""
    if content_type == "application/strategic-merge-patch+json":
        return strategically(obj, change)
    if content_type == "application/merge-patch+json":
        return _merged(obj, change)
    if content_type == "application/json-patch+json":
        return _operated(obj, change)
    raise RefusedError(415, "UnsupportedMediaType", "the body of the request was in an unknown format")


def strategically(obj: Any, change: Any, field: str = "") -> Any:
    """A strategic merge; the directives `$patch: delete` and `$patch: replace` are not spoken here."""
    if isinstance(obj, dict) and isinstance(change, dict):
        merged = dict(obj)
        for key, value in change.items():
            if value is None:
                merged.pop(key, None)
            else:
                merged[key] = strategically(merged.get(key), value, key)
        return merged
    if isinstance(obj, list) and isinstance(change, list) and field in KEYS:
        by_key = {item[KEYS[field]]: item for item in obj}
        for item in change:
            by_key[item[KEYS[field]]] = strategically(by_key.get(item[KEYS[field]], {}), item)
        return list(by_key.values())
    return copy.deepcopy(change)


def _merged(obj: Any, change: Any) -> Any:
    """RFC 7386."""
    if not isinstance(change, dict):
        return copy.deepcopy(change)
    merged = dict(obj) if isinstance(obj, dict) else {}
    for key, value in change.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merged(merged.get(key), value)
    return merged


def _operated(obj: Object, operations: Any) -> Object:
    """RFC 6902, as far as add, replace, remove and test."""
    new = copy.deepcopy(obj)
    for operation in operations:
        *way, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
        at: Any = new
        for part in way:
            at = at[int(part) if isinstance(at, list) else part]
        if operation["op"] == "test" and at.get(last) != operation["value"]:
            raise RefusedError(422, "Invalid", "the server rejected our request due to an error in our request")
        if operation["op"] == "remove":
            del at[last]
        elif operation["op"] == "add" and isinstance(at, list):
            at.insert(len(at) if last == "-" else int(last), operation["value"])
        elif operation["op"] in ("add", "replace"):
            at[last] = operation["value"]
    return new

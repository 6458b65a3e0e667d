"""Kubernetes' strategic merge, for pod templates: mappings by key, and some lists by the key of their items.

Which lists, the API's own types say (`patchMergeKey`); all others are replaced, tolerations too. A null removes what
is there; `$patch: delete` removes an item of such a list or empties a mapping, `$patch: replace` puts what stands
beside it in its place.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from classmodels.errors import InputError
from classmodels.job.document import shown

MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "ephemeralContainers": "name",
    "env": "name",
    "ports": "containerPort",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "volumes": "name",
    "imagePullSecrets": "name",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
    "resourceClaims": "name",
    "schedulingGates": "name",
    "ownerReferences": "uid",
}
"""The lists of a pod template that are merged, by their names, which mean the same everywhere in it."""


def strategic_merge(base: Any, patch: Any, at: str = "pod_template") -> Any:
    """`base` with `patch` laid over it; neither is changed. Raises InputError for a patch that cannot be merged."""
    if not isinstance(patch, Mapping):
        return [_plain(item, at) for item in patch] if isinstance(patch, list) else patch
    directive = patch.get("$patch")
    if directive not in (None, "merge", "replace", "delete"):
        raise InputError(f"cluster.{at}: found $patch: {shown(directive)}, expected merge, replace or delete")
    if directive == "delete":
        return {}
    merged = dict(base) if isinstance(base, Mapping) and directive != "replace" else {}
    for key, value in patch.items():
        if key == "$patch":
            continue
        if key.startswith("$"):
            raise InputError(f"cluster.{at}: found {key}, expected fields of a pod template or $patch")
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, list) and key in MERGE_KEYS:
            merged[key] = _merge_items(merged.get(key, []), value, key, f"{at}.{key}")
        else:
            merged[key] = strategic_merge(merged.get(key), value, f"{at}.{key}")
    return merged


def _merge_items(base: Sequence[Any], patch: Sequence[Any], name: str, at: str) -> list[Any]:
    """The items of `base`, each merged with that of `patch` of the same key; then those that are new."""
    key = MERGE_KEYS[name]
    if {"$patch": "replace"} in patch:
        base, patch = [], [item for item in patch if item != {"$patch": "replace"}]
    merged = {item[key]: item for item in base}
    for index, item in enumerate(patch):
        if not isinstance(item, Mapping) or not isinstance(item.get(key), (str, int)):
            raise InputError(f"cluster.{at}.{index}: found {shown(item)}, expected a mapping with {key!r}")
        if item.get("$patch") == "delete":
            merged.pop(item[key], None)
            continue
        merged[item[key]] = strategic_merge(merged.get(item[key], {}), item, f"{at}.{index}")
    return list(merged.values())


def _plain(item: Any, at: str) -> Any:
    return strategic_merge({}, item, at) if isinstance(item, Mapping) else item

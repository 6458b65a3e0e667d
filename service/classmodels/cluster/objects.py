"""The objects of a run: an Indexed Job, and the immutable ConfigMap with what its workers start from.

Pure: plain dicts as the Kubernetes API has them, from the plan's digest and the settings. `client.py` sends them,
`render` prints them.
"""

import copy
import json
import math
from dataclasses import dataclass
from typing import Any

from classmodels.cluster.merge import strategic_merge
from classmodels.cluster.names import (
    ANNOTATION_OUTPUT,
    ANNOTATION_UNITS,
    LABEL_ATTEMPT,
    LABEL_JOB,
    LABEL_RUN,
    job_name,
    labels,
)
from classmodels.cluster.site import PARALLELISM, Settings, quantity, shards_of
from classmodels.errors import InputError

CONTAINER = "worker"
ENVIRONMENT = "classmodels-env"
"""The ConfigMap whose data are the workers' environment, where there is one: how to reach S3, proxies."""
MANIFEST = "manifest.json"
"""The key of a run's ConfigMap with its Job as it was made, before servers and controllers wrote into it."""
JOB_FOLDER = "/etc/classmodels"
SCRATCH = "/tmp"
"""Where programs look for a place to write anyway; everything else of the container is read-only."""
SHM = "1Gi"
GRACE = 30
RETRIES_PER_SHARD = 3

QUEUE = "kueue.x-k8s.io/queue-name"
MIN_PARALLELISM = "kueue.x-k8s.io/job-min-parallelism"
LABEL_JOB_UID = "batch.kubernetes.io/controller-uid"
"""By which a Job knows its pods: a name may have been that of another one."""

# First match wins. A pod that its node took away does not count; every other way to end, an OOM kill too, does.
FAILURE_POLICY = {
    "rules": [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        *(
            {"action": action, "onExitCodes": {"containerName": CONTAINER, "operator": "In", "values": [code]}}
            for code, action in (
                (2, "FailJob"),  # the job file is wrong: no pod will do better
                (3, "FailIndex"),  # some units failed, and would again
                (130, "Ignore"),  # stopped, and its state is saved
            )
        ),
    ]
}
# By which a worker knows where its log goes.
_OF_THE_POD = {
    "POD_NAME": "metadata.name",
    "CLASSMODELS_JOB_NAME": "metadata.labels['batch.kubernetes.io/job-name']",
    "CLASSMODELS_JOB_UID": f"metadata.labels['{LABEL_JOB_UID}']",
}


@dataclass(frozen=True)
class RunObjects:
    """What a run is on the cluster; both have the same name."""

    config_map: dict[str, Any]
    job: dict[str, Any]


def run_objects(
    *,
    name: str,
    run12: str,
    units: int,
    output: str,
    job_yaml: str,
    inputs_json: str,
    settings: Settings,
    suspend: bool = False,
) -> RunObjects:
    """The objects of the job called `name`, whose plan of `units` units is `run12`.

    Under Kueue the Job is always suspended, as Kueue asks, and Kueue alone lets it start. Raises InputError for a
    pod_template that breaks the Job.
    """
    own = {"name": job_name(name, run12), "namespace": settings.namespace}
    marks = labels(name, run12)
    annotations = {ANNOTATION_OUTPUT: output, ANNOTATION_UNITS: str(units)}
    shards = shards_of(settings, units)
    job: dict[str, Any] = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": own | {"labels": dict(marks), "annotations": dict(annotations)},
        "spec": {
            "completionMode": "Indexed",
            "completions": shards,
            "parallelism": min(settings.parallelism or PARALLELISM, shards),
            "backoffLimitPerIndex": RETRIES_PER_SHARD,
            "podFailurePolicy": FAILURE_POLICY,
            "podReplacementPolicy": "Failed",
            "ttlSecondsAfterFinished": settings.ttl,
            "suspend": suspend or settings.queue is not None,
            "template": _pod_template(own["name"], run12, shards, marks, settings),
        },
    }
    if settings.queue is not None:
        job["metadata"]["labels"][QUEUE] = settings.queue
        # Fewer pods at once than asked for will do. Kueue refuses the annotation where there can be no fewer.
        if job["spec"]["parallelism"] > 1:
            job["metadata"]["annotations"][MIN_PARALLELISM] = "1"
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": own | {"labels": marks, "annotations": annotations},
        "immutable": True,
        "data": {"job.yaml": job_yaml, "inputs.json": inputs_json, MANIFEST: json.dumps(job)},
    }
    return RunObjects(config_map, job)


def retried(job: dict[str, Any], number: int) -> dict[str, Any]:
    """The Job of a run's retry `number`, suspended: as `job` by another name, from the same ConfigMap."""
    again = copy.deepcopy(job)
    meta, template = again["metadata"], again["spec"]["template"]["metadata"]
    meta["name"] = job_name(meta["labels"][LABEL_JOB], meta["labels"][LABEL_RUN], number)
    meta["labels"][LABEL_ATTEMPT] = template["labels"][LABEL_ATTEMPT] = str(number)
    again["spec"]["suspend"] = True
    return again


def _pod_template(job: str, run12: str, shards: int, marks: dict[str, str], settings: Settings) -> dict[str, Any]:
    command = ["classmodels", "worker", "--job", f"{JOB_FOLDER}/job.yaml", "--shards", str(shards), "--run", run12]
    gpus = {settings.gpu_resource: str(settings.gpus)} if settings.gpus else {}
    container = {
        "name": CONTAINER,
        "image": settings.image,
        "command": command + (["--require-cuda"] if gpus else []),
        "envFrom": [
            {"configMapRef": {"name": ENVIRONMENT, "optional": True}},
            {"secretRef": {"name": settings.s3_secret, "optional": True}},
        ],
        "env": _environment(settings),
        "resources": {"requests": settings.requests | gpus, "limits": settings.limits | gpus},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "privileged": False,
            "readOnlyRootFilesystem": True,
        },
        # What the container printed last, where it ended without a word of its own: `kubectl describe` shows it.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "job", "mountPath": JOB_FOLDER, "readOnly": True},
            {"name": "scratch", "mountPath": SCRATCH},
            {"name": "shm", "mountPath": "/dev/shm"},
            *settings.mounts,
        ],
    }
    spec = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": GRACE,
        "serviceAccountName": settings.service_account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        # No user and no group: any that is not root will do, such as the image's or one the cluster chooses.
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [
            {"name": "job", "configMap": {"name": job}},
            {"name": "scratch", "emptyDir": {"sizeLimit": settings.limits["ephemeral-storage"]}},
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": SHM}},
            *settings.volumes,
        ],
    }
    if settings.priority_class:
        spec["priorityClassName"] = settings.priority_class
    if settings.node_selector:
        spec["nodeSelector"] = settings.node_selector
    if settings.tolerations:
        spec["tolerations"] = settings.tolerations
    template: dict[str, Any] = {"metadata": {"labels": dict(marks)}, "spec": spec}
    for patch in settings.pod_templates:
        template = strategic_merge(template, patch)
    _check_template(template)
    return template


def _environment(settings: Settings) -> list[dict[str, Any]]:
    """What every worker is told. TORCH_HOME, HF_HOME and CLASSMODELS_CACHE are not: they are found below these, unless
    an image or the site's environment brings weights along and says where."""
    processors = settings.limits.get("cpu", settings.requests["cpu"])
    scratch = quantity(settings.limits["ephemeral-storage"])
    values = {
        "HOME": SCRATCH,
        "TMPDIR": SCRATCH,
        "XDG_CACHE_HOME": f"{SCRATCH}/cache",
        # A quarter of scratch is left for the job's inputs; who fills it to the brim is evicted.
        "CLASSMODELS_CACHE_SIZE": str(int(scratch * 3 / 4)),
        # As many threads on every node, however large: a shard goes on from its saved state only with as many.
        "OMP_NUM_THREADS": str(max(1, math.floor(quantity(processors)))),
    }
    _, separator, digest = settings.image.partition("@")
    if separator:
        values["CLASSMODELS_IMAGE_DIGEST"] = digest
    return [
        *({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in _OF_THE_POD.items()),
        *({"name": name, "value": value} for name, value in values.items()),
    ]


def _check_template(template: dict[str, Any]) -> None:
    """Raises InputError where a patch took away what the Job's failure policy counts on."""
    spec = template["spec"]
    if spec.get("restartPolicy") != "Never":
        raise InputError(
            "cluster.pod_template.spec.restartPolicy: expected Never, which the Job's failure policy needs"
        )
    if CONTAINER not in [container.get("name") for container in spec.get("containers", [])]:
        raise InputError(
            f"cluster.pod_template.spec.containers: expected one called {CONTAINER!r}, which does the work"
        )

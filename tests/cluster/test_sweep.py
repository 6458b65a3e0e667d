"""What is left of old runs in a namespace is swept up, and nothing that somebody needs."""

from datetime import UTC, datetime, timedelta

from classmodels.cluster.connect import connect
from classmodels.cluster.names import labels
from classmodels.cluster.sweep import AGE, sweep
from kube.api import NAMESPACE, StandIn

RUN = "abcdefabcdef"


def config_map(api: StandIn, name: str, *, old: bool, **meta: object) -> None:
    created = datetime.now(UTC) - (2 * AGE if old else timedelta(minutes=5))
    about = {"name": name, "namespace": NAMESPACE, "creationTimestamp": f"{created:%Y-%m-%dT%H:%M:%SZ}"}
    api.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": about | meta})


def test_only_old_config_maps_of_runs_that_have_no_job_and_no_owner_go(api: StandIn) -> None:
    mine = {"labels": labels("nightly", RUN)}
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "nightly", "uid": "gone"}
    config_map(api, "left-behind", old=True, **mine)
    config_map(api, "just-made", old=False, **mine)
    config_map(api, "owned", old=True, ownerReferences=[owner], **mine)
    config_map(api, "somebody-elses", old=True)
    config_map(api, "at-work", old=True, labels=labels("nightly", "0" * 12))
    api.put(
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": "at-work", "namespace": NAMESPACE, "labels": labels("nightly", "0" * 12)},
        }
    )
    cluster = connect(None, NAMESPACE, NAMESPACE)
    assert sweep(cluster) == ["left-behind"]
    assert {one["metadata"]["name"] for one in api.all("ConfigMap")} == {
        "just-made",
        "owned",
        "somebody-elses",
        "at-work",
    }
    assert sweep(cluster) == []

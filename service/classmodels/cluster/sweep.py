"""What is left of old runs in a namespace: ConfigMaps that no Job owns, of runs that have no Job any more.

A run that was `render`ed leaves one when its Job is gone, and so does a submission that was cut off before its Job.
"""

from datetime import UTC, datetime, timedelta

from classmodels.cluster.attempts import moment
from classmodels.cluster.client import Cluster
from classmodels.cluster.names import LABEL_NAME, LABEL_RUN
from classmodels.cluster.submit import owners

AGE = timedelta(days=1)
"""Younger ones may be those of a submission under way, or of a Job that is applied next."""


def sweep(cluster: Cluster) -> list[str]:
    """Delete them and return their names. Raises ClusterError."""
    selector = f"{LABEL_NAME}=classmodels,{LABEL_RUN}"
    maps = [one for one in cluster.list("ConfigMap", selector) if not owners(one) and _is_old(one["metadata"])]
    if not maps:
        return []
    alive = {job["metadata"]["labels"][LABEL_RUN] for job in cluster.list("Job", selector)}
    gone = [one["metadata"] for one in maps if one["metadata"]["labels"][LABEL_RUN] not in alive]
    return [str(meta["name"]) for meta in gone if cluster.delete("ConfigMap", meta["name"], str(meta["uid"]))]


def _is_old(meta: dict[str, str]) -> bool:
    created = moment(meta.get("creationTimestamp"))
    return created is not None and datetime.now(UTC) - created > AGE

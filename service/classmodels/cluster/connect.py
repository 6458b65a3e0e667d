"""Which cluster is meant: a context of the kube config, or the cluster that this process itself runs in.

The official client reads the kube config and has programs get credentials; what is wrong with it is told in a sentence.
"""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies_environment

from urllib3.exceptions import HTTPError

from classmodels.cluster.answers import plain
from classmodels.cluster.client import Cluster
from classmodels.errors import ClusterError
from classmodels.models.remote.uri import is_loopback

CONNECTIONS = 64
"""That are kept open: logs are read, and followed, side by side."""


def connect(context: str | None = None, namespace: str | None = None, default: str = "default") -> Cluster:
    """The cluster that the kube config means, or the one that this process runs in. Nothing is asked of it yet.

    context: of the kube config; its current one if None. namespace: the context's if None, and `default` where that
    names none. Raises ClusterError.
    """
    try:
        from kubernetes.client import ApiClient, Configuration
    except ImportError:
        raise ClusterError("the Kubernetes client is not installed: pip install 'classmodels[cluster]'") from None
    configuration = Configuration()
    named, found = _configure(configuration, context)
    # Redirects are not followed, and what may be tried again is decided here.
    configuration.retries = False
    configuration.connection_pool_maxsize = CONNECTIONS
    usual = found or default
    place = ["--context", context] if context else []
    if namespace not in (None, usual):
        place += ["--namespace", str(namespace)]
    try:
        client = ApiClient(configuration)
    except HTTPError as error:
        raise ClusterError(
            f"the proxy to the API server {configuration.host} cannot be used: {plain(str(error), 200)}; expected"
            " http://HOST:PORT in HTTPS_PROXY, or as proxy-url in the kube config"
        ) from None
    return Cluster(client, namespace or usual, named, place)


def _configure(configuration: Any, context: str | None) -> tuple[str, str | None]:
    """Fill in `configuration`; the context's name and namespace."""
    from kubernetes.config import ConfigException, list_kube_config_contexts, load_incluster_config, load_kube_config
    from kubernetes.config.kube_config import KubeConfigMerger

    files = os.environ.get("KUBECONFIG") or str(Path("~/.kube/config").expanduser())
    there = [file for file in files.split(os.pathsep) if file and Path(file).expanduser().exists()]
    if not there:
        if context is None and os.environ.get("KUBERNETES_SERVICE_HOST"):
            return _in_cluster(load_incluster_config, ConfigException, configuration)
        raise ClusterError(
            f"there is no cluster to ask: found no kube config at {files}; set KUBECONFIG, or have one made by whoever"
            " runs the cluster (`classmodels render` needs none)"
        )
    try:
        contexts, current = list_kube_config_contexts(files)
        names = [str(one.get("name")) for one in contexts]
        if context is not None and context not in names:
            raise ClusterError(f"--context {context}: the kube config {files} has only {', '.join(names) or 'none'}")
        with _Hearing() as complaints:
            load_kube_config(files, context, configuration)
        chosen = next((one for one in contexts if one["name"] == context), current)
        clusters = KubeConfigMerger(files).config["clusters"]
        _set_proxy(configuration, clusters.get_with_name(chosen["context"]["cluster"])["cluster"].safe_get("proxy-url"))
    except ClusterError:
        raise
    except ConfigException as error:
        raise ClusterError(f"the kube config {files} cannot be used: {plain(str(error), 200)}") from None
    except Exception as error:  # the client lets through whatever a file that is no kube config makes it stumble over
        raise ClusterError(f"{files} cannot be used, expected a kube config [{type(error).__name__}]") from None
    if complaints:
        raise ClusterError(
            f"the kube config {files} has a program that gets credentials for the context {chosen['name']}, and it"
            " failed: log in again, or run it by hand to see why (`kubectl config view --minify` shows it)"
        )
    return str(chosen["name"]), (chosen.get("context") or {}).get("namespace")


def _set_proxy(configuration: Any, named: str | None) -> None:
    """The proxy to the server, as kubectl chooses it: what the kube config names, else the environment's.

    The client itself would take HTTP_PROXY before HTTPS_PROXY, and forget NO_PROXY.
    """
    server, found = urlsplit(configuration.host), getproxies_environment()
    proxy = named or (None if is_loopback(server.hostname or "") else found.get(server.scheme))
    configuration.proxy = f"http://{proxy}" if proxy and "://" not in proxy else proxy
    configuration.no_proxy = None if named else found.get("no")


def _in_cluster(load: Callable[..., None], refused: type[Exception], configuration: Any) -> tuple[str, str | None]:
    """As a pod that runs in the cluster itself: no proxy stands between it and its API server."""
    configuration.proxy = None
    try:
        load(configuration)
    except refused as error:
        raise ClusterError(
            f"this pod has no access to its cluster: {plain(str(error), 200)} Give it a service account whose token is"
            " mounted"
        ) from None
    own = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
    return "in-cluster", own.read_text().strip() if own.is_file() else None


class _Hearing(logging.Handler):
    """Collects what the client's kube config reader logs: a credentials program that fails is nothing else to it."""

    def __enter__(self) -> list[str]:
        self.heard: list[str] = []
        logging.getLogger().addHandler(self)
        return self.heard

    def __exit__(self, *error: object) -> None:
        logging.getLogger().removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR:
            self.heard.append(record.getMessage())

"""The API behind one class: what goes through, what is tried again, and every failure as one sentence."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from classmodels.cluster import client
from classmodels.cluster.client import Cluster
from classmodels.cluster.connect import connect
from classmodels.errors import ClusterError
from kube.api import NAMESPACE, TOKEN, StandIn, answer_lost, passed, reset, silent, status, web_page
from web import CERTIFICATE, WebServer

CONFIG_MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one"}, "data": {"a": "b"}}
JOB = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "metadata": {"name": "one"},
    "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "b"}]}}},
}


@pytest.fixture
def cluster(api: StandIn) -> Cluster:
    return connect()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "PAUSES", (0.01, 0.02))


def refused(act: Callable[[], Any]) -> ClusterError:
    """The error that `act` ends with: one sentence without a secret."""
    with pytest.raises(ClusterError) as caught:
        act()
    assert "\n" not in str(caught.value)
    assert TOKEN not in str(caught.value)
    return caught.value


def configure(tmp_path: Path, text: str) -> None:
    (tmp_path / "kube.yaml").write_text(text)


# What goes through


def test_objects_come_back_as_the_api_has_them(cluster: Cluster) -> None:
    created = cluster.create(CONFIG_MAP)
    assert created["metadata"]["uid"]
    assert cluster.get("ConfigMap", "one") == created
    assert cluster.get("ConfigMap", "two") is None
    assert cluster.delete("ConfigMap", "one", created["metadata"]["uid"])
    assert not cluster.delete("ConfigMap", "one", created["metadata"]["uid"])


def test_another_object_of_the_same_name_is_not_deleted(cluster: Cluster, api: StandIn) -> None:
    cluster.create(CONFIG_MAP)
    assert not cluster.delete("ConfigMap", "one", "the-uid-of-one-before")
    assert api.get("ConfigMap", "one")


def test_a_deleted_job_takes_its_pods_with_it(cluster: Cluster, api: StandIn) -> None:
    """The API's own default would leave them running."""
    uid = cluster.create(JOB)["metadata"]["uid"]
    api.put({"kind": "Pod", "metadata": {"name": "pod", "ownerReferences": [{"uid": uid}]}, "status": {}})
    cluster.delete("Job", "one", uid)
    api.collect_garbage()
    assert not api.all("Pod")


def test_a_second_owner_goes_beside_the_first(cluster: Cluster) -> None:
    cluster.create(CONFIG_MAP)
    for uid in ("1", "2"):
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": f"job-{uid}", "uid": uid}
        changed = cluster.patch("ConfigMap", "one", {"metadata": {"ownerReferences": [owner]}})
    assert [owner["uid"] for owner in changed["metadata"]["ownerReferences"]] == ["1", "2"]


def test_a_dry_run_makes_nothing(cluster: Cluster, api: StandIn) -> None:
    assert cluster.create(JOB, dry_run=True)["spec"]["completions"] == 1
    assert not api.objects


def test_all_pages_of_a_list_come(cluster: Cluster, api: StandIn) -> None:
    api.page = 7
    for number in range(30):
        api.put({"kind": "Job", "metadata": {"name": f"job-{number:02}", "labels": {"a": "b"}}})
    assert [job["metadata"]["name"] for job in cluster.list("Job", {"a": "b"})] == [f"job-{n:02}" for n in range(30)]
    assert api.seen == ["GET jobs"] * 5


def test_a_list_that_is_too_old_to_go_on_begins_again(cluster: Cluster, api: StandIn) -> None:
    api.page = 7
    for number in range(10):
        api.put({"kind": "Job", "metadata": {"name": f"job-{number:02}"}})
    api.next(passed, status(410, "Expired"))
    assert len(cluster.list("Job")) == 10
    assert api.seen == ["GET jobs"] * 4


def test_what_the_server_warns_of_is_kept(cluster: Cluster, api: StandIn) -> None:
    api.warning = 'would violate PodSecurity "restricted:latest"'
    cluster.create(JOB)
    assert cluster.warnings == [api.warning]


# What is tried again


@pytest.mark.parametrize("fault", [reset, status(500, "InternalError"), status(503, "Down"), status(429, "Busy")])
def test_what_passes_by_itself_is_tried_again(cluster: Cluster, api: StandIn, quick: None, fault: Any) -> None:
    cluster.list("Job")
    api.next(fault, fault)
    assert cluster.list("Job") == []


def test_a_server_that_asks_to_be_left_alone_is_left_alone(cluster: Cluster, api: StandIn, quick: None) -> None:
    api.next(status(429, "TooManyRequests", retry_after=1))
    began = time.monotonic()
    cluster.list("Job")
    assert 1 <= time.monotonic() - began < 3


def test_an_object_whose_answer_was_lost_is_there_already(cluster: Cluster, api: StandIn, quick: None) -> None:
    cluster.list("Job")
    api.next(answer_lost)
    error = refused(lambda: cluster.create(JOB))
    assert (error.status, error.reason) == (409, "AlreadyExists")


def test_a_server_that_stays_down_is_told(cluster: Cluster, api: StandIn, quick: None) -> None:
    api.usual = status(503, "ServiceUnavailable", "apiserver is shutting down")
    error = refused(lambda: cluster.list("Job"))
    assert error.passing
    assert "apiserver is shutting down" in str(error)


def test_a_server_that_says_nothing_is_given_up(
    cluster: Cluster, api: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(client._RAW, "_request_timeout", (1, 0.3))
    api.usual = silent
    began = time.monotonic()
    error = refused(lambda: cluster.list("Job"))
    assert time.monotonic() - began < 3
    assert "did not answer in time" in str(error)
    assert error.exit_code == 4


# What is refused


def test_nobody_listens(api: StandIn, tmp_path: Path) -> None:
    api.stop()
    error = refused(lambda: connect().list("Job"))
    assert f"cannot reach the API server {api.url}: the connection is refused" in str(error)
    assert "context lab" in str(error)
    assert error.exit_code == 4


def test_a_host_that_no_name_server_knows(api: StandIn, tmp_path: Path) -> None:
    configure(tmp_path, api.kube_config().replace("localhost", "nowhere.invalid"))
    assert "the name of its host cannot be resolved" in str(refused(lambda: connect().list("Job")))


def test_a_certificate_that_nobody_trusts(tmp_path: Path, api: StandIn) -> None:
    secure = StandIn(tls=True)
    try:
        configure(tmp_path, secure.kube_config())
        assert "its certificate is not trusted (self-signed" in str(refused(lambda: connect().list("Job")))
        configure(tmp_path, secure.kube_config(**{"certificate-authority": str(CERTIFICATE)}))
        assert connect().list("Job") == []
    finally:
        secure.stop()


def test_a_server_without_tls(api: StandIn, tmp_path: Path) -> None:
    configure(tmp_path, api.kube_config().replace("http://", "https://"))
    assert "speaks no TLS" in str(refused(lambda: connect().list("Job")))


def test_credentials_that_the_server_does_not_know(api: StandIn, tmp_path: Path) -> None:
    configure(tmp_path, api.kube_config(token=f"{TOKEN}-of-yesterday"))
    error = refused(lambda: connect().list("Job"))
    assert "does not know these credentials, or they have expired; log in again" in str(error)
    assert error.exit_code == 4


def test_a_verb_that_the_user_may_not(cluster: Cluster, api: StandIn) -> None:
    api.forbidden.add(("create", "jobs"))
    error = refused(lambda: cluster.create(JOB))
    assert str(error) == (
        f"cannot create jobs.batch one in the namespace {NAMESPACE} at {api.url}: the user may not; ask whoever runs"
        " the cluster for the verb create on jobs.batch in that namespace [403 Forbidden]"
    )


def test_a_quota_that_is_used_up_is_no_missing_right(cluster: Cluster, api: StandIn) -> None:
    said = 'jobs.batch "one" is forbidden: exceeded quota: jobs, requested: count/jobs.batch=1, used: 9, limited: 9'
    api.next(status(403, "Forbidden", said))
    assert said in str(refused(lambda: cluster.create(JOB)))


def test_a_namespace_that_is_not_there(api: StandIn) -> None:
    error = refused(lambda: connect(namespace="elsewhere").create(CONFIG_MAP))
    assert "the namespace elsewhere" in str(error)
    assert "there is no such namespace; name another with --namespace" in str(error)
    assert error.exit_code == 4


def test_a_change_of_what_stays_is_told_with_its_field(cluster: Cluster) -> None:
    cluster.create(JOB)
    error = refused(lambda: cluster.patch("Job", "one", {"spec": {"completions": 9}}))
    assert "spec.completions: Invalid value" in str(error)
    assert "field is immutable" in str(error)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"template": {**JOB["spec"]["template"], "spce": {}}}, 'unknown field "spec.template.spce"'),
        ({"parallelism": "two"}, "spec.parallelism"),
        ({"backoffLimitPerIndex": 1}, "spec.backoffLimitPerIndex: Invalid value"),
    ],
)
def test_an_object_that_makes_no_sense_is_the_jobs_fault(cluster: Cluster, change: dict[str, Any], said: str) -> None:
    error = refused(lambda: cluster.create(JOB | {"spec": JOB["spec"] | change}))
    assert said in str(error)
    assert "pod_template" in str(error)
    assert error.exit_code == 2


@pytest.mark.parametrize("fault", [web_page, status(302, "Found")])
def test_what_is_no_api_server_is_told(cluster: Cluster, api: StandIn, fault: Any) -> None:
    api.next(fault)
    assert refused(lambda: cluster.list("Job")).exit_code == 4


def test_what_the_server_says_is_made_short_and_plain(cluster: Cluster, api: StandIn) -> None:
    api.next(status(403, "Forbidden", "\x1b[31mred\x07\n" + 10_000 * "x"))
    error = str(refused(lambda: cluster.list("Job")))
    assert "[31mred x" in error
    assert "\x1b" not in error
    assert len(error) < 1000


# Which cluster


def test_the_namespace_is_the_one_asked_for_else_the_contexts_else_ours(api: StandIn, tmp_path: Path) -> None:
    assert connect(namespace="asked").namespace == "asked"
    assert connect(default="ours").namespace == NAMESPACE
    configure(tmp_path, api.kube_config(namespace=None))
    assert connect(default="ours").namespace == "ours"


def test_a_context_that_is_not_there(api: StandIn) -> None:
    error = refused(lambda: connect("elsewhere"))
    assert "--context elsewhere" in str(error)
    assert "only lab" in str(error)


@pytest.mark.parametrize("text", ["", "hello", "a: b", "contexts: 3", "}{", "clusters: []\ncurrent-context: lab"])
def test_a_kube_config_that_is_none(api: StandIn, tmp_path: Path, text: str) -> None:
    configure(tmp_path, text)
    error = refused(connect)
    assert str(tmp_path / "kube.yaml") in str(error)
    assert error.exit_code == 4


def test_without_a_kube_config_there_is_no_cluster(api: StandIn, tmp_path: Path) -> None:
    (tmp_path / "kube.yaml").unlink()
    error = refused(connect)
    assert "there is no cluster to ask" in str(error)
    assert error.exit_code == 4


def test_a_program_for_credentials_that_fails(api: StandIn, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config = yaml.safe_load(api.kube_config())
    arguments = ["-c", f"echo {TOKEN} >&2; exit 1"]
    program = {"apiVersion": "client.authentication.k8s.io/v1", "command": "sh", "args": arguments}
    config["users"][0]["user"] = {"exec": program}
    configure(tmp_path, json.dumps(config))
    assert "has a program that gets credentials for the context lab, and it failed" in str(refused(connect))
    assert TOKEN not in "".join(capfd.readouterr())


def test_without_the_extra_it_is_said_what_to_install(api: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kubernetes.client", None)
    error = refused(connect)
    assert "pip install 'classmodels[cluster]'" in str(error)
    assert error.exit_code == 4


# Which way leads there


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[WebServer]:
    """A proxy that lets nobody through; nothing in the environment leads to it yet."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    server = WebServer()
    yield server
    server.stop()


def through(proxy: WebServer, server: str, config: str, tmp_path: Path, **cluster: Any) -> bool:
    """Whether the API server at `server` is asked for by way of the proxy."""
    proxy.seen.clear()
    text = yaml.safe_load(config)
    text["clusters"][0]["cluster"] |= {"server": server} | cluster
    configure(tmp_path, yaml.safe_dump(text))
    refused(lambda: connect().list("Job"))
    return bool(proxy.seen)


def test_an_https_server_is_asked_by_https_proxy_and_not_by_http_proxy(
    api: StandIn, tmp_path: Path, proxy: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert not through(proxy, "https://api.invalid:6443", api.kube_config(), tmp_path)
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    assert through(proxy, "https://api.invalid:6443", api.kube_config(), tmp_path)
    assert proxy.seen == ["CONNECT api.invalid:6443"]
    monkeypatch.setenv("HTTPS_PROXY", proxy.url.removeprefix("http://"))
    assert through(proxy, "https://api.invalid:6443", api.kube_config(), tmp_path)


@pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy"])
def test_no_proxy_is_heeded(
    api: StandIn, tmp_path: Path, proxy: WebServer, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    monkeypatch.setenv(name, "10.0.0.0/8,.invalid")
    assert not through(proxy, "https://api.invalid:6443", api.kube_config(), tmp_path)


def test_a_cluster_on_this_machine_is_asked_directly(
    api: StandIn, proxy: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    assert connect().list("Job") == []
    assert not proxy.seen


def test_the_kube_configs_own_proxy_comes_first(
    api: StandIn, tmp_path: Path, proxy: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "*")
    way = {"proxy-url": proxy.url}
    assert through(proxy, "https://api.invalid:6443", api.kube_config(), tmp_path, **way)
    assert not through(proxy, "https://api.invalid:6443", api.kube_config(), tmp_path)


def test_a_proxy_of_another_kind_is_told(api: StandIn, tmp_path: Path, proxy: WebServer) -> None:
    configure(tmp_path, api.kube_config(**{"proxy-url": "gopher://127.0.0.1:9"}))
    assert "expected http://HOST:PORT" in str(refused(connect))


def test_a_pod_asks_its_own_api_server_directly(
    api: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proxy: WebServer
) -> None:
    """Whose address no NO_PROXY holds: its environment has a number that nobody could know before."""
    incluster = "kubernetes.config.incluster_config"
    (tmp_path / "kube.yaml").unlink()
    (tmp_path / "token").write_text(TOKEN)
    monkeypatch.setattr(f"{incluster}.SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(f"{incluster}.SERVICE_CERT_FILENAME", str(CERTIFICATE))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "api.invalid")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    for name in ("HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, proxy.url)
    assert "the name of its host cannot be resolved" in str(refused(lambda: connect().list("Job")))
    assert not proxy.seen

"""A run's settings: the job over the site over what is built in."""

from pathlib import Path
from typing import Any

import pytest

import classmodels
from classmodels.cluster.site import quantity, read_defaults, read_site, read_site_file, settings
from classmodels.errors import InputError
from classmodels.job.document import JobFileError
from classmodels.job.schema import Cluster


def job(**cluster: Any) -> Cluster:
    return Cluster.model_validate(cluster)


def test_what_is_built_in() -> None:
    found = settings(job())
    assert found.image == f"classmodels:{classmodels.__version__}"
    assert (found.namespace, found.service_account, found.s3_secret) == (
        "classmodels",
        "classmodels-worker",
        "classmodels-s3",
    )
    assert (found.gpu_resource, found.gpus, found.ttl) == ("nvidia.com/gpu", 1, 604_800)
    assert found.requests == {"cpu": "2", "memory": "8Gi", "ephemeral-storage": "10Gi"}
    assert found.limits == {"memory": "8Gi", "ephemeral-storage": "10Gi"}


def test_the_job_beats_the_site_and_the_site_beats_what_is_built_in() -> None:
    site = [{"image": "site:1", "ttl": 5, "parallelism": 3}, {"ttl": 6}]
    found = settings(job(image="job:1"), site)
    assert (found.image, found.ttl, found.parallelism) == ("job:1", 6, 3)


def test_a_null_leaves_it_to_the_site() -> None:
    assert settings(job(image=None), [{"image": "site:1"}]).image == "site:1"


def test_of_mappings_every_key_counts_by_itself() -> None:
    site = [
        {
            "gpu": {"resource": "amd.com/gpu"},
            "node_selector": {"a": "1", "b": "1"},
            "resources": {"requests": {"cpu": 7}},
        }
    ]
    found = settings(job(gpu={"count": 0}, node_selector={"b": "2"}, resources={"requests": {"memory": "1Gi"}}), site)
    assert (found.gpu_resource, found.gpus) == ("amd.com/gpu", 0)
    assert found.node_selector == {"a": "1", "b": "2"}
    assert (found.requests["cpu"], found.requests["memory"]) == ("7", "1Gi")


def test_a_list_replaces_the_sites() -> None:
    found = settings(job(tolerations=[{"key": "b"}]), [{"tolerations": [{"key": "a"}]}])
    assert found.tolerations == [{"key": "b"}]


def test_pod_templates_are_kept_in_their_order() -> None:
    one, two, three = ({"metadata": {"labels": {"from": who}}} for who in ("site", "own", "job"))
    found = settings(job(pod_template=three), [{"pod_template": one}, {"pod_template": two}])
    assert found.pod_templates == [one, two, three]


@pytest.mark.parametrize(
    ("resources", "requests", "limits"),
    [
        ({"requests": {"memory": "16Gi"}}, "16Gi", "16Gi"),
        ({"limits": {"memory": "4Gi"}}, "4Gi", "4Gi"),
        ({"requests": {"memory": "1Gi"}, "limits": {"memory": "4Gi"}}, "1Gi", "4Gi"),
    ],
)
def test_memory_always_has_a_limit_that_fits_its_request(resources: dict[str, Any], requests: str, limits: str) -> None:
    found = settings(job(resources=resources))
    assert (found.requests["memory"], found.limits["memory"]) == (requests, limits)


@pytest.mark.parametrize(
    ("cluster", "said"),
    [
        (
            {"resources": {"requests": {"memory": "8GB"}}},
            "resources.requests.memory: found '8GB', expected a Kubernetes",
        ),
        ({"resources": {"requests": {"cpu": "-1"}}}, "resources.requests.cpu: found '-1'"),
        ({"resources": {"requests": {"cpu": 4}, "limits": {"cpu": 2}}}, "cpu has the request 4 and the limit 2"),
        ({"resources": {"limits": {"nvidia.com/gpu": 2}}}, "found nvidia.com/gpu, expected that as cluster.gpu.count"),
        ({"volumes": [{"name": "a", "emptyDir": {}}]}, "volumes.0: found .*mountPath: /weights"),
        ({"volumes": [{"name": "a", "emptyDir": {}, "mountPath": "data"}]}, "volumes.0: found"),
        ({"volumes": [{"emptyDir": {}, "mountPath": "/data"}]}, "volumes.0: found"),
    ],
)
def test_what_cannot_be_used_is_said(cluster: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        settings(job(**cluster))


def test_a_wrong_site_is_told_with_its_place() -> None:
    with pytest.raises(JobFileError) as caught:
        read_site(b"gpu: {cont: 2}\nttl: soon\n", "site.yaml")
    assert str(caught.value).splitlines() == [
        "site.yaml:1:7: found the unknown field 'cont', expected one of resource, count; did you mean \"count\"?",
        "site.yaml:2:6: found 'soon', expected a whole number",
    ]


def test_more_than_one_gpu_for_a_worker_is_refused() -> None:
    """It would use but one of them."""
    with pytest.raises(JobFileError) as caught:
        read_site(b"gpu: {count: 2}\n", "site.yaml")
    assert str(caught.value) == (
        "site.yaml:1:14: found 2, expected 0 or 1: a worker computes on one GPU; more parallelism uses more"
    )


def test_a_wrong_site_is_told_also_where_it_was_not_read_from_yaml() -> None:
    with pytest.raises(InputError, match="the site's defaults: found the unknown field 'imag'"):
        settings(job(), [{"imag": "a"}])


@pytest.mark.parametrize("text", ["", "\n", "# image: a\n\n  # ttl: 3"])
def test_an_empty_site_says_nothing(text: str, tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text(text)
    assert read_site_file(str(tmp_path / "site.yaml")) == {}


def test_a_null_in_a_pod_template_is_kept_for_it_removes() -> None:
    template = {"spec": {"nodeSelector": None, "containers": [{"name": "worker", "env": None}]}}
    assert settings(job(pod_template=template), [{"pod_template": template}]).pod_templates == [template, template]


def test_a_missing_site_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or directory; expected the site's defaults in YAML"):
        read_site_file(str(tmp_path / "site.yaml"))


def test_the_sites_own_key_is_the_last_of_its_config_map() -> None:
    data = {"nvidia.yaml": "ttl: 3", "cluster.yaml": "ttl: 1", "kueue.yaml": "ttl: 2"}
    assert [layer["ttl"] for layer in read_defaults(data)] == [2, 3, 1]
    assert settings(job(), read_defaults(data)).ttl == 1


def test_a_wrong_config_map_is_told_by_its_key() -> None:
    with pytest.raises(
        JobFileError, match=r"^ConfigMap classmodels-defaults, nvidia\.yaml:1:1: found the unknown field"
    ):
        read_defaults({"nvidia.yaml": "a: 1"})


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("2", 2),
        ("500m", 0.5),
        ("4Gi", 4 * 2**30),
        ("1.5k", 1500),
        ("1e3", 1000),
        ("100n", 1e-7),
        (".5", 0.5),
        ("3E", 3e18),
    ],
)
def test_quantities(text: str, number: float) -> None:
    assert float(quantity(text)) == pytest.approx(number)


@pytest.mark.parametrize("text", ["", "Gi", "1 Gi", "1gi", "1GB", "1K", "0x1", "1e", "1.2.3"])
def test_what_is_no_quantity(text: str) -> None:
    with pytest.raises(ValueError):
        quantity(text)

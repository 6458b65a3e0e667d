"""How a client of S3 is made: what the job says goes before the environment; what is no setting is refused."""

from typing import Any

import pytest

from classmodels.errors import InputError
from classmodels.job.schema import Storage
from classmodels.s3 import S3Settings, connect, parse_uri


@pytest.fixture(autouse=True)
def _somebody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "KEYID")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "topsecret")


def made(**settings: Any) -> dict[str, Any]:
    """What a client made from `settings` goes by."""
    client = connect(S3Settings(**settings))
    config = client.meta.config
    return {
        "endpoint": client.meta.endpoint_url,
        "region": client.meta.region_name,
        "style": (config.s3 or {}).get("addressing_style"),
        "checksums": (config.request_checksum_calculation, config.response_checksum_validation),
        "attempts": config.retries["total_max_attempts"],
        "timeouts": (config.connect_timeout, config.read_timeout),
        "connections": config.max_pool_connections,
        "signature": config.signature_version,
        "retries": config.retries["mode"],
    }


def test_without_any_setting_it_is_aws_as_boto3_has_it_and_gives_up_early() -> None:
    found = made()
    assert found == {
        "endpoint": "https://s3.amazonaws.com",
        "region": "us-east-1",
        "style": None,
        "checksums": ("when_required", "when_required"),
        "attempts": 4,
        "timeouts": (4, 5),
        "connections": 32,
        "signature": "s3v4",
        "retries": "standard",
    }


def test_the_environment_sets_what_the_job_leaves_open(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in {
        "AWS_ENDPOINT_URL": "http://general:1",
        "AWS_ENDPOINT_URL_S3": "http://storage:2",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_supported",
        "AWS_MAX_ATTEMPTS": "7",
        "CLASSMODELS_S3_PATH_STYLE": "false",
        "CLASSMODELS_S3_CONNECT_TIMEOUT": "1.5",
        "CLASSMODELS_S3_READ_TIMEOUT": "60",
        "CLASSMODELS_S3_CONNECTIONS": "4",
    }.items():
        monkeypatch.setenv(variable, value)
    found = made()
    assert (found["endpoint"], found["region"], found["style"]) == ("http://storage:2", "eu-central-1", "virtual")
    assert found["checksums"] == ("when_supported", "when_required")
    assert (found["attempts"], found["timeouts"], found["connections"]) == (7, (1.5, 60), 4)
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert made()["region"] == "eu-west-1"


def test_the_job_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in {
        "AWS_ENDPOINT_URL_S3": "http://storage:2",
        "AWS_REGION": "eu-west-1",
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
        "CLASSMODELS_S3_PATH_STYLE": "false",
    }.items():
        monkeypatch.setenv(variable, value)
    found = made(
        endpoint_url="https://mine.example/s3", region="eu-north-1", path_style=True, checksum="when_supported"
    )
    assert (found["endpoint"], found["region"], found["style"]) == ("https://mine.example/s3", "eu-north-1", "path")
    assert found["checksums"] == ("when_supported", "when_supported")


def test_every_field_of_a_jobs_storage_is_a_setting() -> None:
    assert S3Settings(**Storage().model_dump()) == S3Settings()


@pytest.mark.parametrize(
    "endpoint", ["localhost:8333", "http//storage", "ftp://storage", "http://a b", "http://h?x", ""]
)
def test_an_endpoint_that_is_no_url_is_refused(endpoint: str) -> None:
    with pytest.raises(InputError, match=r"storage.endpoint_url.*expected http://host:port or https://host") as refused:
        made(endpoint_url=endpoint)
    assert repr(endpoint) in str(refused.value)


@pytest.mark.parametrize("where", ["job", "environment"])
def test_credentials_in_an_endpoint_are_refused_and_not_repeated(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    url = "http://user:hunter2@storage:9000"
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    with pytest.raises(InputError, match="without a user name or password") as refused:
        made(endpoint_url=url if where == "job" else None)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("CLASSMODELS_S3_PATH_STYLE", "yes", "expected true or false"),
        ("CLASSMODELS_S3_READ_TIMEOUT", "5s", "expected a number from 0.01 to 3600"),
        ("CLASSMODELS_S3_CONNECT_TIMEOUT", "0", "expected a number from 0.01 to 3600"),
        ("CLASSMODELS_S3_CONNECTIONS", "nan", "expected a number from 1 to 3600"),
        ("AWS_PROFILE", "nightly", "the settings of S3 cannot be used: The config profile \\(nightly\\)"),
        ("AWS_REQUEST_CHECKSUM_CALCULATION", "never", "the settings of S3 cannot be used: .*never"),
    ],
)
def test_a_variable_with_a_value_that_is_none_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, expected: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(InputError, match=expected):
        made()


@pytest.mark.parametrize(
    ("uri", "parts"),
    [
        ("s3://models/best.pt", ("models", "best.pt")),
        ("s3://models/a/b c/é?x=1", ("models", "a/b c/é?x=1")),
        ("s3://models", ("models", "")),
        ("s3://models/", ("models", "")),
        ("s3://my.models-1/a/", ("my.models-1", "a/")),
    ],
)
def test_a_uri_has_a_bucket_and_a_key(uri: str, parts: tuple[str, str]) -> None:
    assert parse_uri(uri) == parts

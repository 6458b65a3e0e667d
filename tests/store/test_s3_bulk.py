"""Reading thousands of objects at the speed of the wire: as `read` in every result, and never in its way."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from acts import DATA, SECRETS

import faults
from classmodels.errors import StoreError
from classmodels.s3 import S3Settings, connect, parse_uri
from classmodels.store import Store, open_store, s3_bulk
from faults import Fault, FaultProxy
from seaweed import WRITE_ONLY, SeaweedFS


@pytest.fixture
def proxy(seaweed: SeaweedFS, bucket_uri: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    proxy = FaultProxy((seaweed.host, seaweed.port))
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
    yield proxy
    proxy.stop()


@pytest.fixture
def store(proxy: FaultProxy, bucket_uri: str) -> Store:
    """A store behind the proxy that has been used before and holds `a.bin`."""
    store = open_store(bucket_uri)
    store.write("a.bin", DATA)
    proxy.seen.clear()
    return store


def test_objects_are_read_as_they_were_written_by_one_request_each(store: Store, proxy: FaultProxy) -> None:
    keys = ["a/1", "a b+c%.png", "é/ü", "x~y", "a=b&c", "empty"]
    for key in keys:
        store.write(key, key.encode() * 999 if key != "empty" else b"")
    proxy.seen.clear()
    with store.reading() as read, ThreadPoolExecutor(8) as threads:
        assert list(threads.map(read, keys * 9)) == [store.read(key) for key in keys] * 9
    assert len(proxy.seen) == len(keys) * 10


def test_what_is_not_there_is_none(store: Store) -> None:
    with store.reading() as read:
        assert [read("b.bin") for _ in range(6)] == [None] * 6
        assert read("a.bin") == DATA


@pytest.mark.parametrize(
    "fault",
    [
        faults.reset_download,
        faults.truncated,
        faults.cut_with_its_length,
        faults.corrupted,
        faults.web_page,
        faults.error(503, "SlowDown"),
        faults.error(403, "ExpiredToken"),
    ],
    ids=["reset", "truncated", "cut", "corrupted", "a web page", "503", "403"],
)
def test_what_comes_otherwise_is_asked_for_again_the_long_way(store: Store, proxy: FaultProxy, fault: Fault) -> None:
    with store.reading() as read:
        assert read("a.bin") == DATA
        proxy.seen.clear()
        proxy.next(fault)
        assert read("a.bin") == DATA
        assert len(proxy.seen) == 2
        assert read("a.bin") == DATA
        assert len(proxy.seen) == 3


def test_a_way_that_does_not_lead_there_is_left(
    bucket_uri: str, store: Store, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_bulk, "_signing_key", lambda secret, scope: b"no key")
    with store.reading() as read:
        assert [read("a.bin") for _ in range(10)] == [DATA] * 10
    assert len(proxy.seen) == 10 + s3_bulk.PATIENCE


def test_who_may_not_read_is_told_as_ever(bucket_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in WRITE_ONLY.environment.items():
        monkeypatch.setenv(variable, value)
    with open_store(bucket_uri).reading() as read, pytest.raises(StoreError, match="s3:GetObject") as raised:
        read("a.bin")
    assert not [secret for secret in SECRETS if secret in str(raised.value)]


def test_a_key_that_leaves_the_store_is_refused(store: Store) -> None:
    with store.reading() as read, pytest.raises(StoreError, match="leaves"):
        read("../a.bin")


def test_temporary_credentials_are_signed_with_their_token(store: Store, bucket_uri: str) -> None:
    client = connect(S3Settings())
    way = s3_bulk._Way.to(client, parse_uri(bucket_uri)[0])
    assert way is not None

    class Temporary:
        access_key, secret_key, token = "AKID", "secret", "TOKEN"

        def get_frozen_credentials(self) -> "Temporary":
            return self

    way._credentials = Temporary()
    request = way._request("/b/k").decode()
    assert "\r\nx-amz-security-token:TOKEN\r\n" in request
    assert "SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token," in request


def test_a_proxy_of_the_environment_is_left_to_boto3(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    client = connect(S3Settings())
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert s3_bulk._Way.to(client, "galleries") is None
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert s3_bulk._Way.to(client, "galleries") is not None


def test_hosts_and_regions_are_addressed_as_boto3_would(monkeypatch: pytest.MonkeyPatch, bucket_uri: str) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3")
    way = s3_bulk._Way.to(connect(S3Settings(region="eu-central-1")), "some-bucket")
    assert way is not None
    assert way._to == ("some-bucket.s3.eu-central-1.amazonaws.com", 443)
    assert (way._path, way._scope) == ("/", "eu-central-1/s3/aws4_request")

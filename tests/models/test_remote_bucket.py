"""Checkpoints in a bucket, with a real server behind a proxy that can misbehave."""

import hashlib
from collections.abc import Iterator

import pytest

import faults
from classmodels import s3
from classmodels.errors import InputError, StoreError
from classmodels.models.remote import download
from classmodels.models.remote.elsewhere import Elsewhere
from classmodels.s3 import S3Settings, connect, parse_uri
from classmodels.store import open_store
from faults import FaultProxy
from seaweed import OTHER_BUCKET, WRITE_ONLY, SeaweedFS

DATA = bytes(range(256)) * 4096
HALF = len(DATA) // 2


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def proxy(seaweed: SeaweedFS, bucket_uri: str, cache_root, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    proxy = FaultProxy((seaweed.host, seaweed.port))
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
    monkeypatch.setattr(download, "PAUSES", (0.01, 0.01, 0.01))
    monkeypatch.setattr(s3, "ATTEMPTS", 2)
    yield proxy
    proxy.stop()


@pytest.fixture
def put(bucket_uri: str, proxy: FaultProxy):
    """Publishes bytes at a key as any other program would; returns the object's URI."""

    def put(data: bytes, name: str = "w.pth", **metadata: str) -> str:
        bucket, prefix = parse_uri(bucket_uri)
        connect(S3Settings()).put_object(Bucket=bucket, Key=f"{prefix}/{name}", Body=data, Metadata=metadata)
        proxy.seen.clear()
        return f"{bucket_uri}/{name}"

    return put


def content(name: str) -> bytes:
    with Elsewhere().open(name).held() as path:
        return path.read_bytes()


def asked(proxy: FaultProxy) -> list[str]:
    return [request.split()[0] for request in proxy.seen]


def test_an_object_comes_once_and_the_second_time_is_only_looked_at(put, proxy):
    uri = put(DATA)
    assert Elsewhere().open(uri).sha256 == digest(DATA)
    assert content(uri) == DATA
    assert asked(proxy) == ["HEAD", "GET", "HEAD"]


def test_the_digest_that_the_writer_noted_spares_the_download(put, proxy, bucket_uri):
    uri = put(DATA, sha256=digest(DATA))
    assert Elsewhere().open(uri).sha256 == digest(DATA)
    open_store(bucket_uri).write("ours.pth", DATA)
    proxy.seen.clear()
    assert Elsewhere().open(f"{bucket_uri}/ours.pth").sha256 == digest(DATA)
    assert asked(proxy) == ["HEAD"]
    assert content(uri) == DATA


def test_an_object_that_was_replaced_is_fetched_anew(put, proxy):
    assert content(put(DATA)) == DATA
    assert content(put(DATA[::-1])) == DATA[::-1]


@pytest.mark.parametrize("fault", [faults.reset_download, faults.truncated], ids=["reset", "truncated"])
def test_after_a_break_only_the_rest_is_asked_for(put, proxy, fault):
    uri = put(DATA)
    proxy.next(faults.passed, fault)
    sizes = []

    def measured(exchange):
        head, body = exchange.forward(b"")
        sizes.append(len(body))
        exchange.send(head + body)

    proxy.always(measured)
    assert content(uri) == DATA
    assert asked(proxy) == ["HEAD", "GET", "GET"]
    # A reset may overtake some of what was sent before it.
    assert sizes == [HALF] if fault is faults.truncated else HALF <= sizes[0] <= len(DATA)


def test_an_object_that_changed_between_two_attempts_is_not_mixed(put, proxy):
    uri = put(DATA)

    def replaced(exchange):
        faults.truncated(exchange)
        put(DATA[::-1])

    proxy.next(faults.passed, replaced)
    assert content(uri) == DATA[::-1]


def test_bytes_that_came_damaged_are_asked_for_once_more_and_then_refused(put, proxy, cache_root):
    uri = put(DATA, sha256=digest(DATA))
    proxy.next(faults.passed, faults.passed, faults.corrupted)
    assert content(uri) == DATA
    wrong = put(DATA, "v.pth", sha256=digest(b"other"))
    with pytest.raises(StoreError, match=r"is damaged: its sha256 is .*upload it again"):
        content(wrong)
    assert list((cache_root / "parts").iterdir()) == []


def test_a_pin_that_differs_from_the_noted_digest_is_refused_without_a_download(put, proxy):
    uri = put(DATA, sha256=digest(DATA))
    with pytest.raises(InputError, match="is not what the job pins"):
        content(f"{uri}#sha256={'0' * 64}")
    assert asked(proxy) == ["HEAD"]


def test_what_is_not_there_is_told_from_what_may_not_be_read(put, proxy, bucket_uri, monkeypatch):
    put(DATA)
    with pytest.raises(InputError, match=rf"{bucket_uri}/v.pth does not exist at {proxy.endpoint}: check its name"):
        content(f"{bucket_uri}/v.pth")
    with pytest.raises(StoreError, match=r"cannot read s3://galeries/w.pth at .*: (there is no such bucket|the cred)"):
        content("s3://galeries/w.pth")
    with pytest.raises(StoreError, match="the credentials do not permit it"):
        content(f"s3://{OTHER_BUCKET}/w.pth")
    for variable, value in WRITE_ONLY.environment.items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(StoreError, match=r"they have s3:GetObject .*AccessDenied"):
        content(f"{bucket_uri}/w.pth")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (faults.error(503, "SlowDown"), "too busy"),
        (faults.error(403, "ExpiredToken"), "credentials have expired"),
    ],
    ids=["503", "expired"],
)
def test_a_server_that_fails_is_said_without_secrets(put, proxy, fault, said):
    uri = put(DATA)
    proxy.always(fault)
    with pytest.raises(StoreError, match=said) as refused:
        content(uri)
    assert faults.SPOKEN_SECRET not in str(refused.value)
    assert refused.value.__cause__ is None


def test_the_same_address_at_another_endpoint_is_another_object(put, proxy, seaweed, monkeypatch):
    uri = put(DATA)
    content(uri)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", seaweed.endpoint)
    put(DATA)
    content(uri)
    assert proxy.seen == []

"""Bad days: what the network and the server do to requests, and what a store does about it.

Each failure is either mended by trying again, or told in one sentence that names what was tried, the bucket, the
endpoint and the reason; soon enough, and without any secret. The server is real; `faults.py` stands before it.
"""

import socket
from collections.abc import Iterator
from contextlib import closing

import pytest
from acts import ACTS, DATA, told

import faults
from classmodels import s3
from classmodels.store import Store, open_store
from classmodels.store import s3 as store_s3
from faults import Fault, FaultProxy
from seaweed import SeaweedFS


@pytest.fixture
def proxy(seaweed: SeaweedFS, bucket_uri: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """Stands between the store and the server; passes everything on until it is told otherwise."""
    proxy = FaultProxy((seaweed.host, seaweed.port))
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
    yield proxy
    proxy.stop()


@pytest.fixture
def store(proxy: FaultProxy, bucket_uri: str) -> Store:
    """A store behind the proxy that holds `a.bin` and has been used before."""
    store = open_store(bucket_uri)
    store.write("a.bin", DATA)
    proxy.seen.clear()
    return store


# What trying again mends


@pytest.mark.parametrize(
    "fault",
    [faults.reset_upload, faults.answer_lost, faults.error(500, "InternalError"), faults.error(503, "SlowDown")],
    ids=["reset half-way", "answer lost", "500", "503"],
)
@pytest.mark.parametrize("act", ACTS)
def test_what_fails_once_is_tried_again_and_done(store: Store, proxy: FaultProxy, act: str, fault: Fault) -> None:
    proxy.next(fault)
    result = ACTS[act](store)
    assert len(proxy.seen) == 2
    assert result == {"read": DATA, "list": ["a.bin"]}.get(act)
    assert store.read("a.bin") == (None if act == "delete" else DATA)


@pytest.mark.parametrize(
    "fault",
    [faults.truncated, faults.cut_with_its_length, faults.corrupted, faults.reset_download],
    ids=["truncated", "cut with its length", "corrupted", "reset half-way"],
)
def test_a_body_that_comes_damaged_is_asked_for_again(store: Store, proxy: FaultProxy, fault: Fault) -> None:
    proxy.next(fault, fault)
    assert store.read("a.bin") == DATA
    assert len(proxy.seen) == 3


def test_a_body_that_stalls_is_asked_for_again(
    bucket_uri: str, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLASSMODELS_S3_READ_TIMEOUT", "0.5")
    store = open_store(bucket_uri)
    store.write("a.bin", DATA)
    proxy.next(faults.stalled)
    assert store.read("a.bin") == DATA


def test_a_slow_answer_is_waited_for(store: Store, proxy: FaultProxy) -> None:
    proxy.always(faults.slow)
    assert store.read("a.bin") == DATA
    assert list(store.list("")) == ["a.bin"]
    assert len(proxy.seen) == 2


def test_a_body_that_is_damaged_on_its_way_to_the_server_is_sent_again(store: Store, proxy: FaultProxy) -> None:
    proxy.next(faults.corrupted_upload)
    store.write("a.bin", DATA[::-1])
    assert len(proxy.seen) == 2
    assert store.read("a.bin") == DATA[::-1]


def test_an_upload_that_breaks_off_leaves_the_old_object_whole(
    store: Store, proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    for fault in (faults.reset_upload, faults.corrupted_upload, faults.error(500, "InternalError")):
        proxy.always(fault)
        told(lambda: store.write("a.bin", b"new"), caplog)
        proxy.always(faults.passed)
        assert store.read("a.bin") == DATA


def test_a_server_that_knows_no_conditions_takes_the_object_without(store: Store, proxy: FaultProxy) -> None:
    proxy.next(faults.error(501, "NotImplemented"))
    assert store.create("b.bin", DATA)
    assert store.read("b.bin") == DATA


def test_one_that_others_write_at_the_same_time_is_tried_again(store: Store, proxy: FaultProxy) -> None:
    proxy.next(faults.error(409, "ConditionalRequestConflict"))
    assert store.create("b.bin", DATA)
    proxy.next(faults.error(409, "ConditionalRequestConflict"))
    assert not store.create("b.bin", b"")
    assert store.read("b.bin") == DATA


def test_creating_it_with_the_answer_lost_leaves_it_whole(store: Store, proxy: FaultProxy) -> None:
    proxy.next(faults.answer_lost)
    store.create("b.bin", DATA)
    assert store.read("b.bin") == DATA


# What it does not mend


@pytest.mark.parametrize(
    ("fault", "acts", "reason"),
    [
        (faults.error(500, "InternalError"), ACTS, "the server failed at every attempt"),
        (faults.reset_upload, ACTS, "the server closed the connection"),
        (faults.web_page, ["list"], "what answers there does not speak S3"),
        (faults.truncated, ["read"], "the answer broke off"),
        (faults.reset_download, ["read"], "the answer broke off"),
        (faults.cut_with_its_length, ["read"], "its bytes are not those that were written"),
        (faults.corrupted, ["read"], "its bytes are not those that were written"),
        (faults.corrupted_upload, ["write"], "the bytes were damaged on the way"),
        (faults.error(400, "ExpiredToken"), ACTS, "the credentials have expired"),
        (faults.error(403, "RequestTimeTooSkewed"), ACTS, "clock of this machine and that of the server differ"),
        (faults.error(403, "AccessDenied"), ACTS, "the credentials do not permit it"),
        (faults.error(403, "SignatureDoesNotMatch"), ACTS, "the secret key is wrong"),
        (faults.error(404, "NoSuchBucket"), ACTS, "there is no such bucket"),
        (faults.error(507, "XMinioStorageFull"), ["write"], "the storage is full"),
        (faults.error(418, "ImATeapot"), ACTS, "the server answered with HTTP 418"),
    ],
    ids=lambda value: getattr(value, "__name__", None) if callable(value) else None,
)
def test_what_keeps_failing_is_told_with_its_reason(
    store: Store, proxy: FaultProxy, caplog: pytest.LogCaptureFixture, fault: Fault, acts: list[str], reason: str
) -> None:
    proxy.always(fault)
    for act in acts:
        sentence = told(lambda act=act: ACTS[act](store), caplog)
        assert sentence.startswith(f"cannot {act} {store.uri}/{'' if act == 'list' else 'a.bin'} at {proxy.endpoint}: ")
        assert reason in sentence


def test_a_server_that_stays_too_busy_is_given_time_and_then_told(
    store: Store, proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    proxy.always(faults.error(503, "SlowDown"))
    sentence = told(lambda: store.read("a.bin"), caplog, within=8)
    assert "the server is too busy, and was so at every attempt; wait a while" in sentence
    assert len(proxy.seen) == s3.ATTEMPTS


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (faults.silent, "the server did not answer in time; look at the server, or raise CLASSMODELS_S3_READ_TIMEOUT"),
        (faults.stalled, "the answer broke off, each time"),
    ],
    ids=["no answer", "half an answer"],
)
def test_a_server_that_says_nothing_more_is_given_up(
    bucket_uri: str,
    proxy: FaultProxy,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    fault: Fault,
    reason: str,
) -> None:
    monkeypatch.setenv("CLASSMODELS_S3_READ_TIMEOUT", "0.3")
    store = open_store(bucket_uri)
    store.write("a.bin", DATA)
    proxy.always(fault)
    assert reason in told(lambda: store.read("a.bin"), caplog, within=0.3 * s3.ATTEMPTS + 2)


def test_all_attempts_together_end_within_half_a_minute() -> None:
    waits = {"busy": 1.0, "else": 0.05}  # botocore's longest first wait; each later one is at most twice as long
    pauses = {why: sum(wait * 2**attempt for attempt in range(s3.ATTEMPTS - 1)) for why, wait in waits.items()}
    request = s3.ATTEMPTS * max(s3.CONNECT_TIMEOUT, s3.READ_TIMEOUT) + pauses["else"]
    assert max(request, pauses["busy"]) < 30
    assert store_s3.PATIENCE + request < 30


# At the first contact


def test_a_server_that_is_no_s3_is_told_before_anything_is_written(
    bucket_uri: str, proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    proxy.always(faults.web_page)
    sentence = told(lambda: open_store(bucket_uri).write("a.bin", DATA), caplog)
    assert "what answers there does not speak S3; check storage.endpoint_url" in sentence
    assert not [request for request in proxy.seen if request.startswith("PUT")]


def test_a_port_where_nobody_listens_is_told(
    bucket_uri: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(socket.socket()) as reserved:
        reserved.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
        for act in ACTS.values():
            sentence = told(lambda act=act: act(open_store(bucket_uri)), caplog)
            assert f"cannot list {bucket_uri}/ at {endpoint}: the connection is refused" in sentence


def test_a_host_that_does_not_answer_is_given_up(
    bucket_uri: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CLASSMODELS_S3_CONNECT_TIMEOUT", "0.2")
    with closing(socket.socket()) as full, closing(socket.socket()) as first, closing(socket.socket()) as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for waiting in (first, second):  # nobody accepts these, and there is no room for more
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{full.getsockname()[1]}")
        sentence = told(lambda: open_store(bucket_uri).read("a"), caplog, within=s3.CONNECT_TIMEOUT * s3.ATTEMPTS / 2)
    assert "nothing answers there; maybe no route leads there; check storage.endpoint_url" in sentence


@pytest.mark.parametrize(
    ("endpoint", "reason"),
    [
        ("http://storage.invalid:9000", "the name of its host cannot be resolved"),
        ("https://{host}:{port}", "the server speaks no TLS; write http://"),
    ],
)
def test_an_endpoint_that_is_none_is_told(
    seaweed: SeaweedFS,
    bucket_uri: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    endpoint: str,
    reason: str,
) -> None:
    endpoint = endpoint.format(host=seaweed.host, port=seaweed.port)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
    sentence = told(lambda: open_store(bucket_uri).read("a"), caplog)
    assert f"cannot list {bucket_uri}/ at {endpoint}: {reason}" in sentence

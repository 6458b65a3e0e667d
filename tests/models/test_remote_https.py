"""Checkpoints over https: what comes is whole, is of one version, and comes once; what goes wrong is said."""

import hashlib
import time

import pytest

import web as servers
from classmodels.errors import InputError, StoreError
from classmodels.models.remote import download, https
from classmodels.models.remote.elsewhere import Elsewhere
from web import CERTIFICATE, WebServer

DATA = bytes(range(256)) * 4096  # 1 MiB
OTHER = DATA[::-1]


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(autouse=True)
def _quick(monkeypatch, cache_root):
    monkeypatch.setattr(https, "PAUSES", (0.01, 0.01))
    monkeypatch.setattr(download, "PAUSES", (0.01, 0.01, 0.01))


def content(name: str) -> bytes:
    """What is at `name`, fetched by a process that knows nothing yet but what the cache does."""
    with Elsewhere().open(name).held() as path:
        return path.read_bytes()


# What comes


def test_a_file_comes_whole_and_is_named_by_its_digest(web, cache_root):
    url = web.put("/w.pth", DATA)
    file = Elsewhere().open(url)
    assert file.sha256 == digest(DATA)
    with file.held() as path:
        assert path == cache_root / "objects" / digest(DATA)
        assert path.read_bytes() == DATA
    assert web.seen == ["HEAD /w.pth", "GET /w.pth"]
    assert [path.name for path in (cache_root / "parts").iterdir()] == []


def test_the_second_time_one_question_is_asked_and_nothing_comes(web):
    url = web.put("/w.pth", DATA)
    assert content(url) == DATA
    web.seen.clear()
    assert content(url) == DATA
    assert web.seen == ["HEAD /w.pth"]


def test_a_file_that_is_pinned_and_here_is_not_even_asked_for(web):
    url = web.put("/w.pth", DATA) + f"#sha256={digest(DATA)}"
    assert Elsewhere().open(url).sha256 == digest(DATA)
    assert web.seen == ["HEAD /w.pth"]  # its digest is known: it comes when it is needed
    assert content(url) == DATA
    web.seen.clear()
    assert content(url) == DATA
    assert web.seen == []


def test_what_replaced_a_file_is_fetched_anew(web):
    url = web.put("/w.pth", DATA)
    assert content(url) == DATA
    web.put("/w.pth", OTHER)
    assert content(url) == OTHER
    web.put("/w.pth", DATA)
    web.seen.clear()
    assert content(url) == DATA  # it is here, but nothing tells before it comes
    assert web.seen == ["HEAD /w.pth", "GET /w.pth"]


@pytest.mark.parametrize(
    ("etag", "headers"), [('W/"1"', {}), (None, {"Last-Modified": "Sat, 01 Aug 2026 00:00:00 GMT"})]
)
def test_a_weak_tag_or_a_date_tells_that_nothing_changed(web, etag, headers):
    url = web.put("/w.pth", DATA, etag=etag, headers=headers)
    assert content(url) == content(url) == DATA
    assert web.seen == ["HEAD /w.pth", "GET /w.pth", "HEAD /w.pth"]


def test_a_server_that_says_nothing_of_its_file_is_asked_for_it_each_time(web):
    url = web.put("/w.pth", DATA, etag=None)
    assert content(url) == DATA
    web.put("/w.pth", OTHER, etag=None)
    assert content(url) == OTHER
    assert web.seen.count("GET /w.pth") == 2


def test_two_addresses_of_the_same_bytes_are_one_object(web, cache_root):
    first, second = web.put("/a.pth", DATA), web.put("/b.pth", DATA)
    assert Elsewhere().open(first).sha256 == Elsewhere().open(second).sha256
    assert [path.name for path in (cache_root / "objects").iterdir() if not path.suffix] == [digest(DATA)]


def test_the_digest_that_the_writer_noted_spares_the_download_until_it_is_needed(web):
    url = web.put("/w.pth", DATA, headers={"x-amz-meta-sha256": digest(DATA)})
    file = Elsewhere().open(url)
    assert (file.sha256, web.seen) == (digest(DATA), ["HEAD /w.pth"])
    with file.held() as path:
        assert path.read_bytes() == DATA


@pytest.mark.parametrize("code", [403, 405, 501])
def test_a_server_that_wants_no_head_is_asked_for_one_byte(web, code):
    url = web.put("/w.pth", DATA)
    web.next(servers.status(code))
    assert content(url) == DATA
    assert web.seen == ["HEAD /w.pth", "GET /w.pth bytes=0-0", "GET /w.pth"]


@pytest.mark.parametrize("framing", ["chunked", "closed"])
def test_a_length_that_is_not_told_is_no_obstacle_where_the_end_is(web, framing):
    url = web.put("/w.pth", DATA, framing=framing)
    if framing == "closed":
        with pytest.raises(StoreError, match=r"does not say how long it is.*add #sha256="):
            content(url)
        url += f"#sha256={digest(DATA)}"
    assert content(url) == DATA


def test_an_empty_file_is_a_file(web):
    assert content(web.put("/w.pth", b"")) == b""


def test_redirections_are_followed_within_https_and_from_this_machine(web):
    url = web.put("/w.pth", DATA)
    web.next(*[servers.status(302, Location="/w.pth")] * 3)
    assert content(url) == DATA
    web.usual = servers.status(302, Location="/w.pth")
    with pytest.raises(StoreError, match="without end"):
        content(url)


def test_nothing_leads_from_https_to_plain_http(monkeypatch, web):
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    plain = web.put("/w.pth", DATA)
    secure = WebServer(tls=True)
    try:
        assert content(secure.put("/w.pth", DATA)) == DATA
        for location in (plain, "http://host.example/w.pth", "file:///etc/passwd"):
            secure.next(servers.status(302, Location=location))
            with pytest.raises(StoreError, match="only https:// is followed"):
                content(secure.url + "/w.pth")
    finally:
        secure.stop()


def test_a_certificate_that_nobody_vouches_for_is_refused_at_once(monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    secure = WebServer(tls=True)
    try:
        with pytest.raises(
            StoreError, match=r"certificate is not trusted \(self.signed certificate\); name .*SSL_CERT_FILE"
        ):
            content(secure.put("/w.pth", DATA))
    finally:
        secure.stop()
    assert secure.seen == []


def test_the_proxy_of_the_environment_is_used_and_its_password_kept(monkeypatch, web):
    monkeypatch.setenv("HTTP_PROXY", web.url.replace("//", "//user:hush@"))
    web.pages["http://localhost:1/w.pth"] = servers.Page(DATA, '"1"')
    assert content("http://localhost:1/w.pth") == DATA
    assert web.heads[0]["proxy-authorization"] == "Basic dXNlcjpodXNo"
    monkeypatch.setenv("NO_PROXY", "localhost")
    with pytest.raises(StoreError, match="no server listens there") as said:
        content("http://localhost:1/w.pth")
    assert "hush" not in str(said.value)


def test_a_proxy_that_is_none_is_said_without_its_password(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "socks5://user:hush@localhost:1")
    with pytest.raises(StoreError, match="names no proxy that can be used") as said:
        content("http://localhost:1/w.pth")
    assert "hush" not in str(said.value)


# Bad days


def test_after_a_break_only_the_rest_is_asked_for(web):
    url = web.put("/w.pth", DATA)
    web.next(servers.passed, servers.ended, servers.ended)
    assert content(url) == DATA
    half, quarter = len(DATA) // 2, len(DATA) // 4
    assert web.seen == [
        "HEAD /w.pth",
        "GET /w.pth",
        f"GET /w.pth bytes={half}-",
        f"GET /w.pth bytes={half + quarter}-",
    ]


def test_a_body_that_stalls_is_gone_on_with(web, monkeypatch):
    monkeypatch.setattr(https, "READ_TIMEOUT", 1)
    url = web.put("/w.pth", DATA)
    web.next(servers.passed, servers.stalled)
    assert content(url) == DATA
    assert web.seen[2] == f"GET /w.pth bytes={len(DATA) // 2}-"


def test_a_connection_that_is_reset_again_and_again_is_no_obstacle(web):
    url = web.put("/w.pth", DATA)
    web.next(servers.passed, servers.cut, servers.cut, servers.cut)
    assert content(url) == DATA


def test_what_came_before_an_attempt_was_given_up_is_not_asked_for_again(web):
    url = web.put("/w.pth", DATA)
    web.next(servers.passed, servers.ended)
    web.usual = servers.status(503)
    with pytest.raises(StoreError, match="too busy"):
        content(url)
    web.usual = servers.passed
    web.seen.clear()
    assert content(url) == DATA
    assert web.seen == ["HEAD /w.pth", f"GET /w.pth bytes={len(DATA) // 2}-"]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_file_that_changed_between_two_attempts_is_not_mixed(web, ranges):
    """Whether the server looks at If-Range or sends everything anyway."""
    url = web.put("/w.pth", DATA, ranges=ranges)

    def replaced(handler):
        web.put("/w.pth", OTHER, ranges=ranges)
        servers.passed(handler)

    web.next(servers.passed, servers.ended, replaced)
    file = Elsewhere().open(url)
    assert file.sha256 == digest(OTHER)
    assert content(url) == OTHER


def test_a_server_that_ignores_if_range_cannot_mix_two_versions(web):
    url = web.put("/w.pth", DATA)

    def replaced(handler):
        web.put("/w.pth", OTHER)
        del handler.headers["If-Range"]
        servers.passed(handler)

    web.next(servers.passed, servers.ended, replaced)
    assert content(url) == OTHER
    assert web.seen[-1] == "GET /w.pth"


def test_a_file_that_shrank_between_two_attempts_is_fetched_anew(web):
    url = web.put("/w.pth", DATA)

    def shrunk(handler):
        web.put("/w.pth", b"short", etag=web.pages["/w.pth"].etag)
        servers.passed(handler)

    web.next(servers.passed, servers.ended, shrunk)
    assert content(url) == b"short"


def test_a_file_without_a_strong_tag_is_begun_anew_after_a_break(web):
    url = web.put("/w.pth", DATA, etag='W/"1"')
    web.next(servers.passed, servers.ended)
    assert content(url) == DATA
    assert web.seen == ["HEAD /w.pth", "GET /w.pth", "GET /w.pth"]


def test_a_part_that_was_altered_on_the_disk_is_thrown_away(web, cache_root):
    url = web.put("/w.pth", DATA)
    web.next(servers.passed, servers.ended)
    web.usual = servers.status(503)
    with pytest.raises(StoreError):
        content(url)
    web.usual = servers.passed
    (part,) = (path for path in (cache_root / "parts").iterdir() if not path.suffix)
    with part.open("r+b") as file:
        file.write(b"altered")
    assert content(url) == DATA
    assert web.seen[-1] == "GET /w.pth"


def test_bytes_that_came_damaged_are_asked_for_once_more_and_then_refused(web, cache_root):
    url = web.put("/w.pth", DATA) + f"#sha256={digest(DATA)}"
    web.next(servers.passed, servers.passed, servers.corrupted)
    assert content(url) == DATA
    web.put("/v.pth", OTHER)
    wrong = f"{web.url}/v.pth#sha256={digest(DATA[1:])}"
    file = Elsewhere().open(wrong)
    with pytest.raises(StoreError, match="is not what the job pins: its sha256 is"), file.held():
        pass
    assert sorted(path.name for path in (cache_root / "objects").iterdir() if not path.suffix) == [digest(DATA)]
    assert list((cache_root / "parts").iterdir()) == []


@pytest.mark.parametrize("code", [429, 500, 503, 504])
def test_a_server_that_is_busy_for_a_moment_is_asked_again(web, code):
    url = web.put("/w.pth", DATA)
    web.next(servers.status(code), servers.passed, servers.status(code), servers.passed)
    assert content(url) == DATA


@pytest.mark.parametrize(
    ("fault", "error", "said"),
    [
        (servers.status(404), InputError, r"localhost:\d+/w.pth\?... does not exist \(HTTP 404\): check the address"),
        (servers.status(410), InputError, "does not exist"),
        (servers.status(401), StoreError, "it is not public; name a signed URL.*HTTP 401 Unauthorized"),
        (servers.status(403), StoreError, "does not permit it; a signed URL may have expired"),
        (servers.status(418), StoreError, "answers with something else; check the address"),
        (servers.status(500), StoreError, "failed at every attempt; run the same command again later"),
        (servers.status(503), StoreError, "too busy, and was so at every attempt"),
        (servers.silent, StoreError, "did not answer in time"),
        (lambda handler: handler.reset(), StoreError, "the answer broke off"),
    ],
    ids=["404", "410", "401", "403", "418", "500", "503", "silent", "reset"],
)
def test_what_cannot_be_had_is_said_in_one_sentence_without_secrets(web, monkeypatch, fault, error, said):
    if fault is servers.silent:
        monkeypatch.setattr(https, "READ_TIMEOUT", 0.2)
    web.usual = fault
    with pytest.raises(error, match=said) as refused:
        content(f"{web.url}/w.pth?signature=hush")
    assert "hush" not in str(refused.value)
    assert refused.value.__cause__ is None


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://localhost:1/w.pth", "the connection is refused: no server listens there"),
        ("https://no-such-host.invalid/w.pth", "the name of its host cannot be resolved"),
    ],
)
def test_a_server_that_is_not_there_is_said_soon(url, said):
    began = time.monotonic()
    with pytest.raises(StoreError, match=said):
        content(url)
    assert time.monotonic() - began < 10


def test_all_attempts_together_end_before_thirty_seconds(monkeypatch):
    monkeypatch.undo()
    attempts = len(https.PAUSES) + 1
    assert attempts * max(https.CONNECT_TIMEOUT, https.READ_TIMEOUT) + sum(https.PAUSES) < 30


def test_a_server_that_is_gone_is_waited_for_once_however_often_it_is_named(web):
    web.usual = servers.status(503)
    elsewhere = Elsewhere()
    for name in ("/a.pth", "/b.pth"):
        with pytest.raises(StoreError, match=r"/a\.pth"):
            elsewhere.open(web.url + name)


def test_a_slow_server_is_waited_for(web):
    url = web.put("/w.pth", DATA)
    web.next(servers.passed, servers.slow)
    assert content(url) == DATA
    assert len(web.seen) == 2


def test_a_body_that_is_compressed_against_our_wish_is_refused(web):
    with pytest.raises(StoreError, match="compressed although asked not to"):
        content(web.put("/w.pth", DATA, headers={"Content-Encoding": "gzip"}))

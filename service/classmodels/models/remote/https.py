"""Reading one object over https, whole or from some byte on, and never a mixture of two versions of it.

By urllib3, which boto3 brings and is kept with it. Proxies come from HTTPS_PROXY and NO_PROXY, certificates from the
system or SSL_CERT_FILE. No credentials are ever sent: what is not public has a signed URL, or is in a bucket.
"""

import re
import ssl
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import urllib3
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from classmodels import __version__
from classmodels.errors import StoreError
from classmodels.models.remote.base import CHUNK, Answer, BrokenOffError, MissingError, Seen
from classmodels.models.remote.https_errors import PASSING, error_of, refusal
from classmodels.models.remote.uri import SHA256, Uri, is_secure

CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 8.0
"""Seconds, the second of silence between two bytes."""
PAUSES = (0.5, 1.0)
"""Seconds between the attempts to be told of an object: all of them together give up before 30."""
REDIRECTS = 8

_NO_HEAD = (400, 403, 405, 501)
"""What servers answer that want no HEAD: signed URLs are signed for GET alone."""
_HEADERS = {"User-Agent": f"classmodels/{__version__}", "Accept-Encoding": "identity"}


class HttpsObject:
    """The object at `uri`."""

    def __init__(self, uri: Uri) -> None:
        self.uri = uri
        self._pools: dict[tuple[bool, str], urllib3.PoolManager] = {}

    def look(self) -> Seen:
        for pause in PAUSES:
            try:
                return self._look()
            except BrokenOffError:
                time.sleep(pause)
        return self._look()

    @contextmanager
    def read(self, start: int, seen: Seen) -> Iterator[Answer]:
        answer = None
        if start and seen.tag:
            answer = self._ask("GET", {"Range": f"bytes={start}-", "If-Range": seen.tag}, (200, 206, 416))
            if answer.status != 200 and not _continues(answer, start, seen):
                answer.close()
                answer = None
        if answer is None:
            answer = self._ask("GET", {}, (200,))
        with closing(answer):
            found = self._seen(answer)
            if found.size is None and not getattr(answer, "chunked", False) and not self.uri.pin:
                raise StoreError(
                    f"cannot read {self.uri.shown}: the server does not say how long it is, so that nobody can tell"
                    " whether all of it came; add #sha256=<its sha256> to the address"
                )
            yield Answer(found, start if answer.status == 206 else 0, self._chunks(answer))

    def _look(self) -> Seen:
        answer = self._ask("HEAD", {}, (200, *_NO_HEAD))
        if answer.status in _NO_HEAD:
            answer.close()
            answer = self._ask("GET", {"Range": "bytes=0-0"}, (200, 206))
        with closing(answer):
            return self._seen(answer)

    def _chunks(self, answer: BaseHTTPResponse) -> Iterator[bytes]:
        try:
            yield from answer.stream(CHUNK, decode_content=False)
        except HTTPError as error:
            raise error_of(error, self.uri) from None

    def _seen(self, answer: BaseHTTPResponse) -> Seen:
        headers = answer.headers
        if headers.get("Content-Encoding", "identity") != "identity":
            raise StoreError(f"cannot read {self.uri.shown}: the server sends it compressed although asked not to")
        length = headers.get("Content-Length", "")
        if answer.status == 206:
            length = headers.get("Content-Range", "").rpartition("/")[2]
        size = int(length) if length.isdecimal() else None
        tag = headers.get("ETag")
        known = tag or headers.get("Last-Modified")
        told = headers.get("x-amz-meta-sha256", "").lower()  # an object of S3, by a public or signed URL
        return Seen(
            size=size,
            identity=f"{known}, {size} bytes" if known else None,
            # A weak one is the same for bytes that differ.
            tag=tag if tag and not tag.startswith("W/") else None,
            sha256=told if SHA256.fullmatch(told) else None,
        )

    def _ask(self, method: str, headers: dict[str, str], expected: tuple[int, ...]) -> BaseHTTPResponse:
        """The answer, redirections followed, with one of the `expected` statuses. Raises StoreError, MissingError."""
        url = self.uri.text
        for _ in range(REDIRECTS):
            try:
                answer = self._pool(url).request(
                    method, url, headers=_HEADERS | headers, redirect=False, retries=False, preload_content=False
                )
            except HTTPError as error:
                raise error_of(error, self.uri) from None
            location = answer.headers.get("Location")
            if answer.status in (301, 302, 303, 307, 308) and location:
                answer.close()
                url = self._led(url, location)
                continue
            if answer.status in expected:
                return answer
            answer.close()
            if answer.status in (404, 410):
                raise MissingError(f"{self.uri.shown} does not exist (HTTP {answer.status}): check the address")
            said = refusal(answer.status, self.uri)
            raise BrokenOffError(said) if answer.status in PASSING else StoreError(said)
        raise StoreError(f"cannot read {self.uri.shown}: it leads from one address to the next without end")

    def _led(self, url: str, location: str) -> str:
        """Where `location` leads to. What is asked for by https is never taken from plain http."""
        try:
            led = urlsplit(urljoin(url, location))
            secure = is_secure(led) and (led.scheme == "https" or url.startswith("http:"))
        except ValueError:
            raise StoreError(f"cannot read {self.uri.shown}: it leads to an address that is none") from None
        if not secure:
            raise StoreError(
                f"cannot read {self.uri.shown}: it leads to {led.scheme}://{led.hostname}, and only https:// is"
                " followed; name the address that it should lead to"
            )
        return led._replace(fragment="").geturl()

    def _pool(self, url: str) -> urllib3.PoolManager:
        """The connections by which to ask for `url`: maybe through a proxy, with certificates where they are needed."""
        secure, proxy = url.startswith("https:"), _proxy_of(url)
        if (secure, proxy) not in self._pools:
            settings: dict[str, Any] = {"timeout": urllib3.Timeout(connect=CONNECT_TIMEOUT, read=READ_TIMEOUT)}
            if secure:
                settings["ssl_context"] = ssl.create_default_context()
            self._pools[secure, proxy] = self._through(proxy, settings) if proxy else urllib3.PoolManager(**settings)
        return self._pools[secure, proxy]

    def _through(self, proxy: str, settings: dict[str, Any]) -> urllib3.PoolManager:
        before, at, rest = proxy.rpartition("@")
        scheme, _, user = before.rpartition("://")
        if at:
            settings["proxy_headers"] = urllib3.make_headers(proxy_basic_auth=unquote(user))
        try:
            return urllib3.ProxyManager(f"{scheme or 'http'}://{rest}" if at else proxy, **settings)
        except HTTPError:
            raise StoreError(
                f"cannot read {self.uri.shown}: the environment names no proxy that can be used with HTTPS_PROXY,"
                " HTTP_PROXY or ALL_PROXY: expected http://host:port"
            ) from None


def _proxy_of(url: str) -> str:
    """The proxy that the environment has for `url`, or an empty text."""
    parts = urlsplit(url)
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all") or ""
    if not proxy or urllib.request.proxy_bypass(parts.hostname or ""):
        return ""
    return proxy if "://" in proxy else f"http://{proxy}"


def _continues(answer: BaseHTTPResponse, start: int, seen: Seen) -> bool:
    """Whether a partial answer is the rest of what was seen, whatever the server made of If-Range."""
    told = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
    same = answer.headers.get("ETag", seen.tag) == seen.tag
    return told is not None and int(told[1]) == start and same and told[2] in ("*", str(seen.size))

"""Many objects from a bucket at once: GET requests signed here, each in a tenth of the time that boto3 takes for one.

boto3 prepares a request for milliseconds, which are most of the time that a small object takes. Here only the plain
case is dealt with: a 200 whose bytes have the sha256 they were written with. All else (errors, retries, redirects,
proxies, words for people) is left to `S3Store.read`, which is asked for every object that did not come this way.
"""

import hashlib
import hmac
import io
import os
import re
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any
from urllib.parse import quote, urlsplit

from classmodels.s3_errors import FAILURES
from classmodels.store.base import Read

PATIENCE = 3
"""So many failures one after the other, and this way is left: it does not lead there."""
EMPTY = hashlib.sha256(b"").hexdigest()
CHUNK = 1 << 16
LARGEST = 1 << 30
"""Bytes of an object that is taken this way; a larger one is none of ours."""
SIGNED = "host;x-amz-content-sha256;x-amz-date"


@contextmanager
def bulk_reading(client: Any, bucket: str, name_of: Callable[[str], str], read: Read) -> Iterator[Read]:
    """Reads objects of `bucket`: `name_of` gives the name of a key; `read` is the way that always works."""
    way = None
    with suppress(*FAILURES):  # no credentials: `read` says so
        way = _Way.to(client, bucket)
    if way is None:
        yield read
        return

    def quickly(key: str) -> bytes | None:
        data = way.get(name_of(key))
        return read(key) if data is None else data

    try:
        yield quickly
    finally:
        way.close()


class _Way:
    """Signs and sends GET requests to one bucket, over a connection for each thread (AWS Signature Version 4)."""

    def __init__(self, address: Any, scope: str, credentials: Any, timeout: float) -> None:
        """address: the URL of an object, split, its path without the object's name. scope: region/service/version."""
        self._host, self._path = address.netloc, address.path
        self._to = (address.hostname, address.port or {"http": 80, "https": 443}[address.scheme])
        self._tls = ssl.create_default_context(cafile=_certificates()) if address.scheme == "https" else None
        self._scope, self._credentials, self._timeout = scope, credentials, timeout
        self._mine = threading.local()
        self._all: list[_Connection] = []
        self._failures = 0

    @classmethod
    def to(cls, client: Any, bucket: str) -> "_Way | None":
        """The way to `bucket`, as `client` would go; None where it would take a turn that is not known here."""
        credentials = client._request_signer._credentials  # the very object, so that what it renews is renewed here
        if credentials is None:
            return None
        url, authorization = _would_send(client, bucket)
        address, signed = urlsplit(url), re.match(r"AWS4-HMAC-SHA256 Credential=[^/]+/\d{8}/([^, ]+),", authorization)
        if signed is None or not address.path.endswith("/k"):
            return None
        host = address.hostname or ""
        if urllib.request.getproxies().get(address.scheme) and not urllib.request.proxy_bypass(host):
            return None
        timeout = client.meta.config.read_timeout
        return cls(address._replace(path=address.path[:-1]), signed[1], credentials, timeout)

    def get(self, name: str) -> bytes | None:
        """The bytes of the object `name`; None where they did not come just so."""
        if self._failures >= PATIENCE:
            return None
        connection = getattr(self._mine, "connection", None)
        try:
            if connection is None:
                connection = self._mine.connection = _Connection(self._to, self._tls, self._timeout)
                self._all.append(connection)
            status, headers, data = connection.ask(self._request(self._path + quote(name, safe="/~")))
        except (OSError, ValueError, *FAILURES):
            self._mine.connection = None
            if connection is not None:
                connection.close()
            self._failures += 1
            return None
        sha256 = headers.get(b"x-amz-meta-sha256")
        if (
            status != 200
            or b"x-amz-request-id" not in headers
            or (sha256 is not None and hashlib.sha256(data).hexdigest().encode() != sha256)
        ):
            self._failures += status != 404
            return None
        self._failures = 0
        return data

    def close(self) -> None:
        for connection in self._all:
            connection.close()

    def _request(self, path: str) -> bytes:
        """A GET of `path`, signed."""
        credentials = self._credentials.get_frozen_credentials()
        now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        headers = {"host": self._host, "x-amz-content-sha256": EMPTY, "x-amz-date": now}
        names = SIGNED
        if credentials.token:
            headers["x-amz-security-token"] = credentials.token
            names += ";x-amz-security-token"
        lines = [f"{name}:{value}" for name, value in headers.items()]
        canonical = "\n".join(["GET", path, "", *lines, "", names, EMPTY])
        scope = f"{now[:8]}/{self._scope}"
        said = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        signature = hmac.digest(_signing_key(credentials.secret_key, scope), said.encode(), "sha256").hex()
        lines.append(
            f"authorization:AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope},"
            f" SignedHeaders={names}, Signature={signature}"
        )
        return "\r\n".join([f"GET {path} HTTP/1.1", *lines, "", ""]).encode("latin-1")


class _Connection:
    """One connection, and as much of HTTP as an object needs that comes whole, its length told beforehand."""

    def __init__(self, to: tuple[str, int], tls: ssl.SSLContext | None, timeout: float) -> None:
        self._socket = socket.create_connection(to, timeout)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            self._socket = tls.wrap_socket(self._socket, server_hostname=to[0])

    def ask(self, request: bytes) -> tuple[int, dict[bytes, bytes], bytes]:
        """Status, headers (names in lower case) and body of the answer. Raises OSError, ValueError where it is none."""
        self._socket.sendall(request)
        received = bytearray()
        while (end := received.find(b"\r\n\r\n")) < 0:
            part = self._socket.recv(CHUNK)
            if not part or len(received) > CHUNK:
                raise ValueError
            received += part
        first, *lines = bytes(received[:end]).split(b"\r\n")
        version, status, *_ = first.split(b" ", 2)
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
        if version != b"HTTP/1.1" or b"transfer-encoding" in headers or b"content-encoding" in headers:
            raise ValueError
        size, body = int(headers[b"content-length"]) if b"content-length" in headers else -1, received[end + 4 :]
        if not len(body) <= size <= LARGEST:
            raise ValueError
        came = len(body)
        body += bytes(size - came)
        rest = memoryview(body)
        while came < size:
            count = self._socket.recv_into(rest[came:])
            if not count:
                raise ValueError
            came += count
        if headers.get(b"connection", b"").lower() == b"close":
            raise ValueError
        return int(status), headers, bytes(body)

    def close(self) -> None:
        self._socket.close()


def _would_send(client: Any, bucket: str) -> tuple[str, str]:
    """URL and Authorization of the request that `client` makes for the object `k` of `bucket`; it is not sent.

    How these are made of endpoint, region, bucket and style of addressing is botocore's business.
    """
    from botocore.awsrequest import AWSResponse

    mine, seen = threading.get_ident(), []

    def keep(request: Any, **_: Any) -> Any:
        if threading.get_ident() != mine:
            return None
        authorization = request.headers.get("Authorization", "")
        seen.append((request.url, authorization if isinstance(authorization, str) else authorization.decode()))
        return AWSResponse(request.url, 200, {}, io.BytesIO())

    client.meta.events.register_first("before-send.s3.GetObject", keep)
    try:
        client.get_object(Bucket=bucket, Key="k")
    finally:
        client.meta.events.unregister("before-send.s3.GetObject", keep)
    return seen[0]


@lru_cache(4)
def _signing_key(secret: str, scope: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def _certificates() -> str:
    from botocore.httpsession import get_cert_path

    path: str = os.environ.get("AWS_CA_BUNDLE") or get_cert_path(True)
    return path

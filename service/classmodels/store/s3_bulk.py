"""Many objects from a bucket at once: GET requests signed here, each in a tenth of the time that boto3 takes for one.

boto3 prepares a request for milliseconds, which are most of the time that a small object takes. Here only the plain
case is dealt with: a 200 whose bytes have the sha256 they were written with. All else (errors, retries, redirects,
proxies, words for people) is left to `S3Store.read`, which is asked for every object that did not come this way.
"""

import hashlib
import hmac
import os
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from classmodels.store.base import Read

PATIENCE = 3
"""So many failures one after the other, and this way is left: it does not lead there."""
EMPTY = hashlib.sha256(b"").hexdigest()
SIGNED = "host;x-amz-content-sha256;x-amz-date"


@contextmanager
def bulk_reading(client: Any, bucket: str, name_of: Callable[[str], str], read: Read) -> Iterator[Read]:
    """Reads objects of `bucket`: `name_of` gives the name of a key; `read` is the way that always works."""
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
        self._connect: Callable[[], HTTPConnection] = lambda: HTTPConnection(self._host, timeout=timeout)
        if address.scheme == "https":
            context = ssl.create_default_context(cafile=_certificates())
            self._connect = lambda: HTTPSConnection(self._host, timeout=timeout, context=context)
        self._scope, self._credentials = scope, credentials
        self._mine = threading.local()
        self._all: list[HTTPConnection] = []
        self._failures = 0

    @classmethod
    def to(cls, client: Any, bucket: str) -> "_Way | None":
        """The way to `bucket`, as `client` would go; None where it would take a turn that is not known here."""
        credentials = client._request_signer._credentials  # the very object, so that what it renews is renewed here
        if credentials is None:
            return None
        # How a URL is made of endpoint, region, bucket and style of addressing is botocore's business.
        url = client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "k"})
        address, query = urlsplit(url), parse_qs(urlsplit(url).query)
        if query.get("X-Amz-Algorithm") != ["AWS4-HMAC-SHA256"] or not address.path.endswith("/k"):
            return None
        host = address.hostname or ""
        if urllib.request.getproxies().get(address.scheme) and not urllib.request.proxy_bypass(host):
            return None
        scope = query["X-Amz-Credential"][0].split("/", 2)[2]
        return cls(address._replace(path=address.path[:-1]), scope, credentials, client.meta.config.read_timeout)

    def get(self, name: str) -> bytes | None:
        """The bytes of the object `name`; None where they did not come just so."""
        if self._failures >= PATIENCE:
            return None
        try:
            connection: HTTPConnection = self._mine.connection
        except AttributeError:
            connection = self._mine.connection = self._connect()
            self._all.append(connection)
        try:
            path = self._path + quote(name, safe="/~")
            connection.putrequest("GET", path, skip_host=True, skip_accept_encoding=True)
            for header, value in self._signed(path).items():
                connection.putheader(header, value)
            connection.endheaders()
            answer = connection.getresponse()
            data = answer.read()
        except (OSError, HTTPException):
            connection.close()
            self._failures += 1
            return None
        sha256 = answer.getheader("x-amz-meta-sha256")
        if answer.status != 200 or (sha256 is not None and hashlib.sha256(data).hexdigest() != sha256):
            self._failures += answer.status != 404
            return None
        self._failures = 0
        return data

    def close(self) -> None:
        for connection in self._all:
            connection.close()

    def _signed(self, path: str) -> dict[str, str]:
        """The headers of a GET of `path`, its signature among them."""
        credentials = self._credentials.get_frozen_credentials()
        now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        headers = {"host": self._host, "x-amz-content-sha256": EMPTY, "x-amz-date": now}
        names = SIGNED
        if credentials.token:
            headers["x-amz-security-token"] = credentials.token
            names += ";x-amz-security-token"
        lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
        request = hashlib.sha256(f"GET\n{path}\n\n{lines}\n{names}\n{EMPTY}".encode()).hexdigest()
        scope = f"{now[:8]}/{self._scope}"
        key = _signing_key(credentials.secret_key, scope)
        signature = hmac.digest(key, f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{request}".encode(), "sha256").hex()
        credential = f"{credentials.access_key}/{scope}"
        headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={signature}"
        )
        return headers


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

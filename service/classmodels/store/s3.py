"""A bucket as a store: one PUT for an object, so that it is there whole or not at all, and its sha256 beside it.

What is read is compared with that sha256, and asked for again where the network has shortened or changed it. botocore
repeats what failed before an answer came (`../s3.py` says how often); `../s3_errors.py` puts what remains into words.
"""

import base64
import hashlib
import io
import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO, TypeVar

from botocore.exceptions import ClientError, ReadTimeoutError, ResponseStreamingError
from botocore.parsers import ResponseParserError

from classmodels.errors import InputError, StoreError
from classmodels.s3 import S3Settings, connect, parse_uri
from classmodels.s3_errors import FAILURES, BodyDiffersError, is_damage, is_missing, status_of, telling
from classmodels.store.base import Entry, Read, check_key
from classmodels.store.s3_bulk import bulk_reading
from classmodels.store.served import cache_control, content_type

TRIES = 3
PATIENCE = 9.0
"""How often bytes are asked for or sent again that came damaged; and for how many seconds, so that the last try, which
may take its time as well (see ATTEMPTS), ends before 30 s."""
WHOLE = 1 << 26
PART = 1 << 24
SENDERS = 8
"""Bytes of an object that is sent in one piece; of each part of a larger one; and how many parts are sent at once: one
connection may be too slow for the saved state of a large batch, which must be out in seconds."""

T = TypeVar("T")


class _ConditionalError(Exception):
    """The server does not take a write with a condition."""


class S3Store:
    """Objects of one bucket whose names begin with the prefix of `uri`. The bucket must be there: it is never created.

    Multipart uploads are used for large objects alone, a saved state or a packed checkpoint: a PUT that is cut off
    leaves nothing; parts of an upload that was killed stay until a lifecycle rule of the bucket clears them away.
    """

    def __init__(self, uri: str, settings: S3Settings) -> None:
        """Nothing is asked over the network yet. Raises InputError where `uri` is none."""
        try:
            self._bucket, prefix = parse_uri(uri)
            if prefix:
                prefix = prefix.removesuffix("/")
                check_key(prefix, f"s3://{self._bucket}")
                prefix.encode()
        except (StoreError, UnicodeError):
            raise InputError(f"found {uri!r}, expected s3://bucket/prefix with one slash between names") from None
        self.uri = f"s3://{self._bucket}/{prefix}" if prefix else f"s3://{self._bucket}"
        self._prefix = f"{prefix}/" if prefix else ""
        self._settings = settings
        self._connecting = Lock()
        self._connected: Any = None
        self._looked_for_bucket = False

    def write(self, key: str, data: bytes) -> None:
        if len(data) <= WHOLE:
            self._put(key, data)
        else:
            self._put_parts(key, lambda: io.BytesIO(data), hashlib.sha256(data).hexdigest())

    def create(self, key: str, data: bytes) -> bool:
        try:
            return self._put(key, data, IfNoneMatch="*")
        except _ConditionalError:
            return self._put(key, data)

    def _put(self, key: str, data: bytes, **condition: str) -> bool:
        """False where `condition` does not hold. Raises _ConditionalError where the server knows no conditions."""
        name = self._name(key)
        about = {
            "ContentType": content_type(key),
            "CacheControl": cache_control(key),
            "Metadata": {"sha256": hashlib.sha256(data).hexdigest()},
            # The one digest that every server compares with what arrives, before it replaces anything: some do not
            # even look at the sha256 that the request is signed with.
            "ContentMD5": base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode(),
        }

        def put(client: Any) -> bool:
            try:
                client.put_object(Bucket=self._bucket, Key=name, Body=data, **about, **condition)
            except ClientError as error:
                if condition and status_of(error) == 412:
                    return False
                if condition and status_of(error) == 501:
                    raise _ConditionalError from None
                raise
            return True

        return self._do("PutObject", name, put)

    def write_file(self, key: str, file: Path, sha256: str) -> None:
        if file.stat().st_size <= WHOLE:
            return self.write(key, file.read_bytes())
        return self._put_parts(key, lambda: file.open("rb"), sha256)

    def _put_parts(self, key: str, read: Callable[[], BinaryIO], sha256: str) -> None:
        """read: opens what is to be sent, from its beginning on."""
        from boto3.s3.transfer import TransferConfig

        name = self._name(key)
        about = {"ContentType": content_type(key), "CacheControl": cache_control(key), "Metadata": {"sha256": sha256}}
        parts = TransferConfig(multipart_threshold=1, multipart_chunksize=PART, max_concurrency=SENDERS)

        def send(client: Any) -> None:
            with read() as body:
                client.upload_fileobj(body, self._bucket, name, ExtraArgs=about, Config=parts)

        return self._do("PutObject", name, send)

    def read(self, key: str) -> bytes | None:
        name = self._name(key)

        def fetch(client: Any) -> bytes | None:
            try:
                answer = client.get_object(Bucket=self._bucket, Key=name)
            except ClientError as error:
                if is_missing(error):
                    return None
                raise
            with closing(answer["Body"]) as body:
                try:
                    data: bytes = body.read()
                except ReadTimeoutError as stalled:  # unlike a request without an answer, nobody has repeated this yet
                    raise ResponseStreamingError(error=stalled) from None
            # Some servers capitalise the names of metadata.
            metadata = {name.lower(): value for name, value in answer["Metadata"].items()}
            expected = metadata.get("sha256")
            if expected is not None and hashlib.sha256(data).hexdigest() != expected:
                raise BodyDiffersError
            return data

        return self._do("GetObject", name, fetch)

    def reading(self) -> AbstractContextManager[Read]:
        return bulk_reading(self._client(), self._bucket, self._name, self.read)

    def list(self, prefix: str) -> Iterator[str]:
        return (entry.key for entry in self.entries(prefix))

    def entries(self, prefix: str) -> Iterator[Entry]:
        if "/" in prefix:
            check_key(prefix.rpartition("/")[0], self.uri)
        start = self._prefix + prefix

        def fetch(client: Any) -> list[Entry]:
            found = []
            for page in client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=start):
                _require_listing(page)
                for one in page.get("Contents", ()):
                    md5 = one["ETag"].strip('"')  # the MD5 of an object that one PUT has written, but for some servers
                    key = one["Key"].removeprefix(self._prefix)
                    found.append(Entry(key, one["Size"], one["LastModified"], md5 if len(md5) == 32 else None, md5))
            return found

        found = self._do("ListObjectsV2", start, fetch)
        # Not every server sorts by the whole key: some go folder by folder.
        return iter(sorted(entry for entry in found if _is_ours(entry.key)))

    def delete(self, key: str) -> None:
        name = self._name(key)
        self._do("DeleteObject", name, lambda client: client.delete_object(Bucket=self._bucket, Key=name))

    def locate(self, key: str) -> str:
        return f"s3://{self._bucket}/{self._name(key)}"

    def _name(self, key: str) -> str:
        """The whole name of the object `key` in the bucket. Raises StoreError where it is none."""
        check_key(key, self.uri)
        try:
            key.encode()
        except UnicodeError:
            raise StoreError(f"the key {key!r} cannot be a name in {self.uri}: it is no Unicode text") from None
        return self._prefix + key

    def _do(self, operation: str, name: str, act: Callable[[Any], T]) -> T:
        """What `act` returns, which gets the client; again where bytes were damaged. Raises StoreError."""
        client = self._client()
        began = time.monotonic()
        with telling(client, operation, self._bucket, name):
            for _ in range(TRIES - 1):
                try:
                    return act(client)
                except FAILURES as error:
                    if not is_damage(error) or time.monotonic() - began > PATIENCE:
                        raise
            return act(client)

    def _client(self) -> Any:
        """The client; before it is used for the first time the bucket is looked for.

        Some servers create a bucket that an administrator writes to, which would hide a slip in its name.
        """
        with self._connecting:
            if self._connected is None:
                self._connected = connect(self._settings)
        client = self._connected
        if not self._looked_for_bucket:  # two threads may both look: waiting for each other would take longer
            with telling(client, "ListObjectsV2", self._bucket, self._prefix):
                try:
                    # A listing and no HEAD: the answer to that has no code, and so no reason.
                    _require_listing(client.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix, MaxKeys=1))
                except ClientError as error:
                    # Who may not list may still read or write; if not, the request itself is told why.
                    if status_of(error) not in (400, 403):
                        raise
            self._looked_for_bucket = True
        return client


def _require_listing(page: dict[str, Any]) -> None:
    """Raises ResponseParserError where something else has answered: to botocore any XML is a listing of nothing."""
    if "IsTruncated" not in page:
        raise ResponseParserError


def _is_ours(key: str) -> bool:
    """Whether a key that is listed can be read: others may have put things here that are no objects of ours."""
    return re.search(r"(^|/)(\.|/|$)|\0", key) is None

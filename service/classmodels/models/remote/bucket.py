"""Reading one object of a bucket, whole or from some byte on, and never a mixture of two versions of it."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

from botocore.exceptions import ClientError

from classmodels.errors import StoreError
from classmodels.models.remote.base import CHUNK, Answer, BrokenOffError, MissingError, Seen
from classmodels.models.remote.uri import SHA256, Uri
from classmodels.s3 import parse_uri
from classmodels.s3_errors import FAILURES, is_missing, status_of, store_error

_CHANGED = (412, 416)
"""PreconditionFailed; and InvalidRange, where a server that knows no If-Match has a shorter object now."""


class S3Object:
    """The object at `uri`. client: makes or returns the client of S3 that all objects of a job share."""

    def __init__(self, uri: Uri, client: Callable[[], Any]) -> None:
        self.uri = uri
        self._client = client
        self._bucket, self._key = parse_uri(uri.text)

    def look(self) -> Seen:
        client = self._client()
        with self._telling(client):
            try:
                return self._seen(client.head_object(Bucket=self._bucket, Key=self._key))
            except ClientError:
                # The answer to a HEAD has no code, and so no reason: the first byte is asked for to hear one.
                answer = client.get_object(Bucket=self._bucket, Key=self._key, Range="bytes=0-0")
                answer["Body"].close()
                return self._seen(answer)

    @contextmanager
    def read(self, start: int, seen: Seen) -> Iterator[Answer]:
        client = self._client()
        answer = self._get(client, start, seen) if start else None
        begins = start if answer else 0
        with self._telling(client, again=True):
            answer = answer or client.get_object(Bucket=self._bucket, Key=self._key)
        with closing(answer["Body"]) as body:
            yield Answer(self._seen(answer), begins, self._chunks(client, body))

    def _get(self, client: Any, start: int, seen: Seen) -> Any:
        """The answer with the bytes from `start` on; None where the object is no longer the one that was seen."""
        with self._telling(client, again=True):
            try:
                answer = client.get_object(
                    Bucket=self._bucket, Key=self._key, Range=f"bytes={start}-", IfMatch=seen.tag
                )
            except ClientError as error:
                if status_of(error) in _CHANGED:
                    return None
                raise
        # Not every server looks at If-Match, or at a range.
        if answer.get("ETag") == seen.tag and answer.get("ContentRange", "").startswith(f"bytes {start}-"):
            return answer
        answer["Body"].close()
        return None

    def _chunks(self, client: Any, body: Any) -> Iterator[bytes]:
        with self._telling(client, again=True):
            yield from body.iter_chunks(CHUNK)

    def _seen(self, answer: dict[str, Any]) -> Seen:
        total = answer.get("ContentRange", "").rpartition("/")[2]
        size = int(total) if total.isdecimal() else int(answer["ContentLength"])
        version = answer.get("VersionId", "null")
        tag = answer.get("ETag")
        known = None if version == "null" else f"version {version}"
        if known is None and tag:
            known = f"ETag {tag}"
        # Some servers capitalise the names of metadata.
        told = {name.lower(): value for name, value in answer.get("Metadata", {}).items()}.get("sha256", "").lower()
        identity = f"{self._client().meta.endpoint_url} {known}, {size} bytes" if known else None
        return Seen(size, identity, tag, told if SHA256.fullmatch(told) else None)

    @contextmanager
    def _telling(self, client: Any, again: bool = False) -> Iterator[None]:
        """Failures in its body become errors for people; `again`: those that may pass a BrokenOffError."""
        try:
            yield
        except FAILURES as error:
            endpoint = client.meta.endpoint_url
            if is_missing(error):
                raise MissingError(f"{self.uri.shown} does not exist at {endpoint}: check its name") from None
            said: StoreError = store_error(error, endpoint, "GetObject", self._bucket, self._key)
            if again and not (isinstance(error, ClientError) and status_of(error) < 500):
                said = BrokenOffError(str(said))
            raise said from None

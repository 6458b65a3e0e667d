"""What S3 answers, in words: one StoreError for every way in which a request can fail, with what to do about it.

A sentence names what was tried, the bucket and key, the endpoint, the reason; and at its end the operation and code as
S3 has them. It is made of our own words alone: what a server or a credentials provider says may hold a key or a
signature, so of that only the code is ever shown, and the error that botocore raised is not chained to ours.
"""

import contextlib
import re
import socket
import ssl
from collections.abc import Iterator
from typing import Any

from botocore import exceptions as boto
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from classmodels.errors import DamagedError, StoreError


class BodyDiffersError(Exception):
    """The bytes that came are not those that were written."""


FAILURES = (boto.BotoCoreError, boto.ClientError, ResponseParserError, HTTPError, BodyDiffersError)
"""All that a request and the reading of its answer raise: botocore does not wrap everything."""

_VERBS = {
    "GetObject": "read",
    "PutObject": "write",
    "DeleteObject": "delete",
    "ListObjectsV2": "list",
}
_PERMISSIONS = {
    "GetObject": "s3:GetObject (and s3:ListBucket: without it an object that is missing looks forbidden)",
    "ListObjectsV2": "s3:ListBucket",
}
_ENVIRONMENT = "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY or the profile"

_DENIED = (
    "the credentials do not permit it, or there is no such bucket",
    "check the bucket's name, and that they have {permission} on it",
)
_NO_BUCKET = ("there is no such bucket", "check its name, or create it: a bucket is never created here")
_UNKNOWN_KEY = (
    "the server does not know these credentials",
    f"check {_ENVIRONMENT}, and that they belong to this endpoint",
)
_EXPIRED = ("the credentials have expired", "get new ones and run the same command again: what is finished is kept")
_BAD_TOKEN = ("the session token is not valid", "check AWS_SESSION_TOKEN, or get new credentials")
_REGION = ("the bucket is in another region", "name it with storage.region or AWS_REGION")
_BUSY = ("the server is too busy, and was so at every attempt", "wait a while and run the same command again")
_BROKEN = (
    "the server failed at every attempt",
    "look at its logs, and whether it is an S3 server at all; then run the same command again",
)
_FULL = ("the storage is full", "free some space and run the same command again: what is finished is kept")
_ON_THE_WAY = ("the bytes were damaged on the way, each time", "look for a faulty proxy or network card in between")
_UNSUPPORTED = ("the server does not support a part of the request", "try storage.checksum: when_required")
_REASONS = {
    "AccessDenied": _DENIED,
    "AllAccessDisabled": _DENIED,
    "NoSuchBucket": _NO_BUCKET,
    "InvalidBucketName": ("this is no name of a bucket", "expected 3 to 63 lower-case letters, digits, dots, hyphens"),
    "InvalidAccessKeyId": _UNKNOWN_KEY,
    "SignatureDoesNotMatch": (
        "the secret key is wrong, or something in between changes requests",
        f"check {_ENVIRONMENT}, and proxies before the server",
    ),
    "ExpiredToken": _EXPIRED,
    "ExpiredTokenException": _EXPIRED,
    "TokenRefreshRequired": _EXPIRED,
    "InvalidToken": _BAD_TOKEN,
    "InvalidClientTokenId": _BAD_TOKEN,
    "RequestTimeTooSkewed": ("the clock of this machine and that of the server differ too much", "set the clock"),
    "PermanentRedirect": _REGION,
    "TemporaryRedirect": _REGION,
    "AuthorizationHeaderMalformed": _REGION,
    "IllegalLocationConstraintException": _REGION,
    "SlowDown": _BUSY,
    "BadDigest": _ON_THE_WAY,
    "XAmzContentSHA256Mismatch": _ON_THE_WAY,
    "IncompleteBody": _ON_THE_WAY,
    "ConditionalRequestConflict": ("others write the same object, each time", "run the same command again"),
    "RequestTimeout": ("the request did not arrive in time", "look at the network, and at proxies before the server"),
    "EntityTooLarge": ("the object is larger than the server takes", "ask whoever runs it for the limit"),
    "QuotaExceeded": _FULL,
    "XMinioStorageFull": _FULL,
    "InsufficientStorage": _FULL,
    "NotImplemented": _UNSUPPORTED,
    "XNotImplemented": _UNSUPPORTED,
}
_BY_STATUS = {301: _REGION, 307: _REGION, 403: _DENIED, 429: _BUSY, 503: _BUSY, 507: _FULL}
_PASSING = {429, 500, 502, 503, 504}
_ADDRESS = "check storage.endpoint_url or AWS_ENDPOINT_URL, and the network"
_SERVER = "look at the server and at proxies before it"
_BY_KIND: tuple[tuple[tuple[type[Exception], ...], str, str], ...] = (
    ((BodyDiffersError,), "its bytes are not those that were written", "delete the object and run the job again"),
    ((boto.ProxyConnectionError,), "the proxy cannot be reached", "check HTTP_PROXY, HTTPS_PROXY and NO_PROXY"),
    ((boto.ConnectTimeoutError,), "nothing answers there; maybe no route leads there", _ADDRESS),
    (
        (boto.ReadTimeoutError,),
        "the server did not answer in time",
        "look at the server, or raise CLASSMODELS_S3_READ_TIMEOUT for a slow one",
    ),
    ((boto.IncompleteReadError, boto.ResponseStreamingError, HTTPError), "the answer broke off, each time", _SERVER),
    ((boto.ConnectionClosedError,), "the server closed the connection, each time", _SERVER),
    ((boto.FlexibleChecksumError,), *_ON_THE_WAY),
    ((ResponseParserError, boto.PaginationError), "what answers there does not speak S3", _ADDRESS),
    (
        (
            boto.NoCredentialsError,
            boto.PartialCredentialsError,
            boto.CredentialRetrievalError,
            boto.TokenRetrievalError,
            boto.NoAuthTokenError,
            boto.SSOError,
            boto.LoginError,
            boto.MetadataRetrievalError,
            boto.RefreshWithMFAUnsupportedError,
        ),
        "no credentials can be had",
        f"set {_ENVIRONMENT}, or a role",
    ),
)
_MISSING = {"NoSuchKey", "KeyTooLongError"}
_RESENT = {"BadDigest", "XAmzContentSHA256Mismatch", "IncompleteBody", "ConditionalRequestConflict"}


@contextlib.contextmanager
def telling(client: Any, operation: str, bucket: str, key: str = "") -> Iterator[None]:
    """Whatever the requests in its body raise becomes a StoreError about `operation` (GetObject, ...)."""
    try:
        yield
    except FAILURES as error:
        raise store_error(error, client.meta.endpoint_url, operation, bucket, key) from None


def store_error(error: Exception, endpoint: str, operation: str, bucket: str, key: str = "") -> StoreError:
    """`error`, one of FAILURES, as one sentence."""
    reason, advice, code = _explain(error)
    what = f"s3://{bucket}/{key}" if key else f"s3://{bucket}"
    advice = advice.format(permission=_PERMISSIONS.get(operation, f"s3:{operation}"))
    verb = _VERBS.get(operation, operation)
    kind = DamagedError if isinstance(error, BodyDiffersError) else StoreError
    sentence = f"cannot {verb} {what} at {endpoint}: {reason}; {advice} [{operation}: {code}]"
    return kind(sentence, passing=is_passing(error), full=reason == _FULL[0])


def is_missing(error: Exception) -> bool:
    """Whether S3 says that there is no such object; a bucket that is missing is another matter."""
    return isinstance(error, boto.ClientError) and code_of(error) in _MISSING


def is_damage(error: Exception) -> bool:
    """Whether asking or sending again may help, which botocore does not do: bytes were lost or changed on the way, or
    somebody else was writing the same object."""
    if isinstance(error, boto.ClientError):
        return code_of(error) in _RESENT
    return isinstance(
        error,
        (
            BodyDiffersError,
            HTTPError,
            boto.IncompleteReadError,
            boto.ResponseStreamingError,
            boto.FlexibleChecksumError,
        ),
    )


def is_passing(error: Exception) -> bool:
    """Whether `error` may well pass by itself: a server or network that is down, busy or slow, not one that refuses.

    An object that differs from what was written stays as it is.
    """
    if isinstance(error, boto.ClientError):
        return status_of(error) in _PASSING or code_of(error) == "RequestTimeout" or is_damage(error)
    if isinstance(error, (BodyDiffersError, boto.SSLError)):
        return False
    return isinstance(error, (boto.HTTPClientError, boto.ConnectionError)) or is_damage(error)


def code_of(error: boto.ClientError) -> str:
    """The code of S3, such as NoSuchKey; where an answer has none botocore gives the HTTP status instead."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    return code if re.fullmatch(r"[A-Za-z0-9.]{1,60}", code) else "no code"


def status_of(error: boto.ClientError) -> int:
    """The HTTP status of the answer."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _explain(error: Exception) -> tuple[str, str, str]:
    """Reason, advice and code of `error`."""
    if isinstance(error, boto.ClientError):
        return _answered(error)
    code = type(error).__name__
    if isinstance(error, boto.SSLError):
        return (*_tls(error), code)
    if isinstance(error, boto.EndpointConnectionError):
        return (*_unreached(error), code)
    for kinds, reason, advice in _BY_KIND:
        if isinstance(error, kinds):
            return reason, advice, code
    return "the request cannot be made", "check the settings of storage and the AWS_ variables of the environment", code


def _answered(error: boto.ClientError) -> tuple[str, str, str]:
    code, status = code_of(error), status_of(error)
    known = _REASONS.get(code) or _BY_STATUS.get(status) or (_BROKEN if status >= 500 else None)
    if known is None:
        known = f"the server answered with HTTP {status}", "check storage.endpoint_url and the settings of storage"
    return (*known, code)


def _unreached(error: boto.EndpointConnectionError) -> tuple[str, str]:
    inner = _inner(error)
    if isinstance(inner, socket.gaierror):
        return "the name of its host cannot be resolved", _ADDRESS + "; storage.path_style: true may be needed"
    if isinstance(inner, ConnectionRefusedError):
        return "the connection is refused: no server listens there", _ADDRESS
    return "no route leads there", _ADDRESS


def _tls(error: boto.SSLError) -> tuple[str, str]:
    inner = _inner(error)
    if isinstance(inner, ssl.SSLCertVerificationError):
        return (
            f"its certificate is not trusted ({inner.verify_message})",
            "name the CA's certificate with AWS_CA_BUNDLE",
        )
    if isinstance(inner, ssl.SSLError) and inner.reason == "WRONG_VERSION_NUMBER":
        return "the server speaks no TLS", "write http:// instead of https:// in its URL"
    if isinstance(inner, FileNotFoundError) or "NO_CERTIFICATE" in str(inner):
        return "there is no file of certificates where one is named", "check AWS_CA_BUNDLE"
    if "doesn't match" in str(error):
        return "its certificate is for another host", "check the host in storage.endpoint_url"
    return "no secure connection can be made", "check storage.endpoint_url and AWS_CA_BUNDLE"


def _inner(error: BaseException) -> BaseException:
    """The OSError at the bottom of `error`, past what botocore and urllib3 have wrapped around it; else `error`."""
    found: BaseException = error
    at: BaseException | None = error
    for _ in range(10):
        if isinstance(at, OSError):
            found = at
        if at is None:
            break
        named = getattr(at, "kwargs", {}).get("error") or getattr(at, "reason", None)
        at = named if isinstance(named, BaseException) else at.__cause__ or at.__context__
    return found

"""What goes wrong over https, in words: what was asked for, the reason, what to do; and whether it may pass.

As with S3 a sentence is made of our own words alone, and the error of urllib3 is not chained: URLs hold signatures.
"""

import ssl
from http import HTTPStatus

from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NameResolutionError,
    NewConnectionError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)

from classmodels.errors import StoreError
from classmodels.models.remote.base import BrokenOffError
from classmodels.models.remote.uri import Uri

PASSING = (408, 425, 429, 500, 502, 503, 504)
_PROXY = "check HTTPS_PROXY and NO_PROXY"
_NETWORK = "check the address and the network, and HTTPS_PROXY if the way out is a proxy"
_STATUSES = {
    401: ("it is not public", "name a signed URL, or the object in S3"),
    403: ("the server does not permit it", "a signed URL may have expired: get a new one"),
    407: ("the proxy wants a user name and password", _PROXY),
    408: ("the server waited too long for the request", "run the same command again"),
    429: ("the server is asked too often, and was so at every attempt", "wait a while and run the same command again"),
    503: ("the server is too busy, and was so at every attempt", "wait a while and run the same command again"),
}


def refusal(status: int, uri: Uri) -> str:
    """What to say of an answer without the object."""
    phrase = f" {HTTPStatus(status).phrase}" if status in HTTPStatus._value2member_map_ else ""
    failed = ("the server failed at every attempt", "run the same command again later")
    other = ("the server answers with something else", "check the address")
    reason, advice = _STATUSES.get(status, failed if status >= 500 else other)
    return f"cannot read {uri.shown}: {reason}; {advice} [HTTP {status}{phrase}]"


def error_of(error: HTTPError, uri: Uri) -> StoreError:
    """What to raise instead of `error`, which urllib3 has raised."""
    kind: type[StoreError] = BrokenOffError
    inner = _ssl_error(error)
    if isinstance(error, ProxyError):
        reason, advice = "the proxy cannot be reached, or does not lead there", _PROXY
    elif isinstance(inner, ssl.SSLCertVerificationError):
        kind = StoreError
        reason = f"its certificate is not trusted ({inner.verify_message})"
        advice = "name the file of the CA's certificate with SSL_CERT_FILE"
    elif isinstance(error, SSLError):
        kind = StoreError
        reason, advice = "no secure connection can be made", "check that the server speaks https, and SSL_CERT_FILE"
    elif isinstance(error, NameResolutionError):
        reason, advice = "the name of its host cannot be resolved", _NETWORK
    elif isinstance(error, NewConnectionError):
        refused = "Connection refused" in str(error)
        reason = "the connection is refused: no server listens there" if refused else "no route leads there"
        advice = _NETWORK
    elif isinstance(error, ConnectTimeoutError):
        reason, advice = "nothing answers there; maybe no route leads there", _NETWORK
    elif isinstance(error, ReadTimeoutError):
        reason, advice = "the server did not answer in time", "run the same command again: what has come is kept"
    else:
        reason, advice = "the answer broke off, each time", "run the same command again: what has come is kept"
    return kind(f"cannot read {uri.shown}: {reason}; {advice} [{type(error).__name__}]")


def _ssl_error(error: BaseException) -> BaseException | None:
    """The error of TLS at the bottom of `error`, if there is one."""
    at: BaseException | None = error
    for _ in range(6):
        if isinstance(at, ssl.SSLError):
            return at
        if at is None:
            break
        named = at.args[-1] if at.args and isinstance(at.args[-1], BaseException) else None
        at = named or at.__cause__ or at.__context__
    return None

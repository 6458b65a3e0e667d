"""What the API server answers, in words: one ClusterError for every way in which a request can fail.

A sentence names what was tried, the server, the reason and what to do about it; and at its end the code as Kubernetes
has it. Of what the server says only its message is shown, made short and plain; never a header, which may hold a token.
"""

import contextlib
import json
import re
import socket
import ssl
from dataclasses import dataclass
from typing import Any

from urllib3 import exceptions as http

from classmodels.errors import ClusterError, UnacceptableError

FAILURES: tuple[type[Exception], ...] = (http.HTTPError, OSError)
"""What a request raises beside the client's own ApiException: that wraps only answers, and TLS."""

_PASSING = {408, 429, 500, 502, 503, 504}
_CONTEXT = "check the server that the context {context} of the kube config names"
_RBAC = re.compile(r"User \".*\" cannot \w+ resource ")
_SHOWN = 600


@dataclass(frozen=True)
class Act:
    """What was asked for: an RBAC verb, a resource such as jobs.batch, maybe an object's name, and where."""

    verb: str
    resource: str
    name: str
    namespace: str
    server: str
    context: str

    def __str__(self) -> str:
        what = f"{self.resource} {self.name}" if self.name else self.resource
        return f"{self.verb} {what} in the namespace {self.namespace} at {self.server}"


def cluster_error(error: Exception, act: Act) -> ClusterError:
    """`error`, the client's ApiException or one of FAILURES, as one sentence."""
    status = getattr(error, "status", 0) or 0
    if not isinstance(status, int) or status == 0:
        reason, advice, passing = _unreached(error)
        advice = advice.format(context=act.context)
        code = type(_inner(error)).__name__
        return ClusterError(f"cannot reach the API server {act.server}: {reason}; {advice} [{code}]", passing=passing)
    return _answered(error, status, act)


def unreadable(act: Act, status: int) -> ClusterError:
    """Something that is no API server has answered, such as a proxy's page."""
    advice = _CONTEXT.format(context=act.context)
    return ClusterError(
        f"cannot {act}: what answers there does not speak Kubernetes; {advice}, and proxies before it [{status}]",
        status=status,
    )


def _answered(error: Exception, status: int, act: Act) -> ClusterError:
    body = _status_of(error)
    code = str(body.get("reason") or status)[:60]
    message = plain(str(body.get("message") or ""))
    kind = ClusterError
    if status == 401:
        reason = "the server does not know these credentials, or they have expired"
        advice = f"log in again, or check the user of the context {act.context} in the kube config"
    elif status == 403 and (_RBAC.search(message) or not message):
        reason = "the user may not"
        advice = f"ask whoever runs the cluster for the verb {act.verb} on {act.resource} in that namespace"
    elif status == 403:
        reason, advice = message, "free what it lacks, or ask whoever runs the cluster"
    elif status == 404 and (_details(body).get("kind") == "namespaces" or f'namespaces "{act.namespace}"' in message):
        reason, advice = "there is no such namespace", "name another with --namespace, or have it made"
    elif status == 404 and not body:
        return unreadable(act, status)
    elif status == 404:
        reason, advice = "there is none", "`classmodels list` tells what there is"
    elif status == 409 and code == "AlreadyExists":
        reason, advice = "there is one of that name already", "`classmodels list` tells what there is"
    elif status == 409:
        reason, advice = f"somebody else is changing it: {message}", "run the same command again"
    elif status in (400, 422):
        kind = UnacceptableError
        reason = f"it is not accepted: {_causes(body) or message}"
        advice = "change the job's cluster, such as its pod_template, or the site's defaults"
    elif status == 429:
        reason, advice = "the server is too busy, and was so at every attempt", "wait a while and try again"
    elif status >= 500:
        reason = "the server failed at every attempt" + (f": {message}" if message else "")
        advice = "wait a while and try again, or ask whoever runs the cluster"
    else:
        reason, advice = f"the server answered with HTTP {status}", _CONTEXT.format(context=act.context)
    return kind(
        f"cannot {act}: {reason}; {advice} [{status}{'' if code == str(status) else f' {code}'}]",
        passing=status in _PASSING,
        status=status,
        reason=code,
        retry_after=_retry_after(error),
    )


def plain(text: str, most: int = _SHOWN) -> str:
    """`text` of others on one line, without what terminals obey, and not too long."""
    text = re.sub(r"[\x00-\x1f\x7f-\x9f\s]+", " ", text).strip()
    return text if len(text) <= most else text[: most - 3] + "..."


def _causes(body: dict[str, Any]) -> str:
    """Each field that is wrong, with what is wrong about it."""
    causes = _details(body).get("causes")
    said = []
    for cause in causes if isinstance(causes, list) else []:
        if isinstance(cause, dict):
            said.append(plain(f"{cause.get('field') or 'the object'}: {cause.get('message') or ''}", 300))
    return plain("; ".join(dict.fromkeys(said)), 2 * _SHOWN)


def _details(body: dict[str, Any]) -> dict[str, Any]:
    details = body.get("details")
    return details if isinstance(details, dict) else {}


def _status_of(error: Exception) -> dict[str, Any]:
    """The Status object that the server has answered with; an empty one where it answered with something else."""
    with contextlib.suppress(ValueError, TypeError):
        body = json.loads(getattr(error, "body", None) or b"{}")
        if isinstance(body, dict) and body.get("kind") == "Status":
            return body
    return {}


def _retry_after(error: Exception) -> float:
    with contextlib.suppress(ValueError, TypeError, AttributeError):
        return max(0.0, float(getattr(error, "headers", {}).get("Retry-After", 0)))
    return 0.0


def _unreached(error: Exception) -> tuple[str, str, bool]:
    """Reason, advice, and whether it may pass by itself."""
    inner = _inner(error)
    proxied = any(isinstance(one, http.ProxyError) for one in _chain(error))
    if proxied:
        return "the proxy cannot be used", "check HTTPS_PROXY and NO_PROXY, and proxy-url in the kube config", True
    if isinstance(inner, ssl.SSLCertVerificationError):
        return (
            f"its certificate is not trusted ({plain(inner.verify_message, 100)})",
            "check certificate-authority of the context {context} in the kube config",
            False,
        )
    if isinstance(inner, ssl.SSLError) and inner.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
        return "the server speaks no TLS", _CONTEXT, False
    if isinstance(inner, ssl.SSLError):
        return "no secure connection can be made", _CONTEXT + " and its certificates", False
    if isinstance(inner, socket.gaierror):
        return "the name of its host cannot be resolved", _CONTEXT + ", and the network", False
    if isinstance(inner, ConnectionRefusedError):
        return "the connection is refused: no server listens there", _CONTEXT + ", and whether the cluster is up", True
    if isinstance(inner, http.ConnectTimeoutError):
        return "nothing answers there; maybe no route leads there", _CONTEXT + ", and the network", True
    if isinstance(inner, (http.ReadTimeoutError, TimeoutError)):
        return "it did not answer in time", "wait a while and try again, or ask whoever runs the cluster", True
    if isinstance(inner, (http.ProtocolError, http.HTTPError, ConnectionError)):
        return "the connection broke off", "try again; look at proxies before the server", True
    return "no route leads there", _CONTEXT + ", and the network", True


def _inner(error: BaseException) -> BaseException:
    """The error that tells most: the OSError or timeout at the bottom of what urllib3 and the client have wrapped."""
    found = error
    for one in _chain(error):
        if isinstance(one, http.TimeoutError) and not isinstance(one, http.NewConnectionError):
            return one
        if isinstance(one, OSError):
            found = one
    return found


def _chain(error: BaseException) -> list[BaseException]:
    """`error` and all that it was made from, outermost first."""
    found: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and at not in found and len(found) < 20:
        found.append(at)
        named = getattr(at, "reason", None) or next((a for a in at.args if isinstance(a, BaseException)), None)
        at = named if isinstance(named, BaseException) else at.__cause__ or at.__context__
    return found

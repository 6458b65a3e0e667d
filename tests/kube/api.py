"""A stand-in for a cluster's API server: the few resources that runs are made of, over HTTP, in this process.

`api.put(obj)` and `api.get(kind, name)` go past HTTP; `api.seen` are the requests as they came, such as `POST jobs`;
`api.next(fault, ...)` holds for the next requests, one fault each. `controller.py` does what controllers do.
"""

import copy
import json
import os
import socket
import ssl
import struct
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

from kube.rules import Object, RefusedError, check_change, check_new, fill_in, patched
from web import CERTIFICATE

NAMESPACE = "galleries"
TOKEN = "a-token-that-nobody-may-see"
RESOURCES = {"configmaps": "ConfigMap", "events": "Event", "jobs": "Job", "pods": "Pod", "workloads": "Workload"}
GROUPS = {"ConfigMap": "", "Event": "", "Job": "batch", "Pod": "", "Workload": "kueue.x-k8s.io"}

Fault = Callable[["Handler"], None]


class NoSuchPathError(Exception):
    """The server has no such resource at all, as for the custom resources of what is not installed."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away, as one does that is interrupted, is nothing to print a traceback for."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    api: "StandIn"

    def answer(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.api.note(self)
        fault = self.api.faults.popleft() if self.api.faults else self.api.usual
        try:
            fault(self)
        except OSError:  # the client is gone
            self.close_connection = True

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = answer  # noqa: N815

    def log_message(self, *arguments: object) -> None:
        """Nothing: the tests look at `seen`."""

    def serve(self) -> None:
        """The answer that the request deserves."""
        try:
            found = self.api.act(self.command, self.path, self.headers, self.body)
        except RefusedError as refused:
            self.refuse(refused.code, refused.reason, refused.message, **refused.details)
            return
        except NoSuchPathError:
            self.send(404, b"404 page not found\n", "text/plain")
            return
        if isinstance(found, Iterator):
            self.stream(found)
        elif isinstance(found, str):
            self.send(200, found.encode(), "text/plain")
        else:
            warnings = {"Warning": f"299 - {json.dumps(text)}"} if (text := self.api.warning) else {}
            self.send(201 if self.command == "POST" else 200, json.dumps(found).encode(), **warnings)

    def refuse(self, code: int, reason: str, message: str, retry_after: int | None = None, **details: Any) -> None:
        status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message}
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        body = status | {"reason": reason, "details": details, "code": code}
        self.send(code, json.dumps(body).encode(), **headers)

    def send(self, code: int, body: bytes, content_type: str = "application/json", **headers: str) -> None:
        self.send_response(code)
        about = {"Content-Type": content_type, "Content-Length": str(len(body))} | headers
        for name, value in about.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def stream(self, lines: Iterator[str]) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for line in lines:
            data = line.encode()
            self.wfile.write(b"%x\r\n" % len(data) + data + b"\r\n")
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def reset(self) -> None:
        """End the connection as a crash does: with a TCP reset."""
        connection: socket.socket = self.connection
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(connection.detach())
        self.close_connection = True


def passed(handler: Handler) -> None:
    """No fault."""
    handler.serve()


def reset(handler: Handler) -> None:
    """The connection breaks; nothing was done."""
    handler.reset()


def answer_lost(handler: Handler) -> None:
    """What was asked is done; the answer does not arrive."""
    handler.send = lambda *arguments, **headers: handler.reset()  # type: ignore[method-assign]
    handler.serve()


def silent(handler: Handler) -> None:
    """The request is taken and nothing comes back."""
    handler.api.stopping.wait(30)
    handler.reset()


def web_page(handler: Handler) -> None:
    """Something that is no API server answers."""
    handler.send(200, b"<html><body>Log in</body></html>", "text/html")


def status(code: int, reason: str, message: str = "no reason is given", **details: Any) -> Fault:
    """The server answers with a Status object; retry_after: how long it asks to be left alone."""
    return lambda handler: handler.refuse(code, reason, message, **details)


class StandIn:
    """Listens until `stop`; over TLS if `tls`. Namespaces are there from the beginning, or not at all."""

    def __init__(self, *, tls: bool = False, namespaces: tuple[str, ...] = (NAMESPACE,)) -> None:
        self.namespaces = namespaces
        self.objects: dict[tuple[str, str, str], Object] = {}
        self.logs: dict[str, list[tuple[datetime, str]]] = {}
        """What each pod has printed, line by line, with its time."""
        self.seen: list[str] = []
        self.changes: list[tuple[str, str]] = []
        """What was asked for beside looking: (method, path with its query), in order."""
        self.faults: deque[Fault] = deque()
        self.usual: Fault = passed
        self.forbidden: set[tuple[str, str]] = set()
        """Pairs of verb and resource, such as ("create", "jobs")."""
        self.warning = ""
        self.kueue = False
        self.page = 500
        self.stopping = threading.Event()
        self.lock = threading.RLock()
        self._version = 1000
        self._tokens: dict[str, list[Object]] = {}
        self._server = _Server(("127.0.0.1", 0), type("Bound", (Handler,), {"api": self}))
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(CERTIFICATE)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"{'https' if tls else 'http'}://localhost:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def kube_config(self, *, namespace: str | None = NAMESPACE, token: str = TOKEN, **cluster: Any) -> str:
        """A kube config with one context, `lab`, as YAML."""
        context = {"cluster": "lab", "user": "alice"} | ({"namespace": namespace} if namespace else {})
        return yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "lab", "cluster": {"server": self.url} | cluster}],
                "users": [{"name": "alice", "user": {"token": token}}],
                "contexts": [{"name": "lab", "context": context}],
                "current-context": "lab",
            }
        )

    def next(self, *faults: Fault) -> None:
        self.faults.extend(faults)

    def get(self, kind: str, name: str, namespace: str = NAMESPACE) -> Object | None:
        return self.objects.get((kind, namespace, name))

    def all(self, kind: str, namespace: str = NAMESPACE) -> list[Object]:
        return [obj for (one, at, _), obj in sorted(self.objects.items()) if (one, at) == (kind, namespace)]

    def put(self, obj: Object, namespace: str = NAMESPACE) -> Object:
        """Create or replace an object, unchecked, as a controller does."""
        with self.lock:
            self._version += 1
            meta = obj.setdefault("metadata", {})
            meta.setdefault("uid", str(uuid.uuid4()))
            meta.setdefault("creationTimestamp", timestamp())
            meta |= {"namespace": namespace, "resourceVersion": str(self._version)}
            self.objects[(obj["kind"], namespace, meta["name"])] = obj
            return obj

    def remove(self, obj: Object) -> None:
        with self.lock:
            self.objects.pop((obj["kind"], obj["metadata"]["namespace"], obj["metadata"]["name"]), None)

    def collect_garbage(self) -> None:
        """Remove every object whose owners are all gone, as the garbage collector does some time after a deletion."""
        with self.lock:
            there = {obj["metadata"]["uid"] for obj in self.objects.values()}
            for obj in list(self.objects.values()):
                owners = {owner["uid"] for owner in obj["metadata"].get("ownerReferences", [])}
                if owners and not owners & there:
                    self.remove(obj)

    def expire_continue_tokens(self) -> None:
        """As after some minutes, in a busy cluster after seconds."""
        self._tokens.clear()

    def note(self, handler: Handler) -> None:
        path = urlsplit(handler.path).path
        last = [part for part in path.split("/") if part in (*RESOURCES, "log")]
        self.seen.append(f"{handler.command} {last[-1] if last else path}")
        if handler.command != "GET":
            self.changes.append((handler.command, handler.path))

    def act(self, method: str, path: str, headers: Message, body: bytes) -> Any:
        """Do what is asked, as whoever holds TOKEN. Raises RefusedError."""
        address = urlsplit(path)
        query = {key: values[-1] for key, values in parse_qs(address.query).items()}
        parts = address.path.strip("/").split("/")
        if headers.get("Authorization") != f"Bearer {TOKEN}":
            raise RefusedError(401, "Unauthorized", "Unauthorized")
        # api/v1/namespaces/NS/RESOURCE/NAME/SUB or apis/GROUP/VERSION/namespaces/...
        start = 2 if parts[0] == "api" else 3
        group = "" if parts[0] == "api" else parts[1]
        if parts[start : start + 1] != ["namespaces"] or len(parts) < start + 3 or parts[start + 2] not in RESOURCES:
            raise NoSuchPathError
        namespace, resource, *rest = parts[start + 1 :]
        kind = RESOURCES[resource]
        if GROUPS[kind] != group or (kind == "Workload" and not self.kueue):
            raise NoSuchPathError
        name = rest[0] if rest else ""
        self._authorize(method, resource, group, namespace, name, rest[1:])
        with self.lock:
            if rest[1:] == ["log"]:
                return self._log(namespace, name, query)
            if method == "GET":
                return copy.deepcopy(self._find(kind, namespace, name)) if name else self._list(kind, namespace, query)
            data = json.loads(body or b"{}")
            dry = query.get("dryRun") == "All"
            if method == "POST":
                return copy.deepcopy(self._create(kind, namespace, data, query.get("fieldValidation") == "Strict", dry))
            if method == "PATCH":
                return copy.deepcopy(self._patch(kind, namespace, name, headers["Content-Type"], data, dry))
            if method == "DELETE":
                return self._delete(kind, namespace, name, data | query, dry)
        raise RefusedError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")

    def _authorize(self, method: str, resource: str, group: str, namespace: str, name: str, sub: list[str]) -> None:
        verbs = {"POST": "create", "PATCH": "patch", "DELETE": "delete", "GET": "get" if name else "list"}
        verb, what = verbs[method], "/".join([resource, *sub])
        if (verb, what) in self.forbidden:
            shown = f'{resource}{f".{group}" if group else ""}{f""" "{name}" """.rstrip() if name else ""}'
            message = (
                f'{shown} is forbidden: User "alice" cannot {verb} resource "{what}" in API group "{group}"'
                f' in the namespace "{namespace}"'
            )
            raise RefusedError(403, "Forbidden", message, name=name, group=group, kind=resource)

    def _find(self, kind: str, namespace: str, name: str) -> Object:
        obj = self.objects.get((kind, namespace, name))
        if obj is None:
            resource = next(key for key, value in RESOURCES.items() if value == kind)
            shown = f"{resource}.{GROUPS[kind]}" if GROUPS[kind] else resource
            details = {"name": name, "group": GROUPS[kind], "kind": resource}
            raise RefusedError(404, "NotFound", f'{shown} "{name}" not found', **details)
        return obj

    def _list(self, kind: str, namespace: str, query: dict[str, str]) -> Object:
        if "continue" in query:
            left = self._tokens.pop(query["continue"], None)
            if left is None:
                message = "The provided continue parameter is too old to display a consistent list result."
                raise RefusedError(410, "Expired", message)
        else:
            left = [obj for obj in self.all(kind, namespace) if _selected(obj, query)]
        size = min(int(query.get("limit", 10**9)), self.page)
        meta = {"resourceVersion": str(self._version)}
        if len(left) > size:
            meta["continue"] = uuid.uuid4().hex
            self._tokens[meta["continue"]] = left[size:]
        return {"kind": f"{kind}List", "apiVersion": "v1", "metadata": meta, "items": copy.deepcopy(left[:size])}

    def _create(self, kind: str, namespace: str, obj: Object, strict: bool, dry: bool) -> Object:
        if namespace not in self.namespaces:
            raise RefusedError(
                404, "NotFound", f'namespaces "{namespace}" not found', name=namespace, kind="namespaces"
            )
        if obj["metadata"].get("namespace", namespace) != namespace:
            message = "the namespace of the provided object does not match the namespace sent on the request"
            raise RefusedError(400, "BadRequest", message)
        check_new(obj, strict)
        name = obj["metadata"]["name"]
        if (kind, namespace, name) in self.objects:
            shown = f"{kind.lower()}s{f'.{GROUPS[kind]}' if GROUPS[kind] else ''}"
            raise RefusedError(409, "AlreadyExists", f'{shown} "{name}" already exists', name=name, kind=shown)
        before = dict(self.objects)
        new = self.put(copy.deepcopy(obj), namespace)
        fill_in(new)
        if dry:
            self.objects = before
        return new

    def _patch(self, kind: str, namespace: str, name: str, content_type: str, change: Any, dry: bool) -> Object:
        old = self._find(kind, namespace, name)
        new = patched(old, content_type, change)
        if new["metadata"]["uid"] != old["metadata"]["uid"]:
            raise RefusedError(409, "Conflict", "the object has been modified; please apply your changes to the latest")
        if new["metadata"].get("resourceVersion") != old["metadata"]["resourceVersion"]:
            raise RefusedError(409, "Conflict", "the object has been modified; please apply your changes to the latest")
        check_change(old, new)
        return new if dry else self.put(new, namespace)

    def _delete(self, kind: str, namespace: str, name: str, options: dict[str, Any], dry: bool) -> Object:
        obj = self._find(kind, namespace, name)
        wanted = options.get("preconditions", {}).get("uid")
        if wanted not in (None, obj["metadata"]["uid"]):
            message = (
                f"Precondition failed: UID in precondition: {wanted}, UID in object meta: {obj['metadata']['uid']}"
            )
            raise RefusedError(409, "Conflict", message)
        if not dry:
            if kind == "Job" and options.get("propagationPolicy", "Orphan") == "Orphan":
                for pod in self.all("Pod", namespace):  # the default for Jobs: their pods stay
                    pod["metadata"].pop("ownerReferences", None)
            self.remove(obj)
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}

    def _log(self, namespace: str, name: str, query: dict[str, str]) -> Any:
        pod = self._find("Pod", namespace, name)
        states = [one.get("state", {}) for one in pod.get("status", {}).get("containerStatuses", [])]
        if not any("running" in state or "terminated" in state for state in states):
            why = next((state["waiting"]["reason"] for state in states if "waiting" in state), "ContainerCreating")
            message = f'container "{query.get("container")}" in pod "{name}" is waiting to start: {why}'
            raise RefusedError(400, "BadRequest", message)
        since = datetime.now(UTC) - timedelta(seconds=int(query.get("sinceSeconds", 10**8)))
        stamped = _is_true(query.get("timestamps"))
        lines = self.logs.setdefault(name, [])

        def shown(line: tuple[datetime, str]) -> str:
            return f"{line[0].isoformat().replace('+00:00', 'Z')} {line[1]}\n" if stamped else f"{line[1]}\n"

        if not _is_true(query.get("follow")):
            chosen = [shown(line) for line in lines if line[0] >= since]
            return "".join(chosen[-int(query["tailLines"]) :] if "tailLines" in query else chosen)
        return self._followed(namespace, name, lines, since, shown)

    def _followed(
        self, namespace: str, name: str, lines: list[Any], since: datetime, shown: Callable[[Any], str]
    ) -> Iterator[str]:
        at = 0
        while True:
            pod = self.get("Pod", name, namespace)
            over = pod is None or pod["status"].get("phase") in ("Succeeded", "Failed") or self.stopping.is_set()
            for line in lines[at:]:
                at += 1
                if line[0] >= since:
                    yield shown(line)
            if over:
                return
            time.sleep(0.02)


def _is_true(value: str | None) -> bool:
    """As the server reads a flag: Python writes it in upper case."""
    return value is not None and value.lower() not in ("false", "0")


def _selected(obj: Object, query: dict[str, str]) -> bool:
    labels = obj["metadata"].get("labels", {})
    for wanted in filter(None, query.get("labelSelector", "").split(",")):
        key, is_equal, value = wanted.partition("=")
        if key not in labels or (is_equal and labels[key] != value):
            return False
    for wanted in filter(None, query.get("fieldSelector", "").split(",")):
        key, _, value = wanted.partition("=")
        at: Any = obj
        for part in key.split("."):
            at = (at or {}).get(part)
        if at != value:
            return False
    return True


def timestamp(ago: float = 0) -> str:
    """A time as Kubernetes writes it, so many seconds ago."""
    return (datetime.now(UTC) - timedelta(seconds=ago)).strftime("%Y-%m-%dT%H:%M:%SZ")

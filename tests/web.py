"""A web server of the tests' own on a loopback port: ranges, ETags, TLS, and what servers do on bad days.

`server.put(path, data)` publishes; `server.next(fault, ...)` holds for the next requests, one fault each; `server.seen`
are the requests as they came, such as `GET /w.bin bytes=10-`.
"""

import hashlib
import os
import re
import socket
import ssl
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

CERTIFICATE = Path(__file__).with_name("localhost.pem")
"""A key and a certificate for localhost, signed by nobody but itself."""


@dataclass
class Page:
    """What a path holds. framing: how its end is told: length, chunked, or (closed) not at all."""

    data: bytes
    etag: str | None
    headers: dict[str, str] = field(default_factory=dict)
    ranges: bool = True
    framing: str = "length"


Fault = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    web: "WebServer"

    def answer(self) -> None:
        asked = self.headers.get("Range")
        self.web.seen.append(f"{self.command} {self.path}{f' {asked}' if asked else ''}")
        self.web.heads.append(dict(self.headers.items()))
        fault = self.web.faults.popleft() if self.web.faults else self.web.usual
        try:
            fault(self)
        except OSError:  # the client is gone
            self.close_connection = True

    do_GET = do_HEAD = do_CONNECT = answer  # noqa: N815

    def log_message(self, *arguments: object) -> None:
        """Nothing: the tests look at `seen`."""

    def serve(self, change: Callable[[bytes], bytes] = lambda body: body, part: float = 1) -> None:
        """The page as asked for, its body changed by `change` and only a part of it sent."""
        page = self.web.pages.get(self.path.partition("?")[0])
        if page is None:
            return self.refuse(404)
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")) if page.ranges else None
        wanted = self.headers.get("If-Range")
        if wanted is not None and wanted != page.etag:
            asked = None
        body, status, headers = page.data, 200, dict(page.headers)
        if asked:
            first, last = int(asked[1]), min(int(asked[2] or len(body) - 1), len(body) - 1)
            if first > last:
                return self.refuse(416)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(body)}"
            body, status = body[first : last + 1], 206
        if page.etag is not None:
            headers["ETag"] = page.etag
        if page.framing == "length":
            headers["Content-Length"] = str(len(body))
        elif page.framing == "chunked":
            headers["Transfer-Encoding"] = "chunked"
        else:
            self.close_connection = True
        self.head(status, headers)
        if self.command == "HEAD":
            return None
        sent = change(body)[: int(len(body) * part)]
        if page.framing == "chunked":
            end = b"0\r\n\r\n" if part == 1 else b""
            sent = b"%x\r\n" % len(sent) + sent + b"\r\n" + end if sent else end
        self.wfile.write(sent)
        if part < 1:
            self.close_connection = True
        return None

    def head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def refuse(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.head(status, {"Content-Length": "0"} | (headers or {}))

    def reset(self) -> None:
        """End the connection as a crash does: with a TCP reset."""
        self.wfile.flush()
        time.sleep(0.05)  # what was sent is to arrive first
        connection: socket.socket = self.connection
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(connection.detach())
        self.close_connection = True


def passed(handler: Handler) -> None:
    """No fault."""
    handler.serve()


def cut(handler: Handler) -> None:
    """Half of what was asked for comes; then the connection is gone."""
    handler.serve(part=0.5)
    handler.reset()


def ended(handler: Handler) -> None:
    """Half of what was asked for comes; then the connection is closed in order."""
    handler.serve(part=0.5)


def corrupted(handler: Handler) -> None:
    """One bit of the body is another."""
    handler.serve(lambda body: body[:-1] + bytes([body[-1] ^ 1]))


def stalled(handler: Handler) -> None:
    """The body begins, and then nothing more comes."""
    handler.serve(part=0.5)
    handler.wfile.flush()
    handler.web.stopping.wait(30)


def silent(handler: Handler) -> None:
    """The request is taken and nothing comes back."""
    handler.web.stopping.wait(30)


def slow(handler: Handler) -> None:
    """The body comes in drops."""
    page = handler.web.pages[handler.path]
    handler.head(200, {"Content-Length": str(len(page.data)), "ETag": page.etag or ""})
    step = max(1, len(page.data) // 10)
    for start in range(0, len(page.data), step):
        handler.wfile.write(page.data[start : start + step])
        handler.wfile.flush()
        time.sleep(0.05)


def status(code: int, **headers: str) -> Fault:
    """The server answers with `code` and no body."""
    return lambda handler: handler.refuse(code, {name.replace("_", "-"): value for name, value in headers.items()})


class WebServer:
    """Listens until `stop`; over TLS with CERTIFICATE if `tls`."""

    def __init__(self, tls: bool = False) -> None:
        self.pages: dict[str, Page] = {}
        self.seen: list[str] = []
        self.heads: list[dict[str, str]] = []
        self.faults: deque[Fault] = deque()
        self.usual: Fault = passed
        self.stopping = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"web": self}))
        self._server.daemon_threads = True
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(CERTIFICATE)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"{'https' if tls else 'http'}://localhost:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def put(self, path: str, data: bytes, etag: str | None = "", **about: object) -> str:
        """Publish `data` at `path`; returns its URL. etag: by default a digest of the data; None: there is none."""
        named = f'"{hashlib.md5(data).hexdigest()}"' if etag == "" else etag
        self.pages[path] = Page(data, named, **about)  # type: ignore[arg-type]
        return self.url + path

    def next(self, *faults: Fault) -> None:
        self.faults.extend(faults)

    def stop(self) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

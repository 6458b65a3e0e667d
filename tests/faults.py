"""A proxy between boto3 and the S3 server that does to requests what networks and servers do on bad days.

`proxy.next(fault, fault, ...)` holds for the next requests, one fault each (`passed` for none); `proxy.always(fault)`
for all. `proxy.seen` are the requests as they came, such as `PUT /bucket/key`.
"""

import http.client
import os
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Exchange:
    """One request as it came. The faults below say what becomes of it."""

    handler: BaseHTTPRequestHandler
    upstream: tuple[str, int]
    stopping: threading.Event

    def body(self, part: float = 1) -> bytes:
        """The request's body, or only its beginning."""
        return self.handler.rfile.read(int(int(self.handler.headers.get("Content-Length", 0)) * part))

    def forward(self, body: bytes) -> tuple[bytes, bytes]:
        """Ask the server; head and body of its answer, as bytes on the wire."""
        connection = http.client.HTTPConnection(*self.upstream, timeout=30)
        try:
            connection.putrequest(self.handler.command, self.handler.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.handler.headers.items():
                if name.lower() not in ("expect", "connection"):
                    connection.putheader(name, value)  # with the Host that the client has signed
            connection.endheaders(body)
            answer = connection.getresponse()
            data = answer.read()
            head = [f"HTTP/1.1 {answer.status} {answer.reason}"]
            skipped = ("connection", "transfer-encoding", "content-length")
            head += [f"{name}: {value}" for name, value in answer.getheaders() if name.lower() not in skipped]
            length = answer.getheader("Content-Length") if self.handler.command == "HEAD" else len(data)
            head += [f"Content-Length: {length or 0}", "", ""]
            return "\r\n".join(head).encode("latin-1"), data
        finally:
            connection.close()

    def send(self, data: bytes) -> None:
        self.handler.wfile.write(data)
        self.handler.wfile.flush()

    def close(self) -> None:
        """End the connection in order."""
        self.handler.close_connection = True

    def reset(self) -> None:
        """End the connection as a crash does: with a TCP reset."""
        connection: socket.socket = self.handler.connection
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(connection.detach())  # the handler itself would end it in order first
        self.handler.close_connection = True


Fault = Callable[[Exchange], None]


def passed(exchange: Exchange) -> None:
    """No fault: the request and its answer as they are."""
    head, body = exchange.forward(exchange.body())
    exchange.send(head + body)


def reset_upload(exchange: Exchange) -> None:
    """The connection breaks while the request's body is under way; the server never sees it."""
    exchange.body(0.5)
    exchange.reset()


def reset_download(exchange: Exchange) -> None:
    """The connection breaks while the answer's body is under way."""
    head, body = exchange.forward(exchange.body())
    exchange.send(head + body[: len(body) // 2])
    exchange.reset()


def answer_lost(exchange: Exchange) -> None:
    """The server does what it is asked; its answer does not arrive."""
    exchange.forward(exchange.body())
    exchange.reset()


def truncated(exchange: Exchange) -> None:
    """The answer's body ends too early, without an error of the network."""
    head, body = exchange.forward(exchange.body())
    exchange.send(head + body[: len(body) // 2])
    exchange.close()


def cut_with_its_length(exchange: Exchange) -> None:
    """The answer's body is shorter than the object, and the head says so: only the sha256 can tell."""
    head, body = exchange.forward(exchange.body())
    half = body[: len(body) // 2]
    exchange.send(head.replace(b"Content-Length: %d" % len(body), b"Content-Length: %d" % len(half)) + half)


def corrupted(exchange: Exchange) -> None:
    """One bit of the answer's body is another."""
    head, body = exchange.forward(exchange.body())
    exchange.send(head + _flipped(body))


def corrupted_upload(exchange: Exchange) -> None:
    """One bit of the request's body is another."""
    head, body = exchange.forward(_flipped(exchange.body()))
    exchange.send(head + body)


def slow(exchange: Exchange) -> None:
    """The answer comes in drops."""
    head, body = exchange.forward(exchange.body())
    data = head + body
    for start in range(0, len(data), max(1, len(data) // 10)):
        exchange.send(data[start : start + max(1, len(data) // 10)])
        time.sleep(0.05)


def silent(exchange: Exchange) -> None:
    """The request is taken and nothing ever comes back."""
    exchange.body()
    exchange.stopping.wait(60)
    exchange.reset()


def stalled(exchange: Exchange) -> None:
    """The answer's body begins, and then nothing more comes."""
    head, body = exchange.forward(exchange.body())
    exchange.send(head + body[: len(body) // 2])
    exchange.stopping.wait(60)
    exchange.reset()


def web_page(exchange: Exchange) -> None:
    """Something that is no S3 answers."""
    exchange.body()
    page = b"<html><body>It works!</body></html>"
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n" % len(page) + page)


def error(status: int, code: str) -> Fault:
    """The server refuses with an error of S3; what it says of it holds a secret, as some servers do."""

    def refuse(exchange: Exchange) -> None:
        exchange.body()
        said = f"<AWSAccessKeyId>{SPOKEN_SECRET}</AWSAccessKeyId><Message>for {SPOKEN_SECRET}</Message>"
        body = f'<?xml version="1.0"?><Error><Code>{code}</Code>{said}</Error>'.encode()
        if exchange.handler.command == "HEAD":
            body = b""
        head = f"HTTP/1.1 {status} {code}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n"
        exchange.send(head.encode() + body)

    return refuse


SPOKEN_SECRET = "spoken-secret"


class FaultProxy:
    """Listens on a loopback port, and passes requests on to `upstream` but for the faults that are asked for."""

    def __init__(self, upstream: tuple[str, int]) -> None:
        self.seen: list[str] = []
        self._next: deque[Fault] = deque()
        self._always: Fault = passed
        self._stopping = threading.Event()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def relay(self) -> None:
                proxy.seen.append(f"{self.command} {self.path}")
                fault = proxy._next.popleft() if proxy._next else proxy._always
                try:
                    fault(Exchange(self, upstream, proxy._stopping))
                except OSError:  # the client or the server is gone
                    self.close_connection = True

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = relay  # noqa: N815

            def log_message(self, *arguments: object) -> None:
                """Nothing: the tests look at `seen`."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def next(self, *faults: Fault) -> None:
        self._next.extend(faults)

    def always(self, fault: Fault) -> None:
        self._always = fault

    def stop(self) -> None:
        self._stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :] if data else data

"""The process behind `kills.Runs`: imports everything once, then forks a child for each run; and kills it.

It reads requests and writes answers, a line of JSON each. A child counts what it does in memory that outlives it.
"""

import contextlib
import http.client
import json
import mmap
import os
import signal
import stat
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

OPERATIONS = ("write", "create", "read", "entries", "delete")
"""What is counted as a storage operation; `list` is made of `entries`."""
CALLS = ("get", "list", "create", "patch", "delete")
"""What is counted beside that, where a cluster is asked."""
BATCH = 2


class Trap:
    """Counts storage operations and kills this process at one of them."""

    def __init__(self, at: int | None, counted: Callable[[], int]) -> None:
        self._at, self._counted = at, counted
        self._lock = threading.Lock()
        self._armed = threading.local()

    def set(self, kind: type, operations: tuple[str, ...] = OPERATIONS) -> None:
        for name in operations:
            setattr(kind, name, self._hooked(name, getattr(kind, name)))

    def _hooked(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def act(store: Any, *arguments: Any, **options: Any) -> Any:
            with self._lock:
                number = self._counted()
            if number == self._at:
                if name not in ("write", "create"):
                    die()
                self._armed.now = True
            return real(store, *arguments, **options)

        return act

    def half_a_file(self, real: Callable[[int], None]) -> Callable[[int], None]:
        """Instead of os.fsync: dies with half of what was written."""

        def fsync(descriptor: int) -> None:
            status = os.fstat(descriptor)
            if getattr(self._armed, "now", False) and stat.S_ISREG(status.st_mode):
                os.ftruncate(descriptor, status.st_size // 2)
                die()
            real(descriptor)

        return fsync

    def half_a_request(self, real: Callable[..., None]) -> Callable[..., None]:
        """Instead of HTTPConnection.send: dies with half of the request sent."""

        def send(connection: http.client.HTTPConnection, data: Any) -> None:
            if getattr(self._armed, "now", False) and isinstance(data, bytes):
                real(connection, data[: len(data) // 2])
                die()
            real(connection, data)

        return send


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Counters:
    """Two numbers that outlive the child: they lie in memory that it shares with its parent."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 16)

    def add(self, which: int) -> int:
        counts = self.read()
        counts[which] += 1
        self._memory[:] = struct.pack("qq", *counts)
        return counts[which]

    def read(self) -> list[int]:
        return list(struct.unpack("qq", self._memory[:]))


def child(request: dict[str, Any], counters: Counters) -> None:
    from classmodels import cli
    from classmodels.ascent.loop import Ascent
    from classmodels.cluster.client import Cluster
    from classmodels.run import numerics
    from classmodels.store.folder import FolderStore
    from classmodels.store.s3 import S3Store

    os.environ.clear()
    os.environ.update(request["environment"])
    numerics.LARGEST_BATCH["cpu"] = BATCH
    trap = Trap(request["at"], lambda: counters.add(0))
    trap.set(FolderStore)
    trap.set(S3Store)
    trap.set(Cluster, CALLS)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as the console script does
    os.fsync = trap.half_a_file(os.fsync)
    http.client.HTTPConnection.send = trap.half_a_request(http.client.HTTPConnection.send)  # type: ignore[method-assign]
    real = Ascent.step

    def step(ascent: Ascent) -> None:
        counters.add(1)
        real(ascent)

    Ascent.step = step  # type: ignore[method-assign]
    try:
        code = cli.guarded(lambda: cli.cli.main(request["command"], standalone_mode=False))
    except SystemExit as ended:
        code = int(ended.code or 0)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def fork(request: dict[str, Any]) -> dict[str, Any]:
    counters = Counters()
    with tempfile.TemporaryFile() as said:
        pid = os.fork()
        if pid == 0:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
            try:
                child(request, counters)
            except BaseException:
                sys.excepthook(*sys.exc_info())
            os._exit(1)
        after, steps, began = request["after"], request["steps"], time.monotonic()
        waiting = after is not None or steps is not None
        ended, status = 0, 0
        while not ended:
            ended, status = os.waitpid(pid, os.WNOHANG if waiting else 0)
            late = after is not None and time.monotonic() - began >= after
            if not ended and waiting and (late or (steps is not None and counters.read()[1] >= steps)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, request["signal"])
                waiting = False
            elif not ended:
                time.sleep(0.001)
        said.seek(0)
        text = said.read().decode(errors="replace")
    operations, steps = counters.read()
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    code = None if killed else os.waitstatus_to_exitcode(status)
    return {"code": code, "operations": operations, "steps": steps, "said": text}


if __name__ == "__main__":
    # All that a run imports and compiles, before the first fork; nothing is computed here, which could start threads.
    import kubernetes.client
    import kubernetes.config  # noqa: F401
    import numpy.random  # noqa: F401
    import safetensors.torch  # noqa: F401
    from PIL import Image

    import classmodels.cli
    import classmodels.cluster.submit
    import classmodels.cluster.target
    import classmodels.run.job
    import classmodels.store.s3
    import classmodels.worker  # noqa: F401
    from classmodels.gallery.html import _environment

    Image.init()
    _environment().get_template("gallery.html")

    for line in sys.stdin:
        print(json.dumps(fork(json.loads(line))), flush=True)

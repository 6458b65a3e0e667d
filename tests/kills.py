"""Runs of a job that are killed: at a storage operation, half-way through a write, or at any moment. Real SIGKILLs.

`Runs` starts this file as a process that imports everything once and then forks a child for each run, because a fresh
interpreter would take seconds. `tree` is what a run leaves, but for what differs from one run to the next.
"""

import contextlib
import http.client
import json
import mmap
import os
import random
import signal
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from classmodels.store import Record, Store, open_store
from classmodels.store.records import parse

OPERATIONS = ("write", "read", "entries", "delete")
"""What is counted as a storage operation; `list` is made of `entries`."""
BATCH = 2


@dataclass(frozen=True)
class Run:
    """How a run ended. code: its exit status, or None where it was killed. steps: of the ascent, all batches."""

    code: int | None
    operations: int
    steps: int
    said: str


class Runs:
    """Starts the process that forks; `run` as often as wanted, then `stop`."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )

    def run(
        self,
        job: Path,
        output: str,
        *,
        at: int | None = None,
        after: float | None = None,
        interval: float = 0,
        threads: int = 1,
    ) -> Run:
        """Run `job` into `output` with `threads` threads, batches of BATCH units, a state every `interval` seconds.

        at: kill it at its storage operation of this number, from 1 on; if that is a write, in the middle of it.
        after: kill it after so many seconds.
        """
        request = {
            "command": ["run", str(job), "--output", output, "--state-interval", str(interval)],
            "at": at,
            "after": after,
            "environment": dict(os.environ) | {"OMP_NUM_THREADS": str(threads)},
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the process that forks has ended"
        return Run(**json.loads(answer))

    def stop(self) -> None:
        self._process.communicate(timeout=60)


@dataclass
class Outcome:
    """What came of jobs that were killed and started again until they were done."""

    kills: int = 0
    restarts: int = 0
    resumed: int = 0
    """Restarts that went on from a saved state."""
    lost: int = 0
    different: int = 0
    states_left: int = 0
    others_left: int = 0
    exits: dict[int, int] = field(default_factory=dict)

    def restart(self, run: Run) -> None:
        self.restarts += 1
        self.resumed += "go on after step" in run.said

    def end(self, run: Run, found: dict[str, Any], expected: dict[str, Any]) -> None:
        """A run came to its end and has left `found`; an undisturbed one leaves `expected`."""
        assert run.code is not None
        self.exits[run.code] = self.exits.get(run.code, 0) + 1
        more = found.keys() - expected.keys()
        self.lost += len(expected.keys() - found.keys())
        self.different += sum(found[key] != expected[key] for key in found.keys() & expected.keys())
        self.states_left += sum(key.startswith("state/") for key in more)
        self.others_left += sum(not key.startswith("state/") for key in more)

    @property
    def flawless(self) -> bool:
        return not (self.lost or self.different or self.states_left or self.others_left) and set(self.exits) == {0}


def kill_at_every_operation(runs: Runs, job: Path, place: Callable[[str], str], expected: dict[str, Any]) -> Outcome:
    """Kill a run at its first operation and run it again; another one at its second; and so on to the last.

    place: an output of that name where nothing is yet. expected: what an undisturbed run leaves.
    """
    outcome = Outcome()
    for number in range(1, 1000):
        output = place(f"at-{number}")
        run = runs.run(job, output, at=number)
        survived = run.code is not None
        if not survived:
            outcome.kills += 1
            run = runs.run(job, output)
            outcome.restart(run)
        outcome.end(run, tree(open_store(output)), expected)
        if survived:
            break
    return outcome


def kill_at_random(
    runs: Runs, job: Path, place: Callable[[str], str], expected: dict[str, Any], kills: int, seed: int
) -> Outcome:
    """Kill runs at random moments and start them again, until they have come to their end and there were `kills`."""
    outcome, moments = Outcome(), random.Random(seed)
    output, usual = place("usual"), 0.0
    began = time.monotonic()
    outcome.end(runs.run(job, output), tree(open_store(output)), expected)
    usual = time.monotonic() - began
    for number in range(10 * kills):
        output = place(f"random-{number}")
        run = runs.run(job, output, after=moments.uniform(0, usual))
        while run.code is None:
            outcome.kills += 1
            run = runs.run(job, output, after=moments.uniform(0, usual) if outcome.kills < kills else None)
            outcome.restart(run)
        outcome.end(run, tree(open_store(output)), expected)
        if outcome.kills >= kills:
            break
    return outcome


def tree(store: Store) -> dict[str, Any]:
    """All objects of `store` by key; of records all but timings and host."""
    found: dict[str, Any] = {}
    for key in store.list(""):
        data = store.read(key)
        record = parse(Record, data or b"") if key.startswith("units/") and key.endswith(".json") else None
        found[key] = record.model_copy(update={"timings": {}}) if record else data
    return found


# What the child does to itself


class Trap:
    """Counts storage operations and kills this process at one of them."""

    def __init__(self, at: int | None, counted: Callable[[], int]) -> None:
        self._at, self._counted = at, counted
        self._lock = threading.Lock()
        self._armed = threading.local()

    def set(self, store: type) -> None:
        for name in OPERATIONS:
            setattr(store, name, self._hooked(name, getattr(store, name)))

    def _hooked(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def act(store: Any, *arguments: Any) -> Any:
            with self._lock:
                number = self._counted()
            if number == self._at:
                if name != "write":
                    die()
                self._armed.now = True
            return real(store, *arguments)

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
    from classmodels.run import numerics
    from classmodels.store.folder import FolderStore
    from classmodels.store.s3 import S3Store

    os.environ.clear()
    os.environ.update(request["environment"])
    numerics.LARGEST_BATCH["cpu"] = BATCH
    trap = Trap(request["at"], lambda: counters.add(0))
    trap.set(FolderStore)
    trap.set(S3Store)
    os.fsync = trap.half_a_file(os.fsync)
    http.client.HTTPConnection.send = trap.half_a_request(http.client.HTTPConnection.send)  # type: ignore[method-assign]
    real = Ascent.step

    def step(ascent: Ascent) -> None:
        counters.add(1)
        real(ascent)

    Ascent.step = step  # type: ignore[method-assign]
    try:
        code = cli._guarded(lambda: cli.cli.main(request["command"], standalone_mode=False))
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
        deadline = None if request["after"] is None else time.monotonic() + request["after"]
        ended, status = 0, 0
        while not ended:
            ended, status = os.waitpid(pid, 0 if deadline is None else os.WNOHANG)
            if not ended and deadline is not None and time.monotonic() >= deadline:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                deadline = None
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
    import numpy.random  # noqa: F401
    import safetensors.torch  # noqa: F401
    from PIL import Image

    import classmodels.cli
    import classmodels.run.job
    import classmodels.store.s3  # noqa: F401
    from classmodels.gallery.page import _environment

    Image.init()
    _environment().get_template("gallery.html")

    for line in sys.stdin:
        print(json.dumps(fork(json.loads(line))), flush=True)

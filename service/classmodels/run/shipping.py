"""A worker's log in the store, where it stays when the pod is gone: one object, written anew now and then.

Storage that is down costs a log that is late, and never the work. What is kept in memory is bounded: of a log that
grows beyond that the beginning and the end are kept.
"""

import json
import os
import re
import socket
import threading
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime

from classmodels.errors import ClassmodelsError
from classmodels.run.events import Message
from classmodels.store import Store

EVERY = 30.0
"""Seconds between two writes, where something was told meanwhile."""
HEAD, TAIL = 1 << 18, 1 << 21
"""Bytes of the beginning and of the end that are kept: some days of progress, a line every ten seconds."""


def log_key(run12: str, index: int, environment: Mapping[str, str] = os.environ) -> str:
    """Where the log of this process goes: by its Job and pod, as the pod's environment tells them."""
    job, uid = (_name(environment.get(f"CLASSMODELS_JOB_{part}", "")) for part in ("NAME", "UID"))
    return f"{log_prefix(run12, job or 'local', uid)}{index}.{pod_name(environment)}.jsonl"


def log_prefix(run12: str, job: str, uid: str) -> str:
    """Where the logs of a Job's pods go. uid: another Job may have had the same name; empty for what is no Job."""
    return f"runs/{run12}/logs/{job}{'@' if uid else ''}{uid}/"


def pod_name(environment: Mapping[str, str] = os.environ) -> str:
    return _name(environment.get("POD_NAME", "")) or _name(socket.gethostname()) or "pod"


class Shipping:
    """`keep` lines from the first on; they are written once `begin` says where to, until `close`."""

    def __init__(self, index: int) -> None:
        self._index = index
        self._head: list[bytes] = []
        self._tail: deque[bytes] = deque()
        self._head_bytes = self._tail_bytes = self._left_out = 0
        self._kept = 0
        self._changed = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None

    @property
    def begun(self) -> bool:
        return self._thread is not None

    def keep(self, line: bytes) -> None:
        with self._changed:
            self._kept += 1
            if not self._tail and self._head_bytes + len(line) <= HEAD:
                self._head.append(line)
                self._head_bytes += len(line)
                return
            self._tail.append(line)
            self._tail_bytes += len(line)
            while self._tail_bytes > TAIL and len(self._tail) > 1:
                self._tail_bytes -= len(self._tail.popleft())
                self._left_out += 1

    def begin(self, store: Store, key: str) -> None:
        self._thread = threading.Thread(target=self._work, args=(store, key), name="shipping", daemon=True)
        self._thread.start()

    def close(self, seconds: float) -> None:
        """Write what is new, for at most so many seconds."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(seconds)

    def _work(self, store: Store, key: str) -> None:
        written, closing = 0, False
        while not closing:
            with self._changed:
                self._changed.wait_for(lambda: self._closing, EVERY)
                closing, count, data = self._closing, self._kept, self._whole()
            if count == written:
                continue
            try:
                store.write(key, data)
                written = count
            except ClassmodelsError:
                pass  # the next time, or never: the lines are on stdout all the same

    def _whole(self) -> bytes:
        gap = []
        if self._left_out:
            text = f"{self._left_out} lines are left out here: the log is larger than what is kept of it"
            note = Message(time=datetime.now(UTC), index=self._index, level="info", text=text)
            gap = [json.dumps(note.model_dump(mode="json")).encode()]
        return b"".join(line + b"\n" for line in (*self._head, *gap, *self._tail))


def _name(text: str) -> str:
    """`text` as a part of a key."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", text).strip(".")[:253]

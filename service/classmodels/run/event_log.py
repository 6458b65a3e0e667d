"""A worker's events as lines: on stdout at once, and to whoever keeps them (`shipping.py`).

No line ever holds a credential: what the environment has of them is blotted out, whoever said it.
"""

import json
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any, TextIO
from urllib.parse import unquote, urlsplit

from classmodels.run.events import Event, Message

log = logging.getLogger("classmodels")

_SECRET = re.compile(r"(SECRET|TOKEN|PASSWORD|PASSWD|CREDENTIAL|ACCESS_KEY|API_KEY)(?!.*(_FILE|_URI|_PATH)$)", re.I)
_SHORTEST = 6
"""Characters: what is shorter is no secret, and would blot out half a line."""


class EventLog:
    """Tells events, from any thread. keep: gets each line too, without its end."""

    def __init__(self, index: int, stdout: TextIO, keep: Callable[[bytes], None] = lambda line: None) -> None:
        self._index, self._stdout, self._keep = index, stdout, keep
        self._secrets = secrets(os.environ)
        self._lock = threading.Lock()

    def tell(self, kind: type[Event], **fields: Any) -> None:
        """Nothing here fails the work: a pipe that nobody reads any more is passed over."""
        with self._lock:
            event = kind(time=datetime.now(UTC), index=self._index, **fields)
            data = blotted(event.model_dump(mode="json"), self._secrets)
            # The time first, as people read logs; the kind next.
            line = json.dumps({"time": data.pop("time"), "event": data.pop("event")} | data)
            self._keep(line.encode())
            with suppress(OSError, ValueError):
                self._stdout.write(line + "\n")
                self._stdout.flush()

    @contextmanager
    def hearing_warnings(self) -> Iterator[None]:
        """In its body what the package warns of is an event, and a line on stderr for whoever looks there."""
        handlers = [_Telling(self), logging.StreamHandler()]
        handlers[1].setFormatter(_Blotting(self._secrets))
        for handler in handlers:
            handler.setLevel(logging.WARNING)
            log.addHandler(handler)
        try:
            yield
        finally:
            for handler in handlers:
                log.removeHandler(handler)


class _Telling(logging.Handler):
    def __init__(self, events: EventLog) -> None:
        super().__init__()
        self._events = events

    def emit(self, record: logging.LogRecord) -> None:
        self._events.tell(Message, level="warning", text=record.getMessage())


class _Blotting(logging.Formatter):
    def __init__(self, hidden: tuple[str, ...]) -> None:
        super().__init__()
        self._hidden = hidden

    def format(self, record: logging.LogRecord) -> str:
        text: str = blotted(super().format(record), self._hidden)
        return text


def secrets(environment: Mapping[str, str]) -> tuple[str, ...]:
    """What of an environment nobody may read: keys, tokens, passwords; the longest first."""
    found = {value for name, value in environment.items() if _SECRET.search(name)}
    for name, value in environment.items():
        if name.lower().endswith("_proxy"):
            with suppress(ValueError):
                password = urlsplit(value).password or ""
                found |= {password, unquote(password)}
    return tuple(sorted((one for one in found if len(one) >= _SHORTEST), key=lambda one: (-len(one), one)))


def blotted(value: Any, hidden: tuple[str, ...]) -> Any:
    """`value`, plain data, with each of `hidden` in its texts replaced by `***`."""
    if isinstance(value, str):
        for secret in hidden:
            value = value.replace(secret, "***")
        return value
    if isinstance(value, dict):
        return {key: blotted(one, hidden) for key, one in value.items()}
    return [blotted(one, hidden) for one in value] if isinstance(value, list) else value

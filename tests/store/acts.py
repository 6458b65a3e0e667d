"""The four things that a store does, and what must hold of every sentence about one that failed."""

import logging
import time
import traceback
from collections.abc import Callable

import pytest

from classmodels.errors import StoreError
from classmodels.store import Store
from faults import SPOKEN_SECRET
from seaweed import READER, WRITER

DATA = bytes(range(256)) * 100
SECRETS = (WRITER.secret_key, WRITER.access_key, READER.secret_key, READER.access_key, SPOKEN_SECRET, "Signature=")
ACTS: dict[str, Callable[[Store], object]] = {
    "write": lambda store: store.write("a.bin", DATA),
    "read": lambda store: store.read("a.bin"),
    "list": lambda store: list(store.list("")),
    "delete": lambda store: store.delete("a.bin"),
}


def told(act: Callable[[], object], caplog: pytest.LogCaptureFixture, within: float = 10) -> str:
    """The sentence of the StoreError that `act` raises, once all is checked that every such sentence must hold."""
    began = time.monotonic()
    with caplog.at_level(logging.DEBUG), pytest.raises(StoreError) as raised:
        act()
    assert time.monotonic() - began < within
    sentence = str(raised.value)
    assert "\n" not in sentence
    assert sentence.startswith("cannot ")
    shown = "".join(traceback.format_exception(raised.value)) + caplog.text
    assert not [secret for secret in SECRETS if secret in shown]
    assert "During handling" not in shown
    return sentence

"""What the readers of S3 and of https have in common: what a server says of an object, and how it fails."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from classmodels.errors import InputError, StoreError
from classmodels.models.remote.uri import Uri

CHUNK = 1 << 16
"""Bytes that are handed on at a time: of a chunk in which the connection breaks nothing is kept."""


class MissingError(InputError):
    """There is no such object: the job names it wrongly."""


class BrokenOffError(StoreError):
    """The server or the network failed in a way that may pass: what is there can be kept, and the rest asked for."""


@dataclass(frozen=True)
class Seen:
    """What a server says of an object.

    size: in bytes. identity: what stays the same as long as the object does, such as version, ETag and size. tag: the
    ETag by which a part of just this object can be asked for. sha256: what whoever wrote it said it is. Each of them
    None where it is not told.
    """

    size: int | None
    identity: str | None
    tag: str | None
    sha256: str | None


@dataclass(frozen=True)
class Answer:
    """The bytes of the object `seen`, from `start` to its end."""

    seen: Seen
    start: int
    chunks: Iterator[bytes]


class Remote(Protocol):
    """One object elsewhere. Both methods raise StoreError, MissingError."""

    uri: Uri

    def look(self) -> Seen:
        """Whether it is there, and what it is, without its bytes; in one request where all is well."""

    def read(self, start: int, seen: Seen) -> AbstractContextManager[Answer]:
        """Its bytes from `start` if it is still what was `seen`; all bytes of what it is now if not.

        Raises BrokenOffError, also from the chunks, where the same may be asked for again.
        """


class Listener:
    """Hears of downloads as they go on; this one keeps it to itself."""

    def fetching(self, name: str, have: int, size: int | None) -> None:
        """A download begins, or begins again, with `have` bytes of `size` there already."""

    def fetched(self, count: int) -> None:
        """So many bytes have come."""

    def say(self, text: str) -> None:
        """One line for people to keep."""

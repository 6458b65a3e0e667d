"""A zip archive of torch, read as strictly as its own writer writes: one directory, at the very end, without doubt.

Zip readers differ in where they look for the directory, in which of two equal names they take, and in what they make
of data around the archive. What is checked here before `torch.load` opens the file is worth nothing if torch then
sees another archive in it, so everything that two readers could read differently is refused; `torch.save` writes
none of it. `torch_file.py` is the caller.
"""

import struct
import zlib
from dataclasses import dataclass
from typing import Any

from classmodels.models.rebuild import CorruptError

MAGIC = b"PK\x03\x04"
MAX_RECORDS = 1_000_000

_END = struct.Struct("<4s4H2IH")
_LOCATOR = struct.Struct("<4sIQI")
_END_64 = struct.Struct("<4sQ2H2I4Q")
_ENTRY = struct.Struct("<4s6H3I5H2I")
_LOCAL = struct.Struct("<4s5H3I2H")
_FOLDER = 0x10  # of the attributes of MS-DOS
_ALL = {2: 0xFFFF, 4: 0xFFFFFFFF}
"""By a field's width in bytes, the value that says: the number is too large for this field and stands elsewhere."""


@dataclass(frozen=True, slots=True)
class Record:
    """Where the bytes of one record lie in the file, if they are `stored`: as they are, not compressed."""

    position: int
    size: int
    crc: int
    stored: bool

    def read(self, data: Any) -> bytes:
        """Its bytes, checked against their checksum."""
        content = bytes(data[self.position : self.position + self.size])
        if zlib.crc32(content) != self.crc:
            raise _malformed()
        return content


@dataclass(frozen=True, slots=True)
class _Entry:
    name: bytes
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    offset: int
    is_folder: bool


def records_of(data: Any) -> dict[str, Record]:
    """The records of the archive `data` (a mapped file, or bytes) by their names after its root folder.

    The root is the folder of the first entry, as torch takes it. Raises CorruptError for an archive that is truncated,
    ambiguous, encrypted, or would unpack to far more than its size.
    """
    try:
        begin, end, count = _directory(data)
        entries = _entries(data, begin, end, count)
        if sum(entry.size for entry in entries) > 4 * len(data) + (1 << 20):
            raise CorruptError("its zip archive would unpack to more than four times its size")
        if any(entry.flags & 1 for entry in entries):
            raise CorruptError("its zip archive is encrypted")
        if entries and all(entry.offset for entry in entries):
            raise CorruptError("its zip archive begins with data of something else")
        # torch leaves the memory for these as it was, and would take whatever lies there for the record.
        if any(entry.is_folder and entry.size for entry in entries):
            raise CorruptError("its zip archive holds a folder that is a file")
        # torch looks names up in any case, and so `DATA.PKL` could stand for `data.pkl`.
        if len({entry.name.lower() for entry in entries}) != len(entries):
            raise CorruptError("its zip archive holds two records of one name")
        root = entries[0].name.partition(b"/")[0] + b"/" if entries else b"/"
        return {
            entry.name.removeprefix(root).decode("utf-8", "surrogateescape"): _record(data, entry, begin)
            for entry in entries
            if entry.name.startswith(root)
        }
    except struct.error as error:
        raise _malformed() from error


def _malformed() -> CorruptError:
    return CorruptError("its zip archive is truncated or malformed")


def _ambiguous() -> CorruptError:
    return CorruptError("its zip archive is not what torch writes: readers differ in what they find in it")


def _directory(data: Any) -> tuple[int, int, int]:
    """Where the directory begins and ends, and its number of entries, as every reader would find them."""
    at = len(data) - _END.size
    if at < 0 or data[at : at + 4] != b"PK\x05\x06":
        # Cut off, or something follows: a comment, or a second archive.
        last = data.rfind(b"PK\x05\x06")
        raise _malformed() if last < 0 else _ambiguous()
    _, disk, first_disk, here, count, size, begin, comment = _END.unpack(data[at : at + _END.size])
    if disk or first_disk or here != count or comment:
        raise _ambiguous()
    end = at
    locator = data[max(at - _LOCATOR.size, 0) : at]
    if locator[:4] == b"PK\x06\x07":
        _, record_disk, record_at, disks = _LOCATOR.unpack(locator)
        end = at - _LOCATOR.size - _END_64.size
        if record_disk or disks > 1 or record_at != end:
            raise _ambiguous()
        signature, length, _, _, disk, first_disk, *large = _END_64.unpack(data[end : end + _END_64.size])
        if signature != b"PK\x06\x06" or length != _END_64.size - 12 or disk or first_disk or large[0] != large[1]:
            raise _ambiguous()
        for small, width, number in ((count, 2, large[1]), (size, 4, large[2]), (begin, 4, large[3])):
            if small not in (number, _ALL[width]):
                raise _ambiguous()
        _, count, size, begin = large
    if begin + size != end:
        raise _ambiguous()
    return begin, end, count


def _entries(data: Any, begin: int, end: int, count: int) -> list[_Entry]:
    if count > MAX_RECORDS:
        raise CorruptError(f"its zip archive has more than {MAX_RECORDS:,} records")
    entries = []
    at = begin
    for _ in range(count):
        signature, _, _, flags, method, _, _, crc, packed, size, name, extra, comment, disk, _, kind, offset = (
            _ENTRY.unpack(data[at : at + _ENTRY.size])
        )
        after = at + _ENTRY.size + name
        if signature != b"PK\x01\x02" or disk or after + extra + comment > end:
            raise _malformed()
        numbers = _large(data[after : after + extra], (size, packed, offset))
        raw = bytes(data[after - name : after])
        if any(byte < 0x20 or byte == 0x7F for byte in raw):
            raise _malformed()
        folder = bool(kind & _FOLDER) or raw.endswith(b"/")
        entries.append(_Entry(raw, flags, method, crc, numbers[1], numbers[0], numbers[2], folder))
        at = after + extra + comment
    if at != end:
        raise _ambiguous()
    return entries


def _large(extra: bytes, numbers: tuple[int, ...]) -> list[int]:
    """The numbers of an entry, those that are too large for their fields taken from its zip64 field."""
    found: list[bytes] = []
    at = 0
    while at < len(extra):
        kind, length = struct.unpack("<HH", extra[at : at + 4])
        if at + 4 + length > len(extra):
            raise _malformed()
        if kind == 1:
            found.append(extra[at + 4 : at + 4 + length])
        at += 4 + length
    if len(found) > 1:
        raise _ambiguous()
    rest = found[0] if found else b""
    result = []
    for number in numbers:
        if number == _ALL[4]:
            (number,), rest = struct.unpack("<Q", rest[:8]), rest[8:]
        result.append(number)
    return result


def _record(data: Any, entry: _Entry, end: int) -> Record:
    header = data[entry.offset : entry.offset + _LOCAL.size]
    signature, _, flags, method, _, _, crc, packed, size, name, extra = _LOCAL.unpack(header)
    position = entry.offset + _LOCAL.size + name + extra
    if signature != MAGIC or position + entry.packed > end:
        raise _malformed()
    # A writer that streams, as torch's does, leaves checksum and sizes to the directory.
    later = {0} if flags & 8 else set()
    if (
        data[position - name - extra : position - extra] != entry.name
        or method != entry.method
        or crc not in later | {entry.crc}
        or size not in later | {entry.size, _ALL[4]}
        or packed not in later | {entry.packed, _ALL[4]}
    ):
        raise _ambiguous()
    return Record(position, entry.size, entry.crc, entry.method == 0 and entry.packed == entry.size)

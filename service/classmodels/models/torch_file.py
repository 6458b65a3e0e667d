"""The files around a pickled checkpoint, read inertly: torch's zip archives, its older format, and bare pickles.

Used where `torch.load(weights_only=True)` refuses. Storages are taken from where they lie in the file (mapped, not
copied), after their sizes were checked against the records that are really there. `weights.py` is the caller.
"""

import io
import mmap
import os
import struct
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from classmodels.models.rebuild import CorruptError, Inner, Placeholder, Storage, torch_dtype
from classmodels.models.shown import shown
from classmodels.models.unpickle import Machine
from classmodels.models.zip_file import MAGIC as ZIP_MAGIC
from classmodels.models.zip_file import Record, records_of

MAX_PICKLE_BYTES = 1 << 30
MAX_KEYS = 1_000_000
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001


def read(path: Path) -> tuple[Any, list[str]]:
    """What a pickled checkpoint holds, and the names of what was replaced by placeholders.

    Raises CorruptError for a truncated, malformed or hostile file, OSError where it cannot be read.
    """
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            raise CorruptError("it is empty")
        # A private copy-on-write map: tensors may be written to, the file is not.
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        if data[:4] == ZIP_MAGIC:
            return _read_zip(data, _read_inner)
        return _read_legacy(data, data, _read_inner)


def read_bytes(content: bytes, nested: bool = False) -> tuple[Any, list[str]]:
    """As `read`, from memory. nested: it lies in a torch file itself, and may hold no further one."""
    data = bytearray(content)
    inner = None if nested else _read_inner
    if data[:4] == ZIP_MAGIC:
        return _read_zip(data, inner)
    return _read_legacy(io.BytesIO(content), data, inner)


def inspect(path: Path) -> bool:
    """Whether `torch.load` may be tried: no bomb, and a file of torch. Only the structure is read, no numbers.

    `weights_only=True` keeps torch from calling what a file names, but not from unpacking an archive of a
    terabyte, nor from crashing the process on a tuple nested a million deep. Raises CorruptError for such a file,
    and for one in which torch could find another content than was looked at here.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[:4] == ZIP_MAGIC:
            _, content = _open_zip(data)
            _structure(io.BytesIO(content))
            return True
        if _structure(data) != _LEGACY_MAGIC:
            return False
        for _ in range(4):
            _structure(data)
        return True


def _read_inner(content: bytes) -> Any:
    return read_bytes(content, nested=True)[0]


def _structure(stream: Any) -> Any:
    return Machine(stream, lambda persistent: Storage(None), lambda content: Storage(None)).load()


def _open_zip(data: Any) -> tuple[dict[str, Record], bytes]:
    """The records of the archive by their names after its root folder, and the pickle."""
    records = records_of(data)
    if "data.pkl" not in records:
        raise CorruptError("it is a zip archive but no checkpoint")
    if "constants.pkl" in records:
        raise CorruptError("it is a TorchScript program: name it under `source: {program: ...}` instead")
    if not all(record.stored for record in records.values()):
        # torch.load maps the file and would take the compressed bytes for numbers.
        raise CorruptError("its zip archive is compressed, as torch's never are: save it again with torch.save")
    if "byteorder" in records and records["byteorder"].read(data) != b"little":
        raise CorruptError("it was saved on a big-endian machine")
    if records["data.pkl"].size > MAX_PICKLE_BYTES:
        raise CorruptError(f"its pickle is larger than {MAX_PICKLE_BYTES:,} bytes")
    return records, records["data.pkl"].read(data)


def _read_zip(data: Any, inner: Inner) -> tuple[Any, list[str]]:
    records, content = _open_zip(data)
    loaded: dict[tuple[str, torch.dtype], Storage] = {}

    def storage(persistent: Any) -> Storage:
        _, kind, key, _, count = _storage_id(persistent, 5)
        dtype = torch_dtype(kind)
        if (key, dtype) not in loaded:
            record = records.get(f"data/{key}")
            if record is None:
                raise CorruptError(f"its storage {shown(key, 40)} is missing")
            if count * dtype.itemsize > record.size:
                raise CorruptError("it holds a storage larger than its record")
            loaded[key, dtype] = Storage(_values(data, record.position, count, dtype))
        return loaded[key, dtype]

    machine = Machine(io.BytesIO(content), storage, inner)
    value = machine.load()
    return value, list(machine.ignored)


def _read_legacy(stream: Any, data: Any, inner: Inner) -> tuple[Any, list[str]]:
    # torch before 1.6: four pickles (magic, protocol, system, object), the list of storage keys, the storages.
    def refuse(persistent: Any) -> Any:
        raise CorruptError("it is no checkpoint of torch, or refers to objects outside the file")

    first = Machine(stream, refuse, inner)
    value = first.load()
    if value != _LEGACY_MAGIC or isinstance(value, float):
        return value, list(first.ignored)
    if Machine(stream, refuse, inner).load() != _LEGACY_PROTOCOL:
        raise CorruptError("it was saved by an unknown version of torch")
    system = Machine(stream, refuse, inner).load()
    if isinstance(system, dict) and system.get("little_endian") is False:
        raise CorruptError("it was saved on a big-endian machine")

    # The storages come after the object that needs them: read once for their types, then again with their values.
    begin = stream.tell()
    kinds: dict[str, torch.dtype] = {}

    def note(persistent: Any) -> Any:
        if isinstance(persistent, tuple) and persistent and persistent[0] == "module":
            return persistent[1]
        _, kind, key, _, _, _ = _storage_id(persistent, 6)
        kinds[key] = torch_dtype(kind)
        return Storage(None)

    Machine(stream, note, inner).load()
    keys = Machine(stream, refuse, inner).load()
    if not isinstance(keys, list) or len(keys) > MAX_KEYS:
        raise CorruptError("its list of storages is malformed")
    places: dict[str, Tensor] = {}
    position = stream.tell()
    for key in keys:
        if key not in kinds or position + 8 > len(data):
            raise CorruptError("it is truncated: storages are missing at its end")
        (count,) = struct.unpack("<q", data[position : position + 8])
        places[key] = _values(data, position + 8, count, kinds[key])
        position += 8 + count * kinds[key].itemsize

    def storage(persistent: Any) -> Any:
        if persistent[0] == "module":
            return persistent[1]
        _, _, key, _, count, view = _storage_id(persistent, 6)
        if key not in places:
            raise CorruptError("it is truncated: storages are missing at its end")
        values = places[key]
        if view is not None:
            _, offset, count = view
            if type(offset) is not int or type(count) is not int or not 0 <= offset <= offset + count <= len(values):
                raise CorruptError("it holds a storage larger than its record")
            values = values[offset : offset + count]
        return Storage(values)

    stream.seek(begin)
    machine = Machine(stream, storage, inner)
    return machine.load(), list(machine.ignored)


def _storage_id(persistent: Any, length: int) -> tuple[Any, ...]:
    if not isinstance(persistent, tuple) or len(persistent) != length or persistent[0] != "storage":
        raise CorruptError("it is no checkpoint of torch, or refers to objects outside the file")
    key, count = persistent[2], persistent[4]
    if not isinstance(persistent[1], Placeholder) or not isinstance(key, str) or type(count) is not int or count < 0:
        raise CorruptError("it holds a malformed storage")
    return persistent


def _values(data: Any, position: int, count: int, dtype: torch.dtype) -> Tensor:
    size = count * dtype.itemsize
    if count < 0 or position < 0 or position + size > len(data):
        raise CorruptError("it is truncated: a storage reaches beyond its end")
    if count == 0:
        return torch.empty(0, dtype=dtype)
    if position % (dtype.itemsize if dtype != torch.uint8 else 8):
        # Kernels may assume aligned numbers, and only zip archives align them. Bytes may be viewed as any type.
        return torch.frombuffer(bytearray(data[position : position + size]), dtype=dtype)
    return torch.frombuffer(data, dtype=dtype, count=count, offset=position)

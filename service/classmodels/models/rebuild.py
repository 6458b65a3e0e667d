"""The few things that the inert unpickler makes: tensors, storages, numpy values, plain containers.

Each rule is a pure function of decoded arguments, keyed by the global that a checkpoint names for it. The global
itself is never looked up. Every size is checked against the bytes that are there before anything is made.
"""

import math
import re
import sys
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

Inner = Callable[[bytes], Any] | None
"""Reads a whole torch file that lies within a pickle; None where none may."""

Rule = Callable[[tuple[Any, ...], Inner], Any]


class CorruptError(Exception):
    """A file is truncated, malformed or hostile. The message continues a sentence that begins with its name."""


@dataclass(frozen=True, eq=False, slots=True)
class Placeholder:
    """Stands for a global or an object made by one: its name, and nothing else."""

    module: str
    name: str

    @property
    def what(self) -> str:
        """`module.name`, safe to print whatever the file says."""
        return re.sub(r"[^\w.<>]", "?", f"{self.module}.{self.name}")[:100]


@dataclass(frozen=True, eq=False)
class Storage:
    """The numbers that tensors are views of. values is one-dimensional, or None while only structure is read."""

    values: Tensor | None


@dataclass(eq=False)
class NumpyDtype:
    """A numeric numpy dtype under way: made by REDUCE, given its byte order by BUILD."""

    code: str
    order: str = "="

    def set_byte_order(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">", "|", "="):
            self.order = state[1]

    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.order.replace("|", "=") + self.code)


@dataclass(eq=False)
class Pending:
    """A numpy array between REDUCE, which knows nothing yet, and BUILD, which brings all."""

    memo: list[int] = field(default_factory=list)

    def finish(self, state: Any) -> Any:
        """The array that numpy's state (version, shape, dtype, fortran order, bytes) describes."""
        _, shape, dtype, fortran, data = state
        if not isinstance(dtype, NumpyDtype):
            return Placeholder("numpy", "ndarray")  # of objects, text or records: not weights
        return _array(data, dtype, shape, "F" if fortran else "C")


def hashable(key: Any) -> Any:
    """A dictionary key that is safe to hash: hashing a deeply nested tuple would overflow C's stack."""
    if key is None or isinstance(key, str | bytes | int | float | Placeholder):
        return key
    if isinstance(key, tuple) and all(item is None or isinstance(item, str | bytes | int | float) for item in key):
        return key
    return Placeholder("a", type(key).__name__)


def torch_dtype(storage_class: Any) -> torch.dtype:
    """The element type of a storage class, such as `torch.FloatStorage`, known by its name only."""
    name = storage_class.name if isinstance(storage_class, Placeholder) else None
    if name not in _STORAGES:
        raise CorruptError("it holds a storage of an unknown type")
    return _STORAGES[name]


def strided(storage: Any, offset: Any, size: Any, stride: Any) -> Tensor | Placeholder:
    """The view of a storage's values that starts at `offset`, in elements; refused if it reaches beyond them."""
    if not isinstance(storage, Storage):
        return Placeholder("torch", "Tensor")
    if storage.values is None:
        return Placeholder("torch", "Tensor")
    numbers = [offset, *size, *stride]
    if len(size) != len(stride) or len(size) > 64 or any(type(n) is not int or n < 0 for n in numbers):
        raise CorruptError("it holds a tensor whose size or strides are no whole numbers")
    last = offset + sum((side - 1) * step for side, step in zip(size, stride, strict=True))
    count = math.prod(size)
    if count > 0 and last >= storage.values.numel():
        raise CorruptError("it holds a tensor that reaches beyond its storage")
    if count == 0:
        # No element is read, but a side beside the 0 could still be beyond what torch counts.
        if any(side > sys.maxsize >> 8 for side in size):
            raise CorruptError("it holds a tensor of an impossible size")
        return torch.empty(size, dtype=storage.values.dtype)
    if count > 64 * storage.values.numel():
        raise CorruptError("it holds a small storage expanded to a huge tensor")
    return storage.values.as_strided(size, stride, offset)


def _tensor_v2(arguments: tuple[Any, ...], inner: Inner) -> Any:
    if len(arguments) > 6 and arguments[6]:  # a conjugated or negated view
        return Placeholder("torch", "Tensor")
    return strided(*arguments[:4])


def _tensor_v3(arguments: tuple[Any, ...], inner: Inner) -> Any:
    storage, offset, size, stride = arguments[:4]
    dtype = _DTYPES.get(arguments[6].name) if isinstance(arguments[6], Placeholder) else None
    if dtype is None or not isinstance(storage, Storage) or storage.values is None:
        return Placeholder("torch", "Tensor")
    raw = storage.values.view(torch.uint8)
    whole = raw[: raw.numel() // dtype.itemsize * dtype.itemsize]
    return strided(Storage(whole.view(dtype)), offset, size, stride)


def _typed(arguments: tuple[Any, ...], inner: Inner) -> Any:
    # A tensor with attributes, or of a subclass: (function, class, its arguments, state).
    function = arguments[0]
    rule = _TENSORS.get(function.name) if isinstance(function, Placeholder) else None
    return rule(arguments[2], inner) if rule else Placeholder("torch", "Tensor")


def _from_numpy(arguments: tuple[Any, ...], inner: Inner) -> Any:
    data, dtype = arguments[0], arguments[1]
    wanted = _DTYPES.get(dtype.name) if isinstance(dtype, Placeholder) else None
    if not isinstance(data, np.ndarray) or wanted is None:
        return Placeholder("torch", "Tensor")
    return torch.from_numpy(data.copy()).to(wanted)


def _stored(arguments: tuple[Any, ...], inner: Inner) -> Any:
    # A tensor pickled without torch.save carries its storage as a whole torch file of its own.
    if inner is None or not isinstance(arguments[0], bytes):
        raise CorruptError("it holds torch files inside torch files")
    return inner(arguments[0])


def _array(data: Any, dtype: NumpyDtype, shape: Any, order: Any) -> np.ndarray[Any, Any]:
    if isinstance(data, str):
        data = data.encode("latin-1")  # Python 2 wrote bytes as text
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    kind = dtype.dtype()
    if any(type(side) is not int or side < 0 for side in shape) or len(shape) > 32 or order not in ("C", "F"):
        raise CorruptError("it holds an array of an impossible shape")
    if len(data) != math.prod(shape) * kind.itemsize:
        raise CorruptError("it holds an array whose shape does not fit its bytes")
    array = np.frombuffer(data, kind).reshape(shape, order=order)
    return array if kind.isnative else array.astype(kind.newbyteorder("="))


def _frombuffer(arguments: tuple[Any, ...], inner: Inner) -> Any:
    data, dtype, shape, order = arguments
    if not isinstance(dtype, NumpyDtype):
        return Placeholder("numpy", "ndarray")
    return _array(bytes(data) if isinstance(data, bytearray) else data, dtype, shape, order)


def _numpy_dtype(arguments: tuple[Any, ...], inner: Inner) -> Any:
    code = arguments[0]
    known = isinstance(code, str) and re.fullmatch(r"[<>|=]?(b1|[iu][1248]|f[248]|c(8|16)|\?)", code)
    return (
        NumpyDtype(code.lstrip("<>|="), code[0] if code[0] in "<>" else "=") if known else Placeholder("numpy", "dtype")
    )


def _numpy_scalar(arguments: tuple[Any, ...], inner: Inner) -> Any:
    dtype, data = (*arguments, None)[:2]
    if not isinstance(dtype, NumpyDtype):
        return Placeholder("numpy", "generic")
    return _array(data, dtype, (), "C").item()


def _mapping(made: Callable[[], Any]) -> Rule:
    def rule(arguments: tuple[Any, ...], inner: Inner) -> Any:
        result = made()
        given = arguments[0] if arguments else ()
        pairs = given.items() if isinstance(given, dict) else given if isinstance(given, list | tuple) else ()
        for pair in pairs:
            if isinstance(pair, list | tuple) and len(pair) == 2:
                result[hashable(pair[0])] = pair[1]
        return result

    return rule


def _collected(made: Callable[[Any], Any]) -> Rule:
    def rule(arguments: tuple[Any, ...], inner: Inner) -> Any:
        given = arguments[0] if arguments else ()
        if not isinstance(given, list | tuple | set | frozenset):
            return Placeholder("builtins", made.__name__)
        return made(map(hashable, given) if made in (set, frozenset) else given)

    return rule


def _encoded(arguments: tuple[Any, ...], inner: Inner) -> Any:
    text, encoding = (*arguments, "latin1")[:2]
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        return Placeholder("_codecs", "encode")
    return text.encode("latin-1")


def _bytes(arguments: tuple[Any, ...], inner: Inner) -> Any:
    given = arguments[0] if arguments else b""
    if isinstance(given, str) and len(arguments) > 1:
        return given.encode("latin-1")
    return bytes(given) if isinstance(given, bytes | bytearray) else Placeholder("builtins", "bytes")


_DTYPES = {
    name: getattr(torch, name)
    for name in (
        *("float64", "float32", "float16", "bfloat16", "complex64", "complex128", "bool"),
        *("int64", "int32", "int16", "int8", "uint8", "uint16", "uint32", "uint64"),
        *("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"),
    )
}
_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
    "UntypedStorage": torch.uint8,
}
_TENSORS: dict[str, Rule] = {
    "_rebuild_tensor": lambda arguments, inner: strided(*arguments[:4]),
    "_rebuild_tensor_v2": _tensor_v2,
    "_rebuild_tensor_v3": _tensor_v3,
    "_rebuild_parameter": lambda arguments, inner: arguments[0],
    "_rebuild_parameter_with_state": lambda arguments, inner: arguments[0],
    "_rebuild_device_tensor_from_numpy": _from_numpy,
    "_rebuild_xla_tensor": _from_numpy,
}
RULES: dict[tuple[str, str], Rule] = {
    **{("torch._utils", name): rule for name, rule in _TENSORS.items()},
    ("torch._tensor", "_rebuild_from_type_v2"): _typed,
    ("torch.storage", "_load_from_bytes"): _stored,
    ("torch", "Size"): _collected(tuple),
    ("collections", "OrderedDict"): _mapping(OrderedDict),
    ("collections", "defaultdict"): _mapping(defaultdict),
    ("collections", "Counter"): _mapping(dict),
    ("numpy", "dtype"): _numpy_dtype,
    ("_codecs", "encode"): _encoded,
    **{
        (f"numpy.{core}.multiarray", name): rule
        for core in ("core", "_core")
        for name, rule in (("scalar", _numpy_scalar), ("_reconstruct", lambda arguments, inner: Pending()))
    },
    **{(f"numpy.{core}.numeric", "_frombuffer"): _frombuffer for core in ("core", "_core")},
    **{
        (module, name): rule
        for module in ("builtins", "__builtin__")
        for name, rule in (
            ("set", _collected(set)),
            ("frozenset", _collected(frozenset)),
            ("list", _collected(list)),
            ("tuple", _collected(tuple)),
            ("dict", _mapping(dict)),
            ("bytes", _bytes),
            ("bytearray", _bytes),
        )
    },
}
"""What REDUCE makes, by (module, name). Each rule takes the decoded arguments and the reader of torch files within."""

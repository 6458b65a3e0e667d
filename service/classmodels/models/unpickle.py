"""An inert reader of pickles: it rebuilds tensors and plain containers, and nothing in the file can make it do more.

Python's own unpickler calls what a file names; even with `find_class` closed, BUILD sets attributes, EXT reads a
process-wide registry and APPENDS calls methods of whatever is on the stack. So this is no subclass of it. It is a
small stack machine over `pickletools.genops`, which decodes opcodes and runs nothing. A global is only ever a
`Placeholder` with a name; REDUCE looks that name up in `rebuild.RULES`, pure functions written here, and any
other name yields another `Placeholder`. Nothing is imported by name, called by name, or given attributes.

Next: `rebuild.py` (those functions), `torch_file.py` (zip archives and older formats around the pickle).
"""

import pickletools
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np

from classmodels.models.rebuild import RULES, CorruptError, Inner, NumpyDtype, Pending, Placeholder, hashable

MAX_OPERATIONS = 5_000_000
"""A checkpoint needs about thirty for each tensor; an opcode can make an object of 200 bytes out of one byte."""
MAX_IGNORED = 1_000
MAX_DEPTH = 100
"""Tuples within tuples: hashing one that is nested without bound overflows C's stack, here or in torch.load."""

_CONSTANTS = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "STRING", "BINSTRING", "SHORT_BINSTRING",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE",
    "BINUNICODE8", "FLOAT", "BINFLOAT",
}  # fmt: skip
_MADE: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
}
_SHORT_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class Machine:
    """Reads one pickle from a stream at its current position, up to and including its STOP.

    persistent: called with each persistent id (a tuple as torch writes it); what it returns takes its place.
    inner: reads a torch file that lies within the pickle (None: such a pickle is refused).
    ignored: after `load`, the names of the globals that became placeholders where torch would have made objects.
    Raises CorruptError for a malformed pickle or one beyond the limits.
    """

    def __init__(self, stream: Any, persistent: Callable[[Any], Any], inner: Inner = None) -> None:
        self._stream = stream
        self._persistent = persistent
        self._inner = inner
        self._stack: list[Any] = []
        self._marked: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._depths: dict[int, tuple[Any, int]] = {}
        self.ignored: dict[str, None] = {}
        # Rules copy their arguments, and the memo lets a small pickle hand over the same large one many times.
        begin = stream.tell()
        self._may_copy = 2 * (stream.seek(0, 2) or stream.tell()) + (1 << 20)
        stream.seek(begin)

    def load(self) -> Any:
        """The value that the pickle describes."""
        try:
            for count, (opcode, argument, _) in enumerate(pickletools.genops(self._stream)):
                if count >= MAX_OPERATIONS:
                    raise CorruptError(f"its pickle has more than {MAX_OPERATIONS:,} operations")
                if opcode.name == "STOP":
                    return self._stack.pop()
                self._do(opcode.name, argument)
        except (
            LookupError,
            ValueError,
            TypeError,
            AttributeError,
            ArithmeticError,
            MemoryError,
            RuntimeError,
        ) as error:
            raise CorruptError("its pickle is truncated or malformed") from error
        raise CorruptError("its pickle has no end")

    def _do(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name in _CONSTANTS:
            stack.append(argument)
        elif name in _MADE:
            stack.append(_MADE[name]())
        elif name in _SHORT_TUPLES:
            size = _SHORT_TUPLES[name]
            items = tuple(stack[-size:])
            if len(items) != size:
                raise IndexError(name)
            stack[-size:] = [self._bounded(items)]
        elif (step := getattr(self, f"_do_{name.lower()}", None)) is not None:
            step(argument)
        else:
            # EXT1, EXT2, EXT4: a registry of this process; NEXT_BUFFER, READONLY_BUFFER: data outside the file.
            raise CorruptError(f"its pickle uses the operation {name}, which no checkpoint needs")

    def _do_proto(self, _: Any) -> None:
        pass

    _do_frame = _do_proto

    # Marks: what follows a MARK is collected on a stack of its own.

    def _do_mark(self, _: Any) -> None:
        self._marked.append(self._stack)
        self._stack = []

    def _since_mark(self) -> list[Any]:
        items = self._stack
        self._stack = self._marked.pop()
        return items

    def _do_pop(self, _: Any) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._since_mark()

    def _do_pop_mark(self, _: Any) -> None:
        self._since_mark()

    def _do_dup(self, _: Any) -> None:
        self._stack.append(self._stack[-1])

    # The memo: objects that are used more than once.

    def _do_memoize(self, _: Any) -> None:
        self._do_put(len(self._memo))

    def _do_put(self, index: int) -> None:
        value = self._stack[-1]
        if isinstance(value, Pending):
            value.memo.append(index)
        self._memo[index] = value

    _do_binput = _do_long_binput = _do_put

    def _do_get(self, index: int) -> None:
        self._stack.append(self._memo[index])

    _do_binget = _do_long_binget = _do_get

    # Plain containers. Only real lists, dicts and sets grow; what is aimed at a placeholder is dropped.

    def _do_tuple(self, _: Any) -> None:
        items = self._since_mark()
        self._stack.append(self._bounded(tuple(items)))

    def _bounded(self, items: tuple[Any, ...]) -> tuple[Any, ...]:
        depth = max((self._depths.get(id(item), (item, 1))[1] for item in items if isinstance(item, tuple)), default=0)
        if depth >= MAX_DEPTH:
            raise CorruptError(f"its pickle nests tuples more than {MAX_DEPTH} deep")
        if depth:
            self._depths[id(items)] = items, depth + 1  # the tuple itself keeps its id from being used again
        return items

    def _do_list(self, _: Any) -> None:
        items = self._since_mark()
        self._stack.append(items)

    def _do_frozenset(self, _: Any) -> None:
        items = self._since_mark()
        self._stack.append(frozenset(map(hashable, items)))

    def _do_dict(self, _: Any) -> None:
        items = self._since_mark()
        self._stack.append({})
        self._set(items)

    def _do_append(self, _: Any) -> None:
        item = self._stack.pop()
        self._extend([item])

    def _do_appends(self, _: Any) -> None:
        items = self._since_mark()
        self._extend(items)

    def _do_setitem(self, _: Any) -> None:
        value = self._stack.pop()
        key = self._stack.pop()
        self._set([key, value])

    def _do_setitems(self, _: Any) -> None:
        items = self._since_mark()
        self._set(items)

    def _do_additems(self, _: Any) -> None:
        items = self._since_mark()
        target = self._stack[-1]
        if isinstance(target, set):
            target.update(map(hashable, items))
        elif not isinstance(target, Placeholder):
            raise TypeError("ADDITEMS")

    def _extend(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif not isinstance(target, Placeholder):
            raise TypeError("APPENDS")

    def _set(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, dict):
            for key, value in zip(items[::2], items[1::2], strict=True):
                target[hashable(key)] = value
        elif not isinstance(target, Placeholder):
            raise TypeError("SETITEMS")

    # Globals and what would be calls.

    def _do_global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._stack.append(Placeholder(module, name))

    def _do_stack_global(self, _: Any) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise TypeError("STACK_GLOBAL")
        self._stack.append(Placeholder(module, name))

    def _do_reduce(self, _: Any) -> None:
        arguments, made_by = self._stack.pop(), self._stack.pop()
        self._stack.append(self._made(made_by, arguments))

    _do_newobj = _do_reduce

    def _do_newobj_ex(self, _: Any) -> None:
        self._stack.pop()
        self._do_reduce(None)

    def _do_inst(self, argument: str) -> None:
        self._since_mark()
        module, _, name = argument.partition(" ")
        self._stack.append(self._made(Placeholder(module, name), None))

    def _do_obj(self, _: Any) -> None:
        items = self._since_mark()
        self._stack.append(self._made(items[0], None))

    def _made(self, made_by: Any, arguments: Any) -> Any:
        if not isinstance(made_by, Placeholder):
            raise TypeError("REDUCE")
        rule = RULES.get((made_by.module, made_by.name))
        if rule is not None and isinstance(arguments, tuple):
            self._count_copies(arguments)
            made = rule(arguments, self._inner)
            if not isinstance(made, Placeholder):
                return made
        if len(self.ignored) < MAX_IGNORED:
            self.ignored[made_by.what] = None
        return Placeholder(made_by.module, made_by.name)

    def _count_copies(self, arguments: tuple[Any, ...]) -> None:
        for argument in arguments:
            if isinstance(argument, str | bytes | bytearray | list | tuple | dict | set | frozenset):
                self._may_copy -= len(argument)
            elif isinstance(argument, np.ndarray):
                self._may_copy -= argument.nbytes
        if self._may_copy < 0:
            raise CorruptError("its pickle copies the same data over and over")

    def _do_build(self, _: Any) -> None:
        state = self._stack.pop()
        target = self._stack[-1]
        if isinstance(target, NumpyDtype):
            target.set_byte_order(state)
        elif isinstance(target, Pending):
            self._count_copies(state)
            array = target.finish(state)
            self._stack[-1] = array
            for index in target.memo:
                self._memo[index] = array
        elif not isinstance(target, Placeholder | OrderedDict):
            raise TypeError("BUILD")
        # The state of anything else is dropped: an OrderedDict's attributes, a placeholder's contents.

    def _do_persid(self, argument: str) -> None:
        raise CorruptError("it is no checkpoint of torch, or refers to objects outside the file")

    def _do_binpersid(self, _: Any) -> None:
        self._stack.append(self._persistent(self._stack.pop()))

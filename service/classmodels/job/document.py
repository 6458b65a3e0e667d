"""YAML with positions: plain data, and for every value the line and column where it stood.

YAML 1.2's core types, so that `no` is a word and 1e-3 a number. Duplicate keys, tags, and documents too large or
too deep are refused; an alias counts as often as it is used, so that no small file becomes a large one.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from classmodels.errors import InputError

MAX_BYTES = 2**20
MAX_DEPTH = 32
MAX_VALUES = 200_000

Path_ = tuple[str | int, ...]


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that is wrong with a job, and where. `where` is `file:line:column`, or the option that brought it."""

    line: int
    column: int
    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


class JobFileError(InputError):
    """A job file with problems: all of them, in the order of the file."""

    prefix = ""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = sorted(set(problems))
        super().__init__("\n".join(str(problem) for problem in self.problems))


@dataclass
class Document:
    """A job file as data. `places` holds (line, column), from 1, of each value; `keys` of each key."""

    file: str
    data: Any
    places: dict[Path_, tuple[int, int]] = field(default_factory=dict)
    keys: dict[Path_, tuple[int, int]] = field(default_factory=dict)
    options: dict[Path_, str] = field(default_factory=dict)

    def problem(self, path: Path_, message: str, *, key: bool = False) -> Problem:
        """`message` at the value (or the key) at `path`; where the file has no such value, at what should hold it."""
        prefixes = range(len(path), -1, -1)
        for end in prefixes:
            # An option replaced all that the file had there.
            if path[:end] in self.options:
                return Problem(0, 0, f"--set {self.options[path[:end]]}", message)
        for end in prefixes:
            places = self.keys if key and end == len(path) else self.places
            if path[:end] in places:
                line, column = places[path[:end]]
                return Problem(line, column, f"{self.file}:{line}:{column}", message)
        return Problem(1, 1, f"{self.file}:1:1", message)


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the implicit types of YAML 1.2's core schema instead of YAML 1.1's."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}


_STR = "tag:yaml.org,2002:str"
# How the values of each type are written, and the characters these begin with.
_CORE = {
    "tag:yaml.org,2002:null": (r"~|null|Null|NULL|", "~nN\0"),
    "tag:yaml.org,2002:bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "tag:yaml.org,2002:int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    "tag:yaml.org,2002:float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
}
for _tag, (_pattern, _first) in _CORE.items():
    for _character in _first:
        _entry = (_tag, re.compile(rf"^(?:{_pattern})$"))
        _Loader.yaml_implicit_resolvers.setdefault(_character.strip("\0"), []).append(_entry)


class _Dumper(yaml.SafeDumper):
    """Writes what `parse` reads as the same: text that YAML 1.1 or 1.2 would take for something else is quoted."""

    yaml_implicit_resolvers = {
        first: [
            *yaml.SafeDumper.yaml_implicit_resolvers.get(first, ()),
            *_Loader.yaml_implicit_resolvers.get(first, ()),
        ]
        for first in {*yaml.SafeDumper.yaml_implicit_resolvers, *_Loader.yaml_implicit_resolvers}
    }

    def ignore_aliases(self, data: Any) -> bool:
        return True


# Escapes such as "\x00" bring these in. No name, path or address holds one, and terminals obey some of them.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")


def read(file: str | Path) -> Document:
    """The document in `file`. Raises JobFileError with every problem, InputError where it cannot be read."""
    try:
        with open(file, "rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"{file}: {(error.strerror or str(error)).lower()}; expected a job file in YAML") from error
    return parse(data, str(file))


def parse(data: bytes, file: str) -> Document:
    """`data` as a document; `file` is the name that problems carry. Raises JobFileError."""

    def refuse(line: int, column: int, message: str) -> JobFileError:
        return JobFileError([Problem(line, column, f"{file}:{line}:{column}", message)])

    if len(data) > MAX_BYTES:
        raise refuse(1, 1, f"the file has more than {MAX_BYTES >> 20} MiB, expected a job file")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        raise refuse(line, column, f"found the byte 0x{data[error.start]:02x}, expected UTF-8 text") from error
    try:
        _bound_depth(text)
        node = _Loader(text).get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = " ".join(part for part in (error.context, error.problem) if part)
        raise refuse(mark.line + 1 if mark else 1, mark.column + 1 if mark else 1, f"not YAML: {what}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        column = error.position - text.rfind("\n", 0, error.position)
        raise refuse(line, column, f"found the character #x{error.character:04x}, which YAML does not allow") from error
    document = Document(file, None)
    if node is None:
        raise refuse(1, 1, "the file is empty, expected apiVersion, name, models, classes, recipes and output")
    builder = _Builder(document)
    document.data = builder.build(node, ())
    if builder.problems:
        raise JobFileError(builder.problems)
    return document


def dump(data: Any) -> str:
    """A document's data as YAML: the same data give the same text, and that text the same data again."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def _bound_depth(text: str) -> None:
    """Refuse deep nesting before the recursive composer meets it."""
    depth = 0
    for event in yaml.parse(text, _Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise yaml.MarkedYAMLError(
                    problem=f"nested deeper than {MAX_DEPTH}",
                    problem_mark=event.start_mark,  # type: ignore[arg-type]
                )
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


class _Builder:
    """Turns YAML nodes into plain data, noting places and problems on the way."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.problems: list[Problem] = []
        self.count = 0

    def build(self, node: yaml.Node, path: Path_) -> Any:
        self.count += 1
        if self.count > MAX_VALUES:
            if self.count == MAX_VALUES + 1:
                self._refuse(node, f"more than {MAX_VALUES} values, aliases counted as often as they are used")
            return None
        self.document.places[path] = _place(node)
        if len(path) > MAX_DEPTH:
            self._refuse(node, f"nested deeper than {MAX_DEPTH}, aliases counted")
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            if node.tag != "tag:yaml.org,2002:seq":
                self._refuse(node, f"found the tag {node.tag!r}, expected plain YAML without tags")
            return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._scalar(node)

    def _mapping(self, node: yaml.MappingNode, path: Path_) -> dict[str, Any]:
        if node.tag != "tag:yaml.org,2002:map":
            self._refuse(node, f"found the tag {node.tag!r}, expected plain YAML without tags")
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self._scalar(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            if isinstance(key, (bool, int, float)):
                key = key_node.value  # 0: tench, as in a map of labels
            if not isinstance(key, str):
                self._refuse(key_node, "found a key that is no word, expected a field's name")
                continue
            if key in result:
                line, _ = self.document.keys[(*path, key)]
                self._refuse(key_node, f"found {shown(key)} a second time, it already stands in line {line}")
                continue
            self.document.keys[(*path, key)] = _place(key_node)
            result[key] = self.build(value_node, (*path, key))
        return result

    def _scalar(self, node: yaml.Node) -> Any:
        if node.tag == _STR:
            if control := _CONTROL.search(node.value):
                self._refuse(node, f"found the character #x{ord(control[0]):04x} in a text, expected none such")
            return node.value
        if node.tag not in _CORE:
            self._refuse(node, f"found the tag {node.tag!r}, expected plain YAML without tags")
            return None
        kind, text = node.tag.rpartition(":")[2], node.value.lower()
        if not re.fullmatch(_CORE[node.tag][0], node.value):  # only by a tag: !!int abc
            self._refuse(
                node, f"found {shown(node.value)} under the tag {node.tag!r}, expected plain YAML without tags"
            )
            return None
        if kind == "null":
            return None
        if kind == "bool":
            return text == "true"
        if kind == "float":
            return float(text.replace(".inf", "inf").replace(".nan", "nan"))
        if len(text) > 40:
            self._refuse(node, f"found {shown(node.value)}, expected a number of at most 40 digits")
            return None
        return int(text, 8 if "o" in text else 16 if "x" in text else 10)

    def _refuse(self, node: yaml.Node, message: str) -> None:
        self.problems.append(Problem(*_place(node), f"{self.document.file}:{_line_column(node)}", message))


def shown(value: Any, limit: int = 60) -> str:
    """`value` as it stands in a message: short, quoted, on one line."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    text = repr(list(value) if isinstance(value, tuple) else value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _place(node: yaml.Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _line_column(node: yaml.Node) -> str:
    line, column = _place(node)
    return f"{line}:{column}"

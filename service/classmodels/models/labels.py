"""Names of classes: read from the bundled ImageNet list or a file, and looked up by people's spellings.

Labels are cosmetic: they name images and let judges be matched, and never enter a digest. A label file is data
from anywhere, so it is bounded in size and never executed. `resolve.py` calls `load_labels`; the job's
expansion calls `find_class`. Nothing here imports torch.
"""

import difflib
import json
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from classmodels.errors import InputError
from classmodels.models.remote.elsewhere import Elsewhere
from classmodels.models.remote.uri import is_remote, parse

IMAGENET = "imagenet-1k"
MAX_BYTES = 10_000_000
MAX_LABELS = 1_000_000
MAX_LENGTH = 1_000
CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")
"""No name of a class holds one. Terminals obey some of them, and lone surrogates cannot be written as UTF-8."""
_WORDNET_ID = re.compile(r"^n\d{8}[\s:,]+")


def load_labels(spec: str, base: Path, elsewhere: Elsewhere | None = None) -> list[str]:
    """The labels that `spec` names, by class index.

    spec: `imagenet-1k`, or a path (relative to `base`) or address (found by `elsewhere`) of a UTF-8 file: one label a
    line, or JSON: a list, a mapping of index to label, a mapping of label to index, or ImageNet's
    `{"0": ["n01440764", "tench"], ...}`.
    Raises InputError where the file is missing, too large, or holds anything else; StoreError where it cannot be asked
    for.
    """
    if spec == IMAGENET:
        return list(_imagenet())
    if is_remote(spec):
        try:
            name = parse(spec).shown
            data = (elsewhere or Elsewhere()).read(spec, MAX_BYTES)
        except InputError as error:
            raise InputError(f"labels: {error}") from error
    else:
        path = base / Path(spec).expanduser()
        name, data = str(path), _read(path)
    if len(data) > MAX_BYTES:
        raise InputError(f"labels {name} is larger than {MAX_BYTES:,} bytes: expected one label a line, or JSON")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"labels {name} is no UTF-8 text (byte {error.start}): save it as UTF-8") from error
    labels = _parse(text, name)
    if not labels:
        raise InputError(f"labels {name} is empty: expected one label a line, or JSON")
    if len(labels) > MAX_LABELS:
        raise InputError(f"labels {name} holds {len(labels):,} labels: expected at most {MAX_LABELS:,}")
    check_labels(labels, f"labels {name}")
    return labels


def check_labels(labels: Sequence[str], source: str) -> None:
    """Refuse labels that are empty, too long, or hold control characters or lone surrogates.

    Raises InputError that begins with `source` and names the index.
    """
    for index, label in enumerate(labels):
        if not label or len(label) > MAX_LENGTH:
            found = "is empty" if not label else f"has {len(label):,} characters"
            raise InputError(f"{source}: label {index} {found}; expected 1 to {MAX_LENGTH:,} characters")
        if control := CONTROL.search(label):
            raise InputError(f"{source}: label {index} holds {_named(control)}, expected none such")


def find_class(name: str, labels: Sequence[str]) -> int:
    """The index of the class that people call `name`: exact first, then in any case, then as a synonym.

    A label such as "tench, Tinca tinca" has two synonyms. Raises InputError for a name that no label has (with
    the nearest ones) or that several have (with their indices).
    """
    wanted = name.strip()
    folded = wanted.casefold()
    ways = (
        lambda label: label == wanted,
        lambda label: label.casefold() == folded,
        lambda label: folded in _synonyms(label),
    )
    for matches in ways:
        found = [index for index, label in enumerate(labels) if matches(label)]
        if len(found) == 1:
            return found[0]
        if found:
            listed = " and ".join(f"{index} ({labels[index]})" for index in found[:5])
            more = f" and {len(found) - 5} more" if len(found) > 5 else ""
            raise InputError(f'class "{name:.60}" is ambiguous: it names {listed}{more}; give the index instead')
    raise InputError(f'class "{name:.60}" is not among the {len(labels)} labels{_nearest(folded, labels)}')


def did_you_mean(name: str, choices: Sequence[str]) -> str:
    """`; did you mean "x"?` with the choices nearest to `name`, or an empty string where none is near."""
    near = difflib.get_close_matches(name, choices, n=3, cutoff=0.7)
    return "; did you mean " + " or ".join(f'"{choice}"' for choice in near) + "?" if near else ""


@cache
def _imagenet() -> tuple[str, ...]:
    text = (Path(__file__).parent / "data" / f"{IMAGENET}.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())


def _synonyms(label: str) -> set[str]:
    return {part.strip().casefold() for part in label.split(",")} if "," in label else set()


def _nearest(folded: str, labels: Sequence[str]) -> str:
    spellings: dict[str, str] = {}
    for label in labels[:100_000]:  # difflib is slow: an unknown name must not take minutes to refuse
        spellings.setdefault(label.casefold(), label)
        for synonym in _synonyms(label):
            spellings.setdefault(synonym, label)
    near = difflib.get_close_matches(folded, spellings, n=3, cutoff=0.7)
    names = list(dict.fromkeys(spellings[key] for key in near))
    return "; did you mean " + " or ".join(f'"{label}"' for label in names) + "?" if names else ""


def _read(path: Path) -> bytes:
    try:
        if not path.is_file():
            found = "is a folder" if path.is_dir() else "does not exist"
            raise InputError(f"labels {path} {found}: expected {IMAGENET} or a file of labels")
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise InputError(f"labels {path} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _parse(text: str, name: str) -> list[str]:
    is_json = name.lower().endswith(".json")
    if is_json or text.lstrip()[:1] in ("[", "{"):
        try:
            return _from_json(json.loads(text), name)
        except (ValueError, RecursionError) as error:
            if is_json:
                reason = (
                    str(error) if isinstance(error, json.JSONDecodeError) else "nested too deeply or a number too long"
                )
                raise InputError(f"labels {name} is no valid JSON: {reason}") from error
    lines = [line.strip() for line in text.split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    for number, line in enumerate(lines, 1):
        if control := CONTROL.search(line):
            raise InputError(f"labels {name}: line {number} holds {_named(control)}, expected none such")
    if lines and all(_WORDNET_ID.match(line) for line in lines):
        lines = [_WORDNET_ID.sub("", line) for line in lines]
    return lines


def _named(control: re.Match[str]) -> str:
    return f"the character #x{ord(control[0]):04x}"


def _from_json(value: Any, name: str) -> list[str]:
    if isinstance(value, list):
        return [_label(item, index, name) for index, item in enumerate(value)]
    if not isinstance(value, dict):
        raise InputError(f"labels {name} holds a JSON {type(value).__name__}: expected a list or a mapping")
    if value and all(type(index) is int for index in value.values()):
        if sorted(value.values()) != list(range(len(value))):
            raise InputError(f"labels {name}: expected the indices 0 to {len(value) - 1}, each once")
        return [label.strip() for label in sorted(value, key=lambda label: value[label])]
    labels = []
    for index in range(len(value)):
        if str(index) not in value:
            raise InputError(f'labels {name} has no entry "{index}": expected the indices 0 to {len(value) - 1}')
        labels.append(_label(value[str(index)], index, name))
    return labels


def _label(item: Any, index: int, name: str) -> str:
    if isinstance(item, list) and item:
        item = item[-1]  # ImageNet's own file pairs each WordNet id with a name
    if not isinstance(item, str):
        raise InputError(f"labels {name}: label {index} is a JSON {type(item).__name__}; expected text")
    return item.strip()

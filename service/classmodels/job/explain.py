"""Pydantic's errors as sentences for people: what was found, what was expected, what may have been meant."""

import types
import typing
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from classmodels.job.document import Document, Path_, Problem, shown
from classmodels.models.labels import did_you_mean
from classmodels.models.spec import FACTORY, NAME

_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "finite_number": "a finite number",
    "dict_type": "a mapping (key: value)",
    "model_type": "a mapping (key: value)",
    "model_attributes_type": "a mapping (key: value)",
    "tuple_type": "a list",
    "list_type": "a list",
}
_FORMS = {
    NAME: "a name of at most 64 letters, digits, dots, hyphens and underscores, beginning with a letter or digit",
    FACTORY: "module:callable, such as my_package.networks:build",
}
_BOUNDS = {
    "greater_than_equal": "at least {ge}",
    "greater_than": "above {gt}",
    "less_than_equal": "at most {le}",
    "less_than": "below {lt}",
    "too_short": "at least {min_length} of them",
    "too_long": "at most {max_length} of them",
    "string_too_short": "at least {min_length} character",
    "string_pattern_mismatch": "text of the form {pattern}",
    "literal_error": "{expected}",
}


def problems_of(
    error: ValidationError,
    document: Document,
    model: type[BaseModel],
    at: Path_ = (),
    data: Any = None,
    beside: Sequence[str] = (),
) -> list[Problem]:
    """Every error of validating `data` (at the path `at` of the document) against `model`, one problem for each place.

    beside: fields that may stand at `at` besides those of `model`.
    """
    found: dict[tuple[Path_, bool], list[str]] = {}
    details: dict[tuple[Path_, bool], ErrorDetails] = {}
    for one in error.errors():
        extra = one["type"] == "extra_forbidden"
        path = _path_in(data, one["loc"], keep_last=extra or one["type"] == "missing")
        found.setdefault((path, extra), []).append(_expected(one, path, model, beside))
        details.setdefault((path, extra), one)
    return [
        document.problem((*at, *path), _sentence(details[path, extra], list(dict.fromkeys(expected))), key=extra)
        for (path, extra), expected in found.items()
        # A list of one bad item is also "too short", a bad mapping also "no text": what is wrong within says it better.
        if not any(len(other) > len(path) and other[: len(path)] == path for other, _ in found)
    ]


def _sentence(one: ErrorDetails, expected: list[str]) -> str:
    wanted = " or ".join(expected)
    if one["type"] == "extra_forbidden":
        return f"found the unknown field {shown(one['loc'][-1])}, expected {wanted}"
    if one["type"] == "missing" and isinstance(one["loc"][-1], int):
        return f"found {shown(one['input'])}, expected more than {one['loc'][-1]} of them"
    if one["type"] == "missing":
        return f"the field {one['loc'][-1]!r} is missing"
    if one["type"] == "value_error":
        return wanted
    near = ""
    if one["type"] == "literal_error":
        near = did_you_mean(
            str(one["input"]), one["ctx"]["expected"].replace(" or ", ", ").replace("'", "").split(", ")
        )
    return f"found {shown(one['input'])}, expected {wanted}{near}"


def _expected(one: ErrorDetails, path: Path_, model: type[BaseModel], beside: Sequence[str]) -> str:
    kind = one["type"]
    if kind == "extra_forbidden":
        choices = [*(beside if len(path) == 1 else ()), *_fields_at(model, path[:-1])]
        return f"one of {', '.join(choices)}{did_you_mean(str(path[-1]), choices)}"
    if kind == "value_error":
        return str(one["ctx"]["error"])
    if kind == "string_pattern_mismatch" and one["ctx"]["pattern"] in _FORMS:
        return _FORMS[one["ctx"]["pattern"]]
    if kind in _BOUNDS:
        return _BOUNDS[kind].format(**one["ctx"])
    return _EXPECTED.get(kind, one["msg"][0].lower() + one["msg"][1:])


def _path_in(data: Any, location: tuple[int | str, ...], *, keep_last: bool) -> Path_:
    """The parts of an error's location that lead into the data; pydantic adds names of a union's members."""
    path: list[int | str] = []
    for position, part in enumerate(location):
        last = position == len(location) - 1
        inside = (isinstance(data, dict) and part in data) or (
            isinstance(data, list) and isinstance(part, int) and part < len(data)
        )
        if inside:
            data = data[part]
            path.append(part)
        elif last and keep_last:
            path.append(part)
    return tuple(path)


def _fields_at(model: type[BaseModel], path: Path_) -> Iterable[str]:
    """The field names of the model that sits at `path` beneath `model`."""
    kind: Any = model
    for part in path:
        inner = _models_in(kind.model_fields[part].annotation) if isinstance(part, str) and kind else None
        if isinstance(part, str):
            kind = inner[0] if inner else None
    return kind.model_fields if kind else ()


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return [annotation] if issubclass(annotation, BaseModel) else []
    return [model for part in typing.get_args(annotation) for model in _models_in(part)]

"""`--set path=value`: one field of a job changed from the command line, before the job is checked."""

from typing import Any

from classmodels.errors import InputError
from classmodels.job.document import Document, parse, shown
from classmodels.job.schema import Job
from classmodels.models.labels import did_you_mean


def override(document: Document, option: str) -> None:
    """Lay `path=value` over the document: keys and indices with dots between; an item of a list also by its name."""
    dotted, separator, text = option.partition("=")
    if not separator or not dotted:
        raise InputError(f"--set {option!r}: expected path=value, such as recipes.natural.steps=64")
    value = parse(text.encode() or b"null", f"--set {option}").data
    target, path = document.data, []
    parts = dotted.split(".")
    for position, part in enumerate(parts):
        last = position == len(parts) - 1
        key: str | int = part
        if isinstance(target, list):
            key = _item(target, part, option)
            if isinstance(target[key], str) and not last:
                # `natural` in a list of recipes is short for {extends: natural}.
                target[key] = {"name": target[key], "extends": target[key]}
        elif not isinstance(target, dict):
            holder = ".".join(parts[:position]) or "the job"
            raise InputError(f"--set {option!r}: {holder} is {shown(target)} and has no {part!r}")
        path.append(key)
        if last:
            target[key] = value
            document.options[tuple(path)] = option
        else:
            if isinstance(target, dict) and target.get(part) is None:
                default = Job.model_fields[part].default if part in Job.model_fields and not position else None
                target[part] = list(default) if isinstance(default, tuple) else {}
                document.options[tuple(path)] = option
            target = target[key]


def _item(items: list[Any], part: str, option: str) -> int:
    if part.isdecimal() and int(part) < len(items):
        return int(part)
    names = [item.get("name", item.get("extends")) if isinstance(item, dict) else item for item in items]
    if part in names:
        return names.index(part)
    choices = [str(name) for name in names if name is not None]
    raise InputError(
        f"--set {option!r}: found no item {part!r}, expected an index below {len(items)} or one of"
        f" {', '.join(choices)}{did_you_mean(part, choices)}"
    )

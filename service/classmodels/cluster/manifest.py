"""YAML that every reader takes for the same: kubectl's, Python's, and this package's own."""

import re
from typing import Any

import yaml

_WORD = re.compile(r"[A-Za-z/][A-Za-z0-9_./:-]*[A-Za-z0-9_./-]")


class _Dumper(yaml.SafeDumper):
    """Quotes every text that is not plainly a word, writes long texts line by line, and repeats instead of aliasing."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    # PyYAML leaves 12345678e901 bare, which others read as a number: a digest may look like that.
    style = "|" if "\n" in value else None if _WORD.fullmatch(value) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style)


_Dumper.add_representer(str, _text)


def to_yaml(*values: Any) -> str:
    """`values` as YAML, one document each."""
    return yaml.dump_all(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)

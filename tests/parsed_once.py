"""Importing this makes botocore parse its descriptions of S3 once in a process, and not for every client anew.

A tenth of a second of each test that has a client of its own; what is parsed is the same, and nobody changes it.
"""

import functools
from typing import Any

from botocore.loaders import JSONFileLoader

_parsed = functools.cache(JSONFileLoader().load_file)


def _load_file(loader: JSONFileLoader, path: str) -> Any:
    return _parsed(path)


JSONFileLoader.load_file = _load_file  # type: ignore[method-assign]

"""What a bucket tells a browser of an object: its type, and how long a copy of it may be kept."""

import re
from pathlib import PurePosixPath

_TYPES = {
    ".apng": "image/apng",
    ".css": "text/css; charset=utf-8",
    ".gif": "image/gif",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".jsonl": "application/x-ndjson",
    ".md": "text/markdown; charset=utf-8",
    ".png": "image/png",
    ".safetensors": "application/octet-stream",
    ".txt": "text/plain; charset=utf-8",
    ".webp": "image/webp",
    ".yaml": "application/yaml",
}
_NAMED_BY_CONTENT = re.compile(r"\.[0-9a-f]{12}\.(png|webp|gif|apng)\Z")
"""Pictures and films: see `records.file_name`. A verdict's key tells on which image it is, and not what it says."""


def content_type(key: str) -> str:
    """The media type of the object `key`, by its suffix; plain bytes where that says nothing."""
    return _TYPES.get(PurePosixPath(key).suffix, "application/octet-stream")


def cache_control(key: str) -> str:
    """For ever where the name is a digest of the content (`0009-ostrich.<sha12>.png`); else to be asked for again."""
    return "max-age=31536000, immutable" if _NAMED_BY_CONTENT.search(key) else "no-cache"

"""Objects as somebody with access to a bucket could write them: they say what they like, and their seal is right."""

import json
from typing import Any

from classmodels.store.seal import sealed, unsealed


def said_again(said: Any, **how: Any) -> bytes:
    """An object that says this, where it is one. how: as `json.dumps` takes it."""
    if not isinstance(said, dict):
        return json.dumps(said, **how).encode()
    content = {name: value for name, value in said.items() if name != "content_sha256"}
    return sealed(json.dumps(content, **how).encode() + b"\n")


def resealed(data: bytes) -> bytes:
    """`data`, which was changed before its seal, with the seal that it then has."""
    return sealed(unsealed(data))

"""Objects as somebody with access to a bucket could write them: they say what they like, and their seal is right."""

import hashlib
import json
from typing import Any

from classmodels.s3 import parse_uri
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


def put_with_old_digest(client: Any, uri: str, key: str, data: bytes, before: bytes) -> None:
    """What a bucket has once its disk has altered an object: other bytes beside the digest of those that were sent."""
    bucket, prefix = parse_uri(uri)
    metadata = {"sha256": hashlib.sha256(before).hexdigest()}
    client.put_object(Bucket=bucket, Key=f"{prefix}/{key}", Body=data, Metadata=metadata)

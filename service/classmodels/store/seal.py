"""Seals: a JSON object's last member is the sha256 of all its bytes before that, so that no change goes unnoticed.

A bucket keeps a digest beside each object; a folder, or a copy of one, has nothing but the bytes.
"""

import hashlib


def sealed(data: bytes) -> bytes:
    """`data`, a JSON object of at least one member that ends with a bracket and a newline, with its seal."""
    body = data.removesuffix(b"}\n").removesuffix(b"\n")
    return body + _seal(body)


def is_sealed(data: bytes) -> bool:
    """Whether `data` has a seal, and is what was sealed."""
    return data[-_LENGTH:] == _seal(data[:-_LENGTH])


def has_seal(data: bytes) -> bool:
    """Whether `data` seems to be sealed, rightly or wrongly."""
    return _NAME in data[-_LENGTH:]


def unsealed(data: bytes) -> bytes:
    """Canonical JSON as it was before it was `sealed`; as it is where it has no seal."""
    return data[:-_LENGTH] + b"\n}\n" if has_seal(data) else data


def _seal(body: bytes) -> bytes:
    return b',\n "%s": "%s"\n}\n' % (_NAME, hashlib.sha256(body).hexdigest().encode())


_NAME = b"content_sha256"
_LENGTH = len(_seal(b""))

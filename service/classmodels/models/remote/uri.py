"""What may be named elsewhere: s3://bucket/key or https://host/path, either of them pinned by #sha256=<64 hex digits>.

All of this is told without any network, so that `validate` refuses what is no such name.
"""

import hashlib
import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from classmodels.errors import InputError
from classmodels.s3 import parse_uri

SHA256 = re.compile(r"[0-9a-f]{64}")
EXPECTED = "expected s3://bucket/key or https://host/path"
_REMOTE = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)
_PIN = re.compile(r"(.*)#sha256=(.*)", re.DOTALL)
_INDEX = ".safetensors.index.json"


@dataclass(frozen=True)
class Uri:
    """A file elsewhere. text: where it is, without the pin; a query in it may be a secret. pin: its sha256, or None."""

    text: str
    pin: str | None

    @property
    def shown(self) -> str:
        """The name that people and logs see: signed URLs have their signature in the query."""
        path, query, _ = self.text.partition("?")
        return self.text if self.is_s3 or not query else f"{path}?..."

    @property
    def key(self) -> str:
        """What the cache files it under: nothing that a server or a job says is ever a file's name."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def is_s3(self) -> bool:
        return self.text.startswith("s3://")


def is_remote(name: str) -> bool:
    """Whether `name` is meant as the address of something elsewhere, and not as a path or a file in a package."""
    return _REMOTE.match(name) is not None and not name.startswith("package:")


def parse(name: str) -> Uri:
    """The address `name`. Raises InputError for one that cannot be used, without showing what may be a secret in it."""
    pinned = _PIN.fullmatch(name)
    text, pin = (pinned[1], pinned[2].lower()) if pinned else (name, None)
    if pin is not None and not SHA256.fullmatch(pin):
        raise InputError(f"found #sha256={pin[:70]}, expected the 64 hex digits of a sha256 after it")
    uri = Uri(text, pin)
    if re.search(r"[\x00-\x20\x7f\ud800-\udfff]", text) and not (uri.is_s3 and text.isprintable()):
        raise InputError("the address holds blanks or control characters: write them as %20 and the like")
    if uri.is_s3:
        _check_bucket(uri)
    elif re.match(r"https?://", text):
        _check_web(uri)
    else:
        raise InputError(f"found {text.partition(':')[0]}:, {EXPECTED}")
    if uri.shown.endswith(_INDEX):
        raise InputError(f"{uri.shown} is an index of several files: copy them to a folder, and name that")
    return uri


def is_secure(url: SplitResult) -> bool:
    """Whether what comes from `url` is what its server sent: by TLS, or because it never leaves this machine."""
    return url.scheme == "https" or (url.scheme == "http" and is_loopback(url.hostname or ""))


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine, by name or address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_bucket(uri: Uri) -> None:
    _, key = parse_uri(uri.text)
    if not key or key.endswith("/"):
        raise InputError(f"{uri.shown} names no object, {EXPECTED}")


def _check_web(uri: Uri) -> None:
    try:
        url = urlsplit(uri.text)
        host, _ = url.hostname, url.port
    except ValueError:
        host = None
    if not host:
        raise InputError(f"the address has no host, or one that is none: {EXPECTED}")
    if "@" in url.netloc:
        raise InputError(
            f"the address of {host} holds a user name or password, which would end up wherever the job file does:"
            " expected a signed URL, or an object in S3, whose credentials come from the environment"
        )
    if url.fragment:
        raise InputError(f"{uri.shown.partition('#')[0]} has a fragment: only #sha256=<64 hex digits> has a meaning")
    if not is_secure(url):
        # Whoever is on the way could put other weights in, and the record would call them the model's.
        raise InputError(f"{uri.shown}: plain http is used on this machine only (localhost), expected https://")

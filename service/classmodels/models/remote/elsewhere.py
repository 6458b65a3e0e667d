"""What one job names elsewhere: found, digested and brought here, through one cache and one client of S3.

`resolve.py` opens what a model names, `classifier.py` holds it while it loads. A file whose digest is known (it was
fetched before, or whoever wrote it left its sha256) comes only when it is loaded: a run in which nothing is to do
fetches nothing.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from classmodels.errors import InputError, StoreError
from classmodels.models.remote.base import Listener, Remote, Seen
from classmodels.models.remote.cache import MIRROR, Cache
from classmodels.models.remote.disk import telling
from classmodels.models.remote.download import check_size
from classmodels.models.remote.place import SIZE, find_limit, find_place
from classmodels.models.remote.uri import Uri, parse
from classmodels.s3 import S3Settings, connect

TRIES = 5
"""How often a file is fetched that others remove from a cache that is too small for all of them."""


class Elsewhere:
    """The files elsewhere of one job.

    settings: how to reach S3. download: whether a file may be fetched to learn its digest; without, it is only looked
    for. cache: the one to use instead of the environment's.
    """

    def __init__(
        self,
        settings: S3Settings | None = None,
        listener: Listener | None = None,
        download: bool = True,
        cache: Cache | None = None,
    ) -> None:
        self.settings = settings or S3Settings()
        self.listener = listener or Listener()
        self.download = download
        self._cache = cache
        self._failed: StoreError | None = None

    def open(self, name: str, most: int | None = None) -> "RemoteFile":
        """The file at the address `name`. most: how many bytes it may have.

        Raises InputError where there is none, or the address is none; StoreError where that cannot be known. After a
        StoreError all further calls raise the same: nobody waits for a server that is gone as often as it is named.
        """
        uri = parse(name)
        if self._failed is not None:
            raise self._failed
        try:
            remote = self._remote(uri)
            return RemoteFile(remote, self._digest(remote, most), self)
        except StoreError as error:
            self._failed = error
            raise

    def bring(self, name: str, most: int | None = None) -> "RemoteFile":
        """As `open`, and the file is here afterwards, and known by its address."""
        remote = self._remote(parse(name))
        file = RemoteFile(remote, self._fetch(remote, remote.look(), most), self)
        with file.held():
            return file

    def read(self, name: str, most: int) -> bytes:
        """All bytes of a small file, whether or not large ones may be downloaded. Raises as `open` does."""
        file = self.open(name, most)
        if file.sha256 is None:
            file = self.bring(name, most)
        with file.held() as path:
            return path.read_bytes()

    @cached_property
    def cache(self) -> Cache:
        if self._cache is not None:
            return self._cache
        place = find_place()
        return Cache(place, find_limit(place))

    @cached_property
    def is_mirror(self) -> bool:
        """Whether the cache is a mirror that `fetch` has made: then it is all there is, and nothing else is asked."""
        with telling(self.cache.root):
            return self._cache is None and (self.cache.root / MIRROR).is_file()

    @cached_property
    def _client(self) -> Any:
        return connect(self.settings)

    def _remote(self, uri: Uri) -> Remote:
        if uri.is_s3:
            from classmodels.models.remote.bucket import S3Object

            return S3Object(uri, lambda: self._client)
        from classmodels.models.remote.https import HttpsObject

        return HttpsObject(uri)

    def _digest(self, remote: Remote, most: int | None) -> str | None:
        """The sha256 of `remote`; None where only a download could tell and there is to be none."""
        uri = remote.uri
        if self.is_mirror:
            return self._mirrored(uri)
        if uri.pin and self.cache.has(uri.pin):
            return uri.pin
        seen = remote.look()
        check_size(remote, seen, most)
        if uri.pin and seen.sha256 and uri.pin != seen.sha256:
            raise InputError(f"{uri.shown} is not what the job pins: {seen.sha256} is noted with it as its sha256")
        known = uri.pin or seen.sha256 or self.cache.known(uri, seen)
        return known or (self._fetch(remote, seen, most) if self.download else None)

    def _mirrored(self, uri: Uri) -> str:
        known = uri.pin or self.cache.known(uri, None)
        if known is None or not self.cache.has(known):
            raise _not_mirrored(uri, self.cache.root)
        return known

    def _fetch(self, remote: Remote, seen: Seen, most: int | None = None) -> str:
        return self.cache.fetch(remote, seen, most, self.listener)


@dataclass(frozen=True)
class RemoteFile:
    """A file elsewhere. sha256: of its bytes; None where only a download could tell and there was to be none."""

    remote: Remote
    sha256: str | None
    elsewhere: Elsewhere

    def __str__(self) -> str:
        return self.remote.uri.shown

    @property
    def is_within_reach(self) -> bool:
        """Whether it is here, or may be fetched."""
        return self.elsewhere.download or (self.sha256 is not None and self.elsewhere.cache.has(self.sha256))

    @contextlib.contextmanager
    def held(self) -> Iterator[Path]:
        """The file, here, which nobody removes meanwhile; fetched if need be. Raises InputError, StoreError."""
        assert self.sha256 is not None
        cache = self.elsewhere.cache
        for _ in range(TRIES):
            descriptor = cache.hold(self.sha256)
            if descriptor is not None:
                try:
                    yield cache.path(self.sha256)
                finally:
                    os.close(descriptor)
                return
            self._fetch_again()
        raise StoreError(f"{self} is removed from the cache {cache.root} as soon as it is there: raise {SIZE}")

    def doubt(self) -> None:
        """Have the copy here looked at, and maybe fetched again, before it is next used."""
        if self.sha256 is not None and not self.elsewhere.is_mirror:
            self.elsewhere.cache.doubt(self.sha256)

    def _fetch_again(self) -> None:
        assert self.sha256 is not None
        if self.elsewhere.is_mirror:
            raise _not_mirrored(self.remote.uri, self.elsewhere.cache.root)
        seen = self.remote.look()
        known = self.remote.uri.pin or seen.sha256 or self.elsewhere.cache.known(self.remote.uri, seen)
        if (known or self.sha256) != self.sha256 or self.elsewhere._fetch(self.remote, seen) != self.sha256:
            raise InputError(f"{self} changed since the job began: run the job again for what is there now")


def _not_mirrored(uri: Uri, root: Path) -> InputError:
    return InputError(
        f"{uri.shown} is not in the mirror {root}, which is all that is looked at: where there is a network, run"
        f" classmodels fetch JOB {root} again"
    )

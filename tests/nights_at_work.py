"""Nights as tests have them: a training that leaves checkpoints in a folder or a bucket, the command, what is left."""

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from safetensors.torch import save

from classmodels.store import Store, open_store
from classmodels.store.nights import Done, Listing, nights_prefix
from classmodels.store.records import parse
from kills import tree

JOB = "every-night"


@cache
def opened(uri: str) -> Store:
    """A client of S3 takes a third of a second to make."""
    return open_store(uri)


@dataclass
class Nights:
    """checkpoints, output: a folder or s3://bucket/prefix each."""

    template: Path
    checkpoints: str
    output: str
    network: Callable[..., Any]
    command: Callable[..., Any]
    prefix: str = ""
    """Of the names of the network's weights."""

    def save(self, name: str, seed: int = 2, *, old: float = 3600, data: bytes | None = None) -> str:
        """Leave a checkpoint (weights drawn from `seed`, or `data`), in a folder written to `old` seconds ago."""
        place = opened(self.checkpoints)
        if data is None:
            state = self.network(seed=seed).state_dict()
            data = save({f"{self.prefix}{key}": value for key, value in state.items()})
        place.write(name, data)
        where = place.locate(name)
        if not where.startswith("s3://"):
            then = time.time() - old
            os.utime(where, (then, then))
        return where

    def remove(self, name: str) -> None:
        opened(self.checkpoints).delete(name)

    def sidecar(self, name: str, **said: Any) -> None:
        opened(self.checkpoints).write(f"{name}.json", json.dumps(said).encode())

    def run(self, *options: str) -> Any:
        """`classmodels nightly` with a second for a checkpoint to settle."""
        settled = () if "--settled" in options or "--ready" in options else ("--settled", "0s")
        where = ("--checkpoints", self.checkpoints, "--output", self.output)
        return self.command("nightly", self.template, *where, *settled, *options)

    def night(self, *options: str, code: int = 0) -> dict[str, Any]:
        """The summary of a night that ends with `code`."""
        ended = self.run("--json", *options)
        assert ended.code == code, ended
        summary: dict[str, Any] = json.loads(ended.out)
        return summary

    @property
    def store(self) -> Store:
        return opened(self.output)

    @property
    def listing(self) -> Listing:
        return Listing.of(JOB, self.store.list(nights_prefix(JOB)))

    @property
    def entries(self) -> list[Done]:
        found = [parse(Done, self.store.read(key) or b"") for key in self.listing.entries]
        assert None not in found
        return [one for one in found if one is not None]


def ends(summary: dict[str, Any]) -> dict[str, str]:
    """How the night ended for each checkpoint, by the name of its file."""
    return {one["uri"].rpartition("/")[2]: one["end"] for one in summary["checkpoints"]}


def left(store: Store, *, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """All that nights leave, but for when and where units were made, and what each night told of itself."""
    found = tree(store)
    return {key: data for key, data in found.items() if "/summaries/" not in key and not key.startswith(without)}

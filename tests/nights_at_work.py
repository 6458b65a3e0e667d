"""Nights as tests have them: a training that leaves checkpoints in a folder or a bucket, the command, what is left."""

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save

from classmodels.s3 import S3Settings
from classmodels.store import Store, open_store
from classmodels.store.nights import Done, Listing, nights_prefix
from classmodels.store.records import parse

JOB = "every-night"


@dataclass
class Nights:
    """checkpoints, output: a folder or s3://bucket/prefix each."""

    template: Path
    checkpoints: str
    output: str
    network: Callable[..., Any]
    command: Callable[..., Any]

    def save(self, name: str, seed: int = 2, *, old: float = 3600, data: bytes | None = None) -> str:
        """Leave a checkpoint (weights drawn from `seed`, or `data`), in a folder written to `old` seconds ago."""
        place = open_store(self.checkpoints)
        place.write(name, save(self.network(seed=seed).state_dict()) if data is None else data)
        where = place.locate(name)
        if not where.startswith("s3://"):
            then = time.time() - old
            os.utime(where, (then, then))
        return where

    def sidecar(self, name: str, **said: Any) -> None:
        open_store(self.checkpoints).write(f"{name}.json", json.dumps(said).encode())

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
        return open_store(self.output, S3Settings())

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

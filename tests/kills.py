"""Runs of a job that are killed: at a storage operation, half-way through a write, or at any moment. Real SIGKILLs.

`Runs` starts `killed.py`, a process that imports everything once and then forks a child for each run, because a fresh
interpreter would take seconds. `tree` is what a run leaves, but for what differs from one run to the next.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from classmodels.store import Record, Store, open_store
from classmodels.store.records import parse

KILLED = Path(__file__).with_name("killed.py")


@dataclass(frozen=True)
class Run:
    """How a run ended. code: its exit status, or None where it was killed. steps: of the ascent, all batches."""

    code: int | None
    operations: int
    steps: int
    said: str


class Runs:
    """Starts the process that forks; `run` as often as wanted, then `stop`."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(KILLED)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )

    def run(
        self,
        job: Path,
        output: str,
        *,
        at: int | None = None,
        after: float | None = None,
        interval: float = 0,
        threads: int = 1,
    ) -> Run:
        """Run `job` into `output` with `threads` threads, batches of two units, a state every `interval` seconds.

        at: kill it at its storage operation of this number, from 1 on; if that is a write, in the middle of it.
        after: kill it after so many seconds.
        """
        command = ["run", str(job), "--output", output, "--state-interval", str(interval)]
        return self.command(command, at=at, after=after, threads=threads)

    def command(
        self,
        arguments: Sequence[str],
        *,
        at: int | None = None,
        after: float | None = None,
        steps: int | None = None,
        with_signal: signal.Signals = signal.SIGKILL,
        threads: int = 1,
        **environment: str,
    ) -> Run:
        """As `run`, with any command. with_signal: what it gets after so many seconds, or in that step of an ascent."""
        request = {
            "command": list(arguments),
            "at": at,
            "after": after,
            "steps": steps,
            "signal": with_signal,
            "environment": dict(os.environ) | {"OMP_NUM_THREADS": str(threads)} | environment,
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the process that forks has ended"
        return Run(**json.loads(answer))

    def stop(self) -> None:
        self._process.communicate(timeout=60)


@dataclass
class Outcome:
    """What came of jobs that were killed and started again until they were done."""

    kills: int = 0
    restarts: int = 0
    resumed: int = 0
    """Restarts that went on from a saved state."""
    lost: int = 0
    different: int = 0
    states_left: int = 0
    others_left: int = 0
    exits: dict[int, int] = field(default_factory=dict)

    def restart(self, run: Run) -> None:
        self.restarts += 1
        self.resumed += "go on after step" in run.said

    def end(self, run: Run, found: dict[str, Any], expected: dict[str, Any]) -> None:
        """A run came to its end and has left `found`; an undisturbed one leaves `expected`."""
        assert run.code is not None
        self.exits[run.code] = self.exits.get(run.code, 0) + 1
        more = found.keys() - expected.keys()
        self.lost += len(expected.keys() - found.keys())
        self.different += sum(found[key] != expected[key] for key in found.keys() & expected.keys())
        self.states_left += sum(key.startswith("state/") for key in more)
        self.others_left += sum(not key.startswith("state/") for key in more)

    @property
    def flawless(self) -> bool:
        return not (self.lost or self.different or self.states_left or self.others_left) and set(self.exits) == {0}


def kill_at_every_operation(
    runs: Runs, job: Path, place: Callable[[str], str], expected: dict[str, Any], begun: Sequence[str] = ()
) -> Outcome:
    """Kill a run at its first operation and run it again; another one at its second; and so on to the last.

    place: an output of that name where nothing is yet. expected: what an undisturbed run leaves. begun: what an earlier
    run has done, as options of `run`; then every other operation is taken.
    """
    outcome = Outcome()
    for number in range(1, 1000, 2 if begun else 1):
        output = place(f"at-{number}")
        if begun:
            assert runs.command(["run", str(job), "--output", output, *begun]).code == 0
        run = runs.run(job, output, at=number)
        survived = run.code is not None
        if not survived:
            outcome.kills += 1
            run = runs.run(job, output)
            outcome.restart(run)
        outcome.end(run, tree(open_store(output)), expected)
        if survived:
            break
    return outcome


def kill_at_random(
    runs: Runs, job: Path, place: Callable[[str], str], expected: dict[str, Any], kills: int, seed: int
) -> Outcome:
    """Kill runs at random moments and start them again, until they have come to their end and there were `kills`."""
    outcome, moments = Outcome(), random.Random(seed)
    output, usual = place("usual"), 0.0
    began = time.monotonic()
    outcome.end(runs.run(job, output), tree(open_store(output)), expected)
    usual = time.monotonic() - began
    for number in range(10 * kills):
        output = place(f"random-{number}")
        run = runs.run(job, output, after=moments.uniform(0, usual))
        while run.code is None:
            outcome.kills += 1
            run = runs.run(job, output, after=moments.uniform(0, usual) if outcome.kills < kills else None)
            outcome.restart(run)
        outcome.end(run, tree(open_store(output)), expected)
        if outcome.kills >= kills:
            break
    return outcome


def tree(store: Store) -> dict[str, Any]:
    """All objects of `store` by key; of records all but timings and host."""
    found: dict[str, Any] = {}
    for key in store.list(""):
        data = store.read(key)
        record = parse(Record, data or b"") if key.startswith("units/") and key.endswith(".json") else None
        found[key] = record.model_copy(update={"timings": {}}) if record else data
    return found

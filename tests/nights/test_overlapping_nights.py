"""Nights that overlap and are killed, over checkpoints that are rewritten, cut short or late: the end is the same.

One night runs here, another in a process of its own that is slow enough to be killed in its middle.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from classmodels.nights.checkpoint import Doing
from nights_at_work import JOB, Nights, ends, left, opened
from seaweed import WRITER

SERVICE = Path(__file__).parents[2] / "service"


def slowed(nights: Nights) -> Nights:
    """Over a network that takes TINY_SLEEP seconds for each look."""
    template = yaml.safe_load(nights.template.read_text())
    template["models"][0]["source"] = {"factory": "nets:slow"}
    nights.template.write_text(yaml.safe_dump(template))
    nights.prefix = "inner."
    return nights


def start(nights: Nights, sleep: float) -> "subprocess.Popen[bytes]":
    """A night in a process of its own."""
    where = ("--checkpoints", nights.checkpoints, "--output", nights.output, "--settled", "0s")
    environment = os.environ | WRITER.environment | {"TINY_SLEEP": str(sleep), "PYTHONPATH": str(SERVICE)}
    return subprocess.Popen(
        [sys.executable, "-m", "classmodels.cli", "nightly", str(nights.template), *where],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def wait_for(nights: Nights, prefix: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not any(nights.store.list(prefix)):
        assert time.monotonic() < deadline, f"nothing came at {prefix}"
        time.sleep(0.05)


def test_whatever_happens_to_nights_and_checkpoints_the_end_is_that_of_one_clean_night(
    bucket_nights: Nights, monkeypatch: pytest.MonkeyPatch
) -> None:
    nights = slowed(bucket_nights)
    for step in (1, 2, 4, 5):
        nights.save(f"step_{step}.safetensors", seed=step)
    whole = opened(nights.checkpoints).read("step_5.safetensors")
    assert whole is not None
    nights.save("step_3.safetensors", data=whole[: len(whole) // 2])

    other = start(nights, sleep=0.3)
    try:
        wait_for(nights, "units/")
        learn = Doing._learn

        def learning(doing: Doing, found: Any) -> str:
            if found.step == 2 and other.poll() is None:
                sha256 = learn(doing, found)
                assert sha256
                nights.save("step_2.safetensors", seed=22)
                nights.save("step_6.safetensors", seed=6)
                other.send_signal(signal.SIGKILL)
                assert other.wait() == -signal.SIGKILL
            return learn(doing, found)

        with monkeypatch.context() as patched:
            patched.setattr(Doing, "_learn", learning)
            first = nights.night(code=3)
    finally:
        other.kill()
        other.wait()
    name = "step_{}.safetensors".format
    assert ends(first) == {name(5): "done", name(4): "done", name(3): "broken", name(2): "later", name(1): "done"}
    second = nights.night()
    assert ends(second) == {name(6): "done", name(2): "done"}
    assert nights.run().out == "nothing new\n"
    disturbed = left(nights.store)

    nights.output += "-clean"
    clean_night = nights.night(code=3)
    assert ends(clean_night) == {name(6): "done", name(5): "done", name(4): "done", name(3): "broken"} | {
        name(2): "done",
        name(1): "done",
    }
    clean = left(nights.store)
    assert {key for key, data in clean.items() if disturbed.get(key) != data} == set()
    # Beyond that there is only what was true for a night: checkpoints that were neighbours until another came between.
    beyond = {key for key in disturbed if key not in clean}
    # So is the plan of a run that was killed before its first unit, of a checkpoint that was then written anew.
    assert {key for key in beyond if not key.startswith(("verdicts/", f"nights/{JOB}/compare/", "runs/"))} == set()


def test_two_nights_at_once_leave_what_one_leaves(nights: Nights) -> None:
    nights = slowed(nights)
    for step in (1, 2):
        nights.save(f"step_{step}.safetensors", seed=step)
    both = [start(nights, sleep=0.02), start(nights, sleep=0.02)]
    assert [one.wait(120) for one in both] == [0, 0]
    together = left(nights.store)
    nights.output += "-clean"
    nights.night()
    assert together == left(nights.store)

"""How benchmarks/step.py takes times: contestants in turn, A B C A B C ..., each call on the next set of tensors.

In turn, so that what changes during the run (clocks, neighbours) falls on all of them; on the next set, so that none
finds its data in a cache. A sample is as many calls as take about `SAMPLE` seconds. A contestant leaves when it has
ROUNDS samples or has used its equal share of the time, so that slow ones do not use up that of the others.
"""

import gc
import statistics
import time
from dataclasses import dataclass, field

import torch
from contestants import Contestant, Set

ROUNDS = 61
SAMPLE = 2e-3
MOST_CALLS = 500


@dataclass
class Times:
    """Seconds per step, one number for each sample; `host`: until the calls had returned (CUDA only)."""

    calls: int
    device: list[float] = field(default_factory=list)
    host: list[float] = field(default_factory=list)

    def add(self, device: float, host: float, cuda: bool) -> None:
        self.device.append(device)
        if cuda:
            self.host.append(host)

    def summary(self) -> dict[str, float | int]:
        lower, median, upper = quartiles(self.device)
        found = {"median": median, "lower_quartile": lower, "upper_quartile": upper}
        if self.host:
            found["host_median"] = statistics.median(self.host)
        rounded: dict[str, float | int] = {name: round(value * 1e6, 3) for name, value in found.items()}
        return rounded | {"samples": len(self.device), "calls_per_sample": self.calls}


def quartiles(values: list[float]) -> tuple[float, float, float]:
    if len(values) == 1:
        return values[0], values[0], values[0]
    lower, median, upper = statistics.quantiles(values, n=4, method="inclusive")
    return lower, median, upper


class Clock:
    """Times calls on a device, over sets that it takes in turn."""

    def __init__(self, device: torch.device, sets: list[Set]) -> None:
        self.cuda = device.type == "cuda"
        self.sets = sets
        self.next = 0

    def sample(self, contestant: Contestant, calls: int) -> tuple[float, float]:
        """Seconds per step: on the device, and until the host was free again."""
        sets, first = self.sets, self.next
        self.next = (first + calls) % len(sets)
        order = [sets[(first + i) % len(sets)] for i in range(calls)]
        if self.cuda:
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            torch.cuda.synchronize()
            begin.record()
        start = time.perf_counter()
        for s in order:
            contestant.run(s)
        host = time.perf_counter() - start
        device = host
        if self.cuda:
            end.record()
            end.synchronize()
            device = begin.elapsed_time(end) / 1e3
        return device / (calls * contestant.steps), host / (calls * contestant.steps)


def measure(everyone: list[Contestant], clock: Clock, seconds: float) -> dict[str, Times]:
    """Times of each contestant, by name. All have run once before."""
    times: dict[str, Times] = {}
    spent: dict[str, float] = {}
    for contestant in everyone:
        share = seconds / len(everyone)
        warm = [clock.sample(contestant, 1)]
        calls = calls_in_sample(contestant, warm[0][0])
        warm.append(clock.sample(contestant, calls))
        mine = times[contestant.name] = Times(calls_in_sample(contestant, min(step for step, _ in warm)))
        spent[contestant.name] = 0.0
        # Too slow to be asked a third time. Once would not do: the machine may have been busy.
        if min(max(each) for each in warm) * contestant.steps > share:
            for each in warm:
                mine.add(*each, clock.cuda)
            spent[contestant.name] = seconds
    active = [c for c in everyone if spent[c.name] == 0]
    gc.disable()
    while active:
        for contestant in active:
            start = time.perf_counter()
            mine = times[contestant.name]
            mine.add(*clock.sample(contestant, mine.calls), clock.cuda)
            spent[contestant.name] += time.perf_counter() - start
        # Who has all samples leaves the rest of the time to the others.
        open_ = [c.name for c in everyone if len(times[c.name].device) < ROUNDS]
        share = (seconds - sum(spent[name] for name in times if name not in open_)) / max(1, len(open_))
        active = [c for c in active if c.name in open_ and spent[c.name] < share]
    gc.enable()
    return times


def calls_in_sample(contestant: Contestant, step: float) -> int:
    return max(1, min(MOST_CALLS, round(SAMPLE / (step * contestant.steps))))

"""Whether a contestant of benchmarks/step.py computes the step: against the float64 reference, before it is timed.

A float32 tensor is right if it is off by no more than twice what the float32 reference is, plus 2 units in the last
place of its largest value. At most 16 images, the first and the last among them, are compared: all are computed alike.
"""

import time
from dataclasses import dataclass

import torch
from contestants import Contestant, Problem, Set
from torch import Tensor

from classmodels.ops.step import COEFFICIENTS, reference

MOST_IMAGES = 16
ULPS = 2


@dataclass(frozen=True)
class Verdict:
    right: bool
    seconds: float  # that this first run took; for compiled code that is compiling, above all
    worst: float  # error, in units of what is allowed; of the worst of x, m and v


def check(p: Problem, contestant: Contestant, s: Set) -> Verdict:
    """Runs the contestant once on `s` and compares."""
    x, g, m, v, out = s.images
    target = out if p.case.tv and not contestant.plain else x
    picked = torch.linspace(0, p.case.batch - 1, min(p.case.batch, MOST_IMAGES)).round().long().to(x.device)
    before = [each[picked] for each in (x, g, m, v)]
    if target is out:
        out.fill_(float("nan"))
    p.failed.zero_()
    start = time.perf_counter()
    contestant.run(s)
    if x.is_cuda:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    found = [each[picked].double() for each in (target, m, v)]
    exact, single = (
        expected(p, [each.to(dtype) for each in before], contestant.plain) for dtype in (torch.float64, torch.float32)
    )
    worst = max(_error(f, e, r) for f, e, r in zip(found, exact, single, strict=True))
    return Verdict(worst <= 1 and not p.failed.any().item(), seconds, worst)


def expected(p: Problem, before: list[Tensor], plain: bool) -> list[Tensor]:
    x, g, m, v = before
    row, box = dict(p.row), {"x0": p.x0, "low": p.low, "high": p.high}
    if plain:
        row |= {"l2": 0.0, "l1": 0.0}
        if p.case.method == "sgd":
            row["m_correct"] = 1.0
        box |= {"low": torch.full_like(p.low, -torch.inf), "high": torch.full_like(p.high, torch.inf)}
    options = {name: values.to(x.dtype) for name, values in box.items()}
    failed = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    c = torch.tensor([[row[name] for name in COEFFICIENTS]], dtype=x.dtype, device=x.device)
    m, v = m.clone(), v.clone()
    norm, tv = ("none", False) if plain else ("rms", p.case.tv)
    moved = reference(x, g, m, v if p.case.method == "adam" else None, failed, c, norm=norm, tv=tv, **options)
    return [moved, m, v]


def _error(found: Tensor, exact: Tensor, single: Tensor) -> float:
    largest = exact.abs().max().float()
    ulp = torch.nextafter(largest, largest.new_tensor(torch.inf)) - largest
    allowed = 2 * (single.double() - exact).abs().max() + ULPS * ulp
    error = ((found - exact).abs().max() / allowed).item()
    return error if error == error else float("inf")

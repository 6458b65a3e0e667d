"""Who takes part in benchmarks/step.py: the same step of the ascent, written in several ways, and two yardsticks.

Every formulation gets all it may prepare outside the loop: buffers, views in memory order, lists of images, the
penalties' image and the box spelled out for one image. What each leaves out stands in its note.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from classmodels.ops import extension
from classmodels.ops.step import ADAM_EPSILON, COEFFICIENTS, NORM_FLOOR, TV_EPSILON, coefficients, step, workspace

SHAPE = (3, 224, 224)
ELEMENTS = 3 * 224 * 224
BETAS = (0.9, 0.999)
STEP = 5
RATE = 1e-3  # small, so that x stays the random image it was through all repetitions
VARIANTS_AT = 32

T = TypeVar("T")


class Streams(NamedTuple, Generic[T]):
    x: T
    g: T
    m: T
    v: T
    out: T


@dataclass(frozen=True)
class Case:
    """One configuration of the benchmark."""

    batch: int
    layout: str  # contiguous or channels_last
    method: str  # adam or sgd
    tv: bool
    device: torch.device

    @property
    def elements(self) -> int:
        return self.batch * ELEMENTS

    @property
    def bytes(self) -> int:
        """What a step must move: it reads x, g, m (and v), and writes x or out, m (and v)."""
        return self.elements * (28 if self.method == "adam" else 20)

    def __str__(self) -> str:
        return f"{self.method}, B = {self.batch}, {self.layout}, {'with' if self.tv else 'without'} TV"


class Set:
    """One independent set of the tensors of a step."""

    def __init__(self, images: Streams[Tensor]) -> None:
        self.images = images
        self.rows = Streams(*(rows(each) for each in images))
        self.each = Streams(*(list(each.unbind()) for each in self.rows))


def rows(images: Tensor) -> Tensor:
    """[N, C, H, W] as [N, planes, rows, length] in memory order: itself, or [N, 1, H, W * C] if channels_last."""
    if images.is_contiguous():
        return images
    n, c, h, w = images.shape
    return images.permute(0, 2, 3, 1).view(n, 1, h, w * c)


def make_sets(case: Case, count: int) -> list[Set]:
    """`count` sets of equal values at different addresses, for cases that differ in method and TV only."""
    torch.manual_seed(0)
    form = torch.channels_last if case.layout == "channels_last" else torch.contiguous_format
    shape = (case.batch, *SHAPE)
    x, g, m, v, out = (torch.empty(shape, device=case.device, memory_format=form).normal_() for _ in range(5))
    g.mul_(torch.linspace(0.5, 2, case.batch, device=case.device).view(-1, 1, 1, 1))  # a norm of its own for each image
    m.mul_(0.1)
    v.square_().add_(0.5)
    first = Streams(x, g, m, v, out)
    return [Set(first if i == 0 else Streams(*(each.clone() for each in first))) for i in range(count)]


class Problem:
    """What all sets of a case share: coefficients, box, flags and scratch."""

    def __init__(self, case: Case) -> None:
        self.case = case
        device = case.device
        l2, l1, tv = 0.02, 0.05, 0.1 if case.tv else 0.0
        row = coefficients(STEP, lr=RATE, momentum=BETAS[0], beta2=BETAS[1], l2=l2, l1=l1, tv=tv)
        self.row = dict(zip(COEFFICIENTS, row, strict=True))
        self.coefficients = torch.tensor([row], device=device)
        self.x0, self.low, self.high = (
            torch.tensor(values, device=device) for values in ((0.1, 0.0, -0.1), (-2.1, -2.0, -1.8), (2.2, 2.4, 2.6))
        )
        form = torch.channels_last if case.layout == "channels_last" else torch.contiguous_format
        one_image = (
            values.view(1, -1, 1, 1).expand(1, *SHAPE).contiguous(memory_format=form)
            for values in (self.x0, self.low, self.high)
        )
        self.image_x0, self.image_low, self.image_high = (rows(image) for image in one_image)
        self.apart = SHAPE[0] if case.layout == "channels_last" else 1
        self.failed = torch.zeros(case.batch, dtype=torch.bool, device=device)
        self.partial = workspace(self.failed.view(-1, 1, 1, 1).expand(-1, *SHAPE))
        shape = (case.batch, *self.image_x0.shape[1:])
        self.buffers = [torch.empty(shape, device=device) for _ in range(3 if case.tv else 2)]
        self.fused_step = torch.tensor(float(STEP), device=device)


@dataclass(frozen=True)
class Contestant:
    name: str
    run: Callable[[Set], object]
    bytes: int  # what it must move
    temporaries: int = 0  # tensors of the batch's size it holds beside sets and buffers at its peak
    plain: bool = False  # only the method's update of m, v and x
    yardstick: bool = False
    steps: int = 1  # that one call of `run` takes
    note: str = ""


def op(p: Problem, s: Set, backend: str) -> None:
    """The step as the ascent calls it."""
    x, g, m, v, out = s.images
    v_or_none, out_or_none = v if p.case.method == "adam" else None, out if p.case.tv else None
    step(
        x, g, m, v_or_none, p.failed, p.coefficients,
        norm="rms", x0=p.x0, low=p.low, high=p.high, out=out_or_none, partial=p.partial, backend=backend,
    )  # fmt: skip


def variant(p: Problem, s: Set, name: str) -> None:
    assert extension.compiled is not None
    extension.compiled.force_variant(name)
    op(p, s, "cpp")
    extension.compiled.force_variant()


def scale_gradient(p: Problem, s: Set, size: Tensor, d: Tensor) -> None:
    size = size / ELEMENTS**0.5
    p.failed |= ~torch.isfinite(size).view(-1)
    torch.mul(s.rows.g, size.clamp_min_(NORM_FLOOR).reciprocal_(), out=d)


def tv_pull(p: Problem, s: Set) -> Tensor:
    """-grad TV(x), in place in the buffers."""
    x, a = s.rows.x, p.apart
    dx, dy, pull = p.buffers
    torch.sub(x[..., a:], x[..., :-a], out=dx[..., :-a])
    torch.sub(x[..., 1:, :], x[..., :-1, :], out=dy[..., :-1, :])
    dx[..., -a:].zero_()
    dy[..., -1, :].zero_()
    inverse = torch.mul(dx, dx, out=pull).addcmul_(dy, dy).add_(TV_EPSILON**2).rsqrt_()
    dx.mul_(inverse)
    dy.mul_(inverse)
    torch.add(dx, dy, out=pull)
    pull[..., a:].sub_(dx[..., :-a])
    pull[..., 1:, :].sub_(dy[..., :-1, :])
    return pull


def in_place(p: Problem, s: Set) -> None:
    """No tensor of the batch's size is allocated, and operations are joined where PyTorch has one for two."""
    x, g, m, v, out = s.rows
    c, (d, t) = p.row, p.buffers[:2]
    scale_gradient(p, s, torch.linalg.vector_norm(g, dim=(1, 2, 3), keepdim=True), d)
    m.lerp_(d, c["m_add"])
    if p.case.method == "adam":
        v.mul_(c["v_keep"]).addcmul_(d, d, value=c["v_add"])
    # z = x + lr (direction - 2 l2 (x - x0) - tv grad TV(x)), the pull to x0 as a linear interpolation.
    z = out if p.case.tv else x
    torch.lerp(x, p.image_x0, 2 * c["lr"] * c["l2"], out=z)
    if p.case.tv:
        z.add_(tv_pull(p, s), alpha=c["lr"] * c["tv"])
    if p.case.method == "adam":
        root = c["v_correct"] ** 0.5
        torch.sqrt(v, out=t).add_(ADAM_EPSILON / root)
        z.addcdiv_(m, t, value=c["lr"] * c["m_correct"] / root)
    else:
        z.add_(m, alpha=c["lr"] * c["m_correct"])
    # Soft thresholding: an offset within the threshold is taken away whole.
    threshold = c["lr"] * c["l1"]
    z.sub_(torch.sub(z, p.image_x0, out=d).clamp_(-threshold, threshold))
    z.clamp_(p.image_low, p.image_high)


def foreach(p: Problem, s: Set) -> None:
    """As `in_place`, with multi-tensor operations over the list of images where there are such."""
    c, n = p.row, p.case.batch
    xs, gs, ms, vs, outs = s.each
    ds, ts = (list(buffer.unbind()) for buffer in p.buffers[:2])
    x0s, lows, highs = ([image[0]] * n for image in (p.image_x0, p.image_low, p.image_high))
    scale_gradient(p, s, torch.stack(torch._foreach_norm(gs)).view(-1, 1, 1, 1), p.buffers[0])
    torch._foreach_lerp_(ms, ds, c["m_add"])
    if p.case.method == "adam":
        torch._foreach_mul_(vs, c["v_keep"])
        torch._foreach_addcmul_(vs, ds, ds, c["v_add"])
    zs = xs
    if p.case.tv:
        zs = outs
        torch._foreach_copy_(zs, xs)
    torch._foreach_lerp_(zs, x0s, 2 * c["lr"] * c["l2"])
    if p.case.tv:
        torch._foreach_add_(zs, list(tv_pull(p, s).unbind()), alpha=c["lr"] * c["tv"])
    if p.case.method == "adam":
        root = c["v_correct"] ** 0.5
        torch._foreach_copy_(ts, vs)
        torch._foreach_sqrt_(ts)
        torch._foreach_add_(ts, ADAM_EPSILON / root)
        torch._foreach_addcdiv_(zs, ms, ts, c["lr"] * c["m_correct"] / root)
    else:
        torch._foreach_add_(zs, ms, alpha=c["lr"] * c["m_correct"])
    threshold = c["lr"] * c["l1"]
    torch._foreach_copy_(ds, zs)
    torch._foreach_sub_(ds, x0s)
    torch._foreach_clamp_min_(ds, -threshold)
    torch._foreach_clamp_max_(ds, threshold)
    torch._foreach_sub_(zs, ds)
    torch._foreach_maximum_(zs, lows)
    torch._foreach_minimum_(zs, highs)


def compiled(p: Problem) -> Callable[[Set], None]:
    """The step for torch.compile: images in memory order, x0 and box as images, TV by padding, so that the compiler
    makes long vector loops of it. The coefficients are a tensor: numbers would be compiled in, and they change from
    step to step."""
    case, apart = p.case, p.apart

    def differences(x: Tensor) -> tuple[Tensor, Tensor]:
        return pad(x[..., apart:] - x[..., :-apart], (0, apart)), pad(x[..., 1:, :] - x[..., :-1, :], (0, 0, 0, 1))

    def pull(x: Tensor) -> Tensor:
        dx, dy = differences(x)
        inverse = torch.rsqrt(dx * dx + dy * dy + TV_EPSILON**2)
        px, py = dx * inverse, dy * inverse
        return px + py - pad(px[..., :-apart], (apart, 0)) - pad(py[..., :-1, :], (0, 0, 1, 0))

    def update(s: Streams[Tensor], failed: Tensor, coefficients: Tensor, x0: Tensor, low: Tensor, high: Tensor) -> None:
        x, g, m, v, out = s
        c = dict(zip(COEFFICIENTS, coefficients.view(-1).unbind(), strict=True))
        size = ((g * g).sum((1, 2, 3), keepdim=True) / ELEMENTS).sqrt()
        failed |= ~torch.isfinite(size).view(-1)
        g = g * (1 / size.clamp_min(NORM_FLOOR))
        new_m = c["m_keep"] * m + c["m_add"] * g
        direction = new_m * c["m_correct"]
        if case.method == "adam":
            new_v = c["v_keep"] * v + c["v_add"] * (g * g)
            direction = direction / ((new_v * c["v_correct"]).sqrt() + ADAM_EPSILON)
            v.copy_(new_v)
        m.copy_(new_m)
        direction = direction - 2 * c["l2"] * (x - x0)
        if case.tv:
            direction = direction + c["tv"] * pull(x)
        z = x + c["lr"] * direction
        threshold = c["lr"] * c["l1"]
        z = z - torch.minimum(torch.maximum(z - x0, -threshold), threshold)
        (out if case.tv else x).copy_(torch.minimum(torch.maximum(z, low), high))

    torch._dynamo.reset()
    kernel = torch.compile(update, fullgraph=True, dynamic=False)
    return lambda s: kernel(s.rows, p.failed, p.coefficients, p.image_x0, p.image_low, p.image_high)


def fused(p: Problem, s: Set) -> None:
    """torch.optim's own, fused: the moments and the move. A negative rate ascends; `maximize` would keep -m."""
    x, g, m, v, _ = s.rows
    if p.case.method == "adam":
        torch._fused_adam_(
            [x], [g], [m], [v], [], [p.fused_step], lr=-RATE, beta1=BETAS[0], beta2=BETAS[1],
            weight_decay=0.0, eps=ADAM_EPSILON, amsgrad=False, maximize=False,
        )  # fmt: skip
    else:
        torch._fused_sgd_(
            [x], [g], [m], lr=-RATE, momentum=BETAS[0], dampening=BETAS[0],
            weight_decay=0.0, nesterov=False, maximize=False, is_first_step=False,
        )  # fmt: skip


def replay(p: Problem, sets: list[Set]) -> Callable[[Set], None]:
    """A CUDA graph with one step on every set; a replay takes them all."""
    op(p, sets[0], "cuda")
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for each in sets:
            op(p, each, "cuda")
    return lambda _: graph.replay()


class Lazy:
    """Made at its first call, so that what that takes, or why it fails, is the contestant's own."""

    def __init__(self, make: Callable[[], Callable[[Set], None]]) -> None:
        self.make = make
        self.run: Callable[[Set], None] | None = None

    def __call__(self, s: Set) -> None:
        if self.run is None:
            self.run = self.make()
        self.run(s)


FLAG_ONLY = "sets the flag of an image whose gradient is not finite, but does not keep the image as it was"


def contestants(p: Problem, sets: list[Set]) -> list[Contestant]:
    case, count, moved = p.case, p.case.elements, p.case.bytes
    ours = "cuda" if case.device.type == "cuda" else "cpp"
    less = "no norm, L2, L1, TV, box or flag" + ("" if case.method == "adam" else ", no bias correction")
    everyone = [
        Contestant("copy", lambda s: s.images.out.copy_(s.images.x), 8 * count, yardstick=True),
        Contestant("triad", lambda s: torch.add(s.images.x, s.images.g, alpha=0.5, out=s.images.out), 12 * count,
                   yardstick=True),
        Contestant(ours, lambda s: op(p, s, ours), moved),
        Contestant("torch", lambda s: op(p, s, "torch"), moved, temporaries=9 if case.tv else 7),
        Contestant("in place", partial(in_place, p), moved, note=FLAG_ONLY),
        Contestant("foreach", partial(foreach, p), moved, note=FLAG_ONLY),
        Contestant("compile", Lazy(lambda: compiled(p)), moved, temporaries=1, note=FLAG_ONLY),
        Contestant("fused", partial(fused, p), moved, plain=True, note=f"torch.optim, fused: {less}"),
    ]  # fmt: skip
    if ours == "cuda":
        graph = Lazy(lambda: replay(p, sets))
        everyone.insert(3, Contestant("cuda graph", graph, moved, steps=len(sets), note="replayed, one step a set"))
    elif case.batch == VARIANTS_AT and extension.compiled is not None:
        others = [name for name in extension.compiled.variants() if name != extension.compiled.variant()]
        everyone += [Contestant(f"cpp {name}", partial(variant, p, name=name), moved) for name in others]
    return everyone

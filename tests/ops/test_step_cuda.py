"""What only a GPU can show of the compiled step: graphs, streams, launches, sizes beyond 2^31 elements."""

import pytest
import torch

from classmodels.ops import extension
from classmodels.ops.step import coefficients, step, workspace

pytestmark = [
    pytest.mark.extension,
    pytest.mark.skipif(
        not (torch.cuda.is_available() and extension.has_cuda()), reason="needs a GPU and an extension built with CUDA"
    ),
]

ROWS = [coefficients(t, lr=0.3 / t, momentum=0.8, beta2=0.99, l2=0.1, l1=0.05, tv=0.2) for t in range(1, 7)]


class Batch:
    """A batch whose step reads its row of coefficients from device memory."""

    def __init__(self, shape=(2, 3, 65, 63), tv=True):
        torch.manual_seed(0)
        self.x, self.g = (torch.randn(shape, device="cuda") for _ in range(2))
        self.m, self.v = torch.zeros_like(self.x), torch.zeros_like(self.x)
        self.spare = torch.empty_like(self.x) if tv else None
        self.failed = torch.zeros(shape[0], dtype=torch.bool, device="cuda")
        self.row = torch.tensor(ROWS[:1], device="cuda")
        self.channels = [torch.full((shape[1],), value, device="cuda") for value in (0.0, -1.0, 1.0)]
        self.partial = workspace(self.x)

    def step(self):
        x0, low, high = self.channels
        moved = step(
            self.x, self.g, self.m, self.v, self.failed, self.row, norm="rms",
            x0=x0, low=low, high=high, out=self.spare, partial=self.partial, backend="cuda",
        )  # fmt: skip
        if self.spare is not None:
            self.x, self.spare = moved, self.x

    def climb(self, advance):
        for t, row in enumerate(ROWS):
            self.row.copy_(torch.tensor([row]))
            self.g.copy_(torch.sin(self.x * (t + 1)))
            advance(t)
        torch.cuda.synchronize()
        return self.x.clone()


@pytest.mark.parametrize("tv", [False, True])
def test_replaying_a_graph_is_stepping(tv):
    eager = Batch(tv=tv)
    expected = eager.climb(lambda t: eager.step())
    batch = Batch(tv=tv)
    first, graphs = batch.x, []
    kept = [tensor.clone() for tensor in (batch.x, batch.m, batch.v)]
    for _ in range(2):  # with a second buffer two steps, to and fro, are one round
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            batch.step()
        graphs.append(graph)
    for tensor, before in zip((batch.x, batch.m, batch.v), kept, strict=True):
        tensor.copy_(before)
    assert batch.x is first

    def replay(t):
        graphs[t % 2].replay()
        if tv:
            batch.x, batch.spare = batch.spare, batch.x

    assert torch.equal(batch.climb(replay), expected)


def test_the_step_runs_on_the_current_stream():
    batch = Batch()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        batch.g.fill_(0)
        torch.cuda._sleep(50_000_000)
        batch.g.copy_(torch.ones_like(batch.g))
        batch.step()
    stream.synchronize()
    other = Batch()
    other.g.fill_(1)
    other.step()
    assert torch.equal(batch.x, other.x)


@pytest.mark.parametrize("tv", [False, True])
def test_a_step_is_at_most_three_launches(tv):
    batch = Batch((1, 3, 224, 224), tv=tv)
    batch.step()
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        batch.step()
        torch.cuda.synchronize()
    kernels = [event for event in profile.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    assert 0 < len(kernels) <= 3, [event.name for event in kernels]


def test_nothing_is_allocated_on_the_device():
    batch = Batch()
    batch.step()
    before = torch.cuda.memory_stats()["allocation.all.allocated"]
    batch.step()
    assert torch.cuda.memory_stats()["allocation.all.allocated"] == before


@pytest.mark.parametrize("shape", [(2, 1, 33_000, 33_000), (1, 1, 47_000, 47_000), (16_000, 3, 224, 224)])
def test_sizes_beyond_two_to_the_31_elements_are_right(shape):
    elements = torch.Size(shape).numel()
    assert elements > 2**31
    if torch.cuda.mem_get_info()[0] < 16 * elements:
        pytest.skip("needs more memory than this GPU has free")
    x = torch.zeros(shape, device="cuda")
    g = torch.zeros(shape, device="cuda", dtype=torch.bfloat16)
    x.view(-1)[-5:], g.view(-1)[-3:] = 0.5, 1.0
    failed, out = torch.zeros(shape[0], dtype=torch.bool, device="cuda"), torch.full_like(x, 9)
    x0, low, high = (torch.full((shape[1],), value, device="cuda") for value in (0.0, -1.0, 1.0))
    row = torch.tensor([coefficients(1, lr=0.25)], device="cuda")
    step(x, g, None, None, failed, row, norm="none", x0=x0, low=low, high=high, partial=workspace(x), backend="cuda")
    assert x.view(-1)[-6:].tolist() == [0.0, 0.5, 0.5, 0.75, 0.75, 0.75]
    assert x.view(-1)[:1000].abs().max() == 0
    step(
        x, g, None, None, failed, row, norm="none",
        x0=x0, low=low, high=high, out=out, partial=workspace(x), backend="cuda",
    )  # fmt: skip
    assert out.view(-1)[-6:].tolist() == [0.0, 0.5, 0.5, 1.0, 1.0, 1.0]
    assert out.max() == 1

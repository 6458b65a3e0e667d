"""The compiled step does what the reference says, whatever the shape, layout and options; and breaks nothing."""

import math
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.ops.agreement import LAYOUTS, assert_agrees

from classmodels.ops import extension
from classmodels.ops.step import NORMS, coefficients, step, workspace

pytestmark = pytest.mark.extension

GRADIENTS = (torch.float32, torch.bfloat16, torch.float16)
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() and extension.has_cuda() else [])]
VARIANTS = extension.compiled.variants() if extension.compiled else []


class Case:
    """One step's arguments in float32; `run` takes it on a backend and returns image, moments and flags."""

    def __init__(self, shape, layout="contiguous", states=2, tv=True, norm="rms", gradient=torch.float32, seed=0):
        generator = torch.Generator().manual_seed(seed)

        def draw(scale=1.0):
            return (torch.randn(shape, generator=generator) * scale).contiguous(memory_format=LAYOUTS[layout])

        self.x, self.g, self.m, self.v = draw(), draw(3).to(gradient), draw(), draw().abs()
        self.failed = torch.zeros(shape[0], dtype=torch.bool)
        self.states, self.tv, self.norm = states, tv, norm
        self.settings = {"lr": 0.3, "momentum": 0.8, "beta2": 0.99, "l2": 0.1, "l1": 0.2, "tv": 0.3}
        self.x0 = torch.randn(shape[1], generator=generator) * 0.1
        self.low, self.high = torch.full((shape[1],), -1.0), torch.full((shape[1],), 1.2)
        self.t = 3

    def rows(self):
        return [coefficients(self.t, **self.settings)]

    def run(self, backend, dtype=torch.float32, device="cpu"):
        def copy(tensor):
            return tensor.to(device, dtype if tensor.is_floating_point() else None, copy=True)

        x, m, v, failed = copy(self.x), copy(self.m), copy(self.v), copy(self.failed)
        g = self.g.to(device) if backend != "torch" else copy(self.g)
        spare = torch.full_like(x, math.nan) if self.tv else None
        moved = step(
            x,
            g,
            m if self.states > 0 else None,
            v if self.states > 1 else None,
            failed,
            torch.tensor(self.rows(), dtype=torch.float64).to(device, dtype),
            norm=self.norm,
            x0=copy(self.x0),
            low=copy(self.low),
            high=copy(self.high),
            out=spare,
            partial=workspace(x),
            backend=backend,
        )
        assert moved is (spare if self.tv else x)
        if self.tv:
            same = torch.equal(x.nan_to_num(9), copy(self.x).nan_to_num(9))
            assert same, "with a second buffer the old image stays"
        return moved.cpu(), m.cpu(), v.cpu(), failed.cpu()


def assert_right(case, device="cpu"):
    exact, narrow = case.run("torch", torch.float64), case.run("torch")
    found = case.run("cuda" if device == "cuda" else "cpp", device=device)
    for name, one, two, three in zip(("x", "m", "v"), found, narrow, exact, strict=False):
        assert_agrees(one, two, three, name)
    assert torch.equal(found[3], exact[3])
    return found


@pytest.fixture(params=VARIANTS)
def variant(request):
    extension.compiled.force_variant(request.param)
    yield request.param
    extension.compiled.force_variant()


SIZES = st.integers(1, 40)
SHAPES = st.tuples(st.integers(1, 5), st.sampled_from([1, 3, 3, 2, 5]), SIZES, SIZES)


@pytest.mark.parametrize("device", DEVICES)
@given(
    shape=SHAPES,
    layout=st.sampled_from([*LAYOUTS]),
    states=st.integers(0, 2),
    tv=st.booleans(),
    norm=st.sampled_from(NORMS),
    gradient=st.sampled_from(GRADIENTS),
    which=st.sampled_from(VARIANTS or ["none"]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=1500, deadline=None)
def test_any_step_agrees_with_float64(device, shape, layout, states, tv, norm, gradient, which, seed):
    extension.compiled.force_variant(which)
    try:
        assert_right(Case(shape, layout, states, tv, norm, gradient, seed), device)
    finally:
        extension.compiled.force_variant()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "shape",
    [
        (1, 3, 224, 224),
        (9, 3, 33, 31),
        (2, 1, 3, 5000),
        (1, 4, 5000, 2),
        (3, 1000, 2, 3),
        (2, 3, 1, 1),
        (1, 1, 1, 9000),
    ],
)
def test_shapes_beyond_a_tile_a_band_or_a_span_agree(device, layout, shape, variant):
    for states, tv in product(range(3), (False, True)):
        assert_right(Case(shape, layout, states, tv), device)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("tv", [False, True])
def test_images_in_a_batch_do_not_know_of_each_other(device, layout, tv):
    together = Case((7, 3, 19, 23), layout, tv=tv)
    backend = "cuda" if device == "cuda" else "cpp"
    whole = together.run(backend, device=device)
    for n in range(7):
        alone = Case((1, 3, 19, 23), layout, tv=tv)
        alone.x, alone.g, alone.m, alone.v = (t[n : n + 1] for t in (together.x, together.g, together.m, together.v))
        alone.x0 = together.x0
        for one, all_ in zip(alone.run(backend, device=device), whole, strict=True):
            assert torch.equal(one[0], all_[n])


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_number_of_threads_changes_no_bit_of_one_image(threads):
    case = Case((1, 3, 150, 130))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = case.run("cpp")
        torch.set_num_threads(threads)
        assert all(torch.equal(a, b) for a, b in zip(alone, case.run("cpp"), strict=True))
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("tv", [False, True])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_non_finite_gradient_fails_its_image_and_no_other(device, norm, tv, bad, variant):
    case = Case((3, 3, 21, 17), norm=norm, tv=tv)
    backend = "cuda" if device == "cuda" else "cpp"
    clean = case.run(backend, device=device)
    case.g[1, 2, 20, 16] = bad
    x, m, v, failed = case.run(backend, device=device)
    assert failed.tolist() == [False, True, False]
    for now, before in ((x, case.x), (m, case.m), (v, case.v)):
        assert torch.equal(now[1], before[1])
    assert torch.equal(x[[0, 2]], clean[0][[0, 2]])


@pytest.mark.parametrize("device", DEVICES)
def test_an_image_that_failed_stays_failed_and_still(device):
    case = Case((3, 3, 9, 8))
    case.failed[2] = True
    x, _, _, failed = case.run("cuda" if device == "cuda" else "cpp", device=device)
    assert failed.tolist() == [False, False, True]
    assert torch.equal(x[2], case.x[2])
    assert not torch.equal(x[0], case.x[0])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("norm", ["rms", "l2"])
@pytest.mark.parametrize("power", [-20, 60, 100, 122])
@pytest.mark.parametrize("tv", [False, True])
def test_the_size_of_a_gradient_does_not_matter_once_it_is_normalised(device, norm, power, tv, variant):
    case = Case((2, 3, 30, 40), norm=norm, tv=tv)
    expected = assert_right(case, device)
    case.g = case.g * 2.0**power  # changes no digit
    for found, same in zip(assert_right(case, device), expected, strict=True):
        assert torch.equal(found, same)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("x0", [0.0, -1.7, 0.3])
def test_l1_leaves_exactly_x0(device, x0, variant):
    case = Case((2, 3, 15, 14), tv=False, states=0, norm="none")
    case.x0[:] = x0
    case.x = torch.randn(2, 3, 15, 14, generator=torch.Generator().manual_seed(1)) * 0.05 + x0
    case.low[:], case.high[:] = -3, 3
    case.g *= 0.01
    case.settings |= {"l1": 0.2, "l2": 0.0}
    exact = case.run("torch", torch.float64)[0]
    found = case.run("cuda" if device == "cuda" else "cpp", device=device)[0]
    away = (case.x.double() + 0.3 * case.g.double() - case.x0.double().view(1, 3, 1, 1)).abs()
    sure = (away - 0.06).abs() > 1e-6
    assert ((found == case.x0.view(1, 3, 1, 1)) == (exact == case.x0.double().view(1, 3, 1, 1)))[sure].all()
    assert (found == case.x0.view(1, 3, 1, 1)).any()
    assert (found != case.x0.view(1, 3, 1, 1)).any()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("value", [-0.0, 1e-42, -1e-40, 3e38, math.nan])
@pytest.mark.parametrize("norm", NORMS)
def test_odd_numbers_in_the_image_and_the_gradient_are_treated_as_in_float64(device, value, norm, variant):
    case = Case((1, 3, 6, 7), norm=norm, tv=True)
    case.x[0, 1, 2, 3] = value if abs(value) < 1 or math.isnan(value) else 1e18
    if not math.isnan(value):
        case.g[0, 0, 4, 4] = value
        assert_right(case, device)
    else:
        # A NaN in the image stays there and where total variation carries it; it never hides behind the box.
        exact = case.run("torch", torch.float64)[0]
        found = case.run("cuda" if device == "cuda" else "cpp", device=device)[0]
        assert torch.isnan(found[0, 1, 2, 3])
        assert torch.equal(torch.isnan(found), torch.isnan(exact))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_every_number_of_half_precision_is_read_right(device, dtype, variant):
    # All 65,536 bit patterns: the step is x + g, so the gradient shows itself.
    bits = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16)
    g = bits.view(dtype)
    g = torch.where(torch.isfinite(g), g, torch.zeros((), dtype=dtype))
    case = Case((1, 1, 256, 256), states=0, tv=False, norm="none")
    case.x, case.g, case.x0[:] = torch.zeros(1, 1, 256, 256), g.view(1, 1, 256, 256), 0
    case.low[:], case.high[:] = -math.inf, math.inf
    case.settings = {"lr": 1.0}
    found = case.run("cuda" if device == "cuda" else "cpp", device=device)[0]
    assert torch.equal(found, case.g.float())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("states", [0, 1, 2])
@pytest.mark.parametrize("tv", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_opcheck_passes(device, states, tv, layout):
    case = Case((2, 3, 5, 6), layout, states, tv)
    row = torch.tensor(case.rows(), dtype=torch.float32)
    tensors = [case.x, case.g, case.m if states else None, case.v if states > 1 else None, case.failed]
    tensors += [workspace(case.x), row, case.x0, case.low, case.high]
    moved = [None if tensor is None else tensor.to(device) for tensor in tensors]
    torch.library.opcheck(torch.ops.classmodels.step_.default, (*moved, 1, torch.empty_like(moved[0]) if tv else None))


@pytest.mark.parametrize("tv", [False, True])
def test_nothing_is_allocated(tv):
    case = Case((4, 3, 40, 40), tv=tv)
    arguments = [case.x, case.g, case.m, case.v, case.failed, workspace(case.x), torch.tensor(case.rows())]
    arguments += [case.x0, case.low, case.high, 1, torch.empty_like(case.x) if tv else None]
    with torch.profiler.profile(profile_memory=True) as profile:
        torch.ops.classmodels.step_(*arguments)
    assert [event.key for event in profile.key_averages() if event.cpu_memory_usage > 0] == []


def test_autograd_notices_that_the_image_changed():
    case = Case((1, 3, 4, 4), tv=False)
    kept = torch.ones(1, 3, 4, 4, requires_grad=True)
    product_ = (kept * case.x).sum()
    x, row = case.x, torch.tensor(case.rows(), dtype=torch.float32)
    step(
        x, case.g, case.m, case.v, case.failed, row,
        norm="none", x0=case.x0, low=case.low, high=case.high, partial=workspace(x), backend="cpp",
    )  # fmt: skip
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product_.backward()


def test_a_compiled_function_may_hold_the_step():
    case = Case((2, 3, 8, 8), tv=False)

    @torch.compile(backend="aot_eager", fullgraph=True)
    def twice(x, g, m, v, failed, partial, row):
        for _ in range(2):
            torch.ops.classmodels.step_(x, g * 1.0, m, v, failed, partial, row, case.x0, case.low, case.high, 1, None)
        return x + 0

    def arguments():
        row = torch.tensor(case.rows(), dtype=torch.float32)
        return case.x.clone(), case.g, case.m.clone(), case.v.clone(), case.failed.clone(), workspace(case.x), row

    x, g, m, v, failed, partial, row = arguments()
    for _ in range(2):
        torch.ops.classmodels.step_(x, g, m, v, failed, partial, row, case.x0, case.low, case.high, 1, None)
    assert torch.equal(twice(*arguments()), x)


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 3, 0, 4), (2, 0, 4, 4)])
def test_nothing_to_do_is_no_error(shape):
    Case(shape, tv=False).run("cpp")


WRONG = {
    "x must be \\[N, C, H, W\\]": {"x": torch.zeros(3, 4, 4)},
    "x must be float32": {"x": torch.zeros(2, 3, 4, 4, dtype=torch.float64)},
    "x must be contiguous or channels_last": {"x": torch.zeros(2, 3, 4, 8)[..., ::2]},
    "g must have x's shape, found \\[2, 3, 4, 5\\]": {"g": torch.zeros(2, 3, 4, 5)},
    "g must be float32, bfloat16 or float16": {"g": torch.zeros(2, 3, 4, 4, dtype=torch.int32)},
    "g must lie in memory as x does": {"g": torch.zeros(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)},
    "m must be float32": {"m": torch.zeros(2, 3, 4, 4, dtype=torch.float16)},
    "v needs m": {"m": None},
    "failed must be \\[2\\]": {"failed": torch.zeros(3, dtype=torch.bool)},
    "failed has the wrong dtype": {"failed": torch.zeros(2, dtype=torch.uint8)},
    "partial must be \\[2, 1\\]": {"partial": torch.zeros(2, 2, dtype=torch.float64)},
    "partial must be float64": {"partial": torch.zeros(2, 1)},
    "coefficients must be \\[1 or N, 10\\]": {"coefficients": torch.zeros(3, 10)},
    "coefficients must be float32": {"coefficients": torch.zeros(1, 10, dtype=torch.float64)},
    "x0 must be \\[3\\]": {"x0": torch.zeros(1)},
    "low must be \\[3\\] and dense": {"low": torch.zeros(6)[::2]},
    "norm must be 0": {"norm": 7},
    "out must have x's shape": {"out": torch.zeros(1, 3, 4, 4)},
    "x must have at most 1024 channels": {
        name: torch.zeros(2, 1025, 1, 1) for name in ("x", "g", "m", "v")
    },
}  # fmt: skip


@pytest.mark.parametrize("message", WRONG)
def test_wrong_arguments_are_told(message):
    like = torch.zeros(2, 3, 4, 4)
    arguments = {"x": like.clone(), "g": like.clone(), "m": like.clone(), "v": like.clone()}
    arguments |= {"failed": torch.zeros(2, dtype=torch.bool), "partial": workspace(like)}
    arguments |= {"coefficients": torch.zeros(1, 10), "x0": torch.zeros(3), "low": torch.zeros(3)}
    arguments |= {"high": torch.zeros(3), "norm": 0, "out": None}
    with pytest.raises(RuntimeError, match=message):
        torch.ops.classmodels.step_(*(arguments | WRONG[message]).values())


def test_out_must_be_another_tensor_than_x():
    case = Case((1, 3, 4, 4))
    row = torch.tensor(case.rows(), dtype=torch.float32)
    with pytest.raises(RuntimeError, match="out must be another tensor than x"):
        torch.ops.classmodels.step_(
            case.x, case.g, None, None, case.failed, workspace(case.x), row, case.x0, case.low, case.high, 0, case.x
        )

"""The compiled filters do what the references say, whatever the shape, layout and options; and break nothing."""

import math
import mmap

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.ops.agreement import LAYOUTS
from tests.ops.filter_cases import Case, assert_blurred, assert_clipped
from tests.ops.guarded import Guarded

from classmodels.ops import extension
from classmodels.ops.filters import blurred, clip_small_contribution, clip_small_norm, gaussian_blur, workspace

pytestmark = pytest.mark.extension

GRADIENTS = (torch.float32, torch.bfloat16, torch.float16)
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() and extension.has_cuda() else [])]
VARIANTS = extension.compiled.variants() if extension.compiled else []


def blur(case, sigma, device="cpu"):
    x = case.x.to(device, copy=True)
    backend = "cuda" if device == "cuda" else "cpp"
    scratch = torch.full_like(x, math.nan)
    assert gaussian_blur(x, sigma, failed=case.failed.to(device), scratch=scratch, backend=backend) is x
    return x.cpu()


def clip(case, percentile, by_contribution, device="cpu", before=math.nan):
    """`before`: what an earlier clipping has left in the scratch."""
    x = case.x.to(device, copy=True)
    rest = {"x0": case.x0.to(device), "failed": case.failed.to(device), "worth": workspace(x).fill_(before)}
    rest["backend"] = "cuda" if device == "cuda" else "cpp"
    if by_contribution:
        assert clip_small_contribution(x, case.g.to(device), percentile, **rest) is x
    else:
        assert clip_small_norm(x, percentile, **rest) is x
    return x.cpu()


def filters(case, device="cpu"):
    """The case's images after each of the filters."""
    return blur(case, 1.1, device), clip(case, 35, False, device), clip(case, 35, True, device)


@pytest.fixture(params=VARIANTS)
def variant(request):
    extension.compiled.force_variant(request.param)
    yield request.param
    extension.compiled.force_variant()


SIZES = st.integers(1, 40)
MATRIX = {
    "shape": st.tuples(st.integers(1, 5), st.sampled_from([1, 3, 3, 2, 5]), SIZES, SIZES),
    "layout": st.sampled_from([*LAYOUTS]),
    "which": st.sampled_from(VARIANTS or ["none"]),
    "seed": st.integers(0, 1000),
}


@pytest.mark.parametrize("device", DEVICES)
@given(sigma=st.floats(0.1, 20), **MATRIX)
@settings(max_examples=500, deadline=None)
def test_any_blur_agrees_with_float64(device, sigma, shape, layout, which, seed):
    extension.compiled.force_variant(which)
    try:
        case = Case(shape, layout, seed=seed)
        assert_blurred(case, sigma, blur(case, sigma, device))
    finally:
        extension.compiled.force_variant()


@pytest.mark.parametrize("device", DEVICES)
@given(percentile=st.floats(0, 100), by=st.booleans(), gradient=st.sampled_from(GRADIENTS), **MATRIX)
@settings(max_examples=1000, deadline=None)
def test_any_clipping_agrees_with_float64(device, percentile, by, gradient, shape, layout, which, seed):
    extension.compiled.force_variant(which)
    try:
        case = Case(shape, layout, gradient, seed)
        assert_clipped(case, percentile, by, clip(case, percentile, by, device))
    finally:
        extension.compiled.force_variant()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "shape", [(1, 3, 224, 224), (9, 3, 33, 31), (2, 1, 3, 9000), (1, 4, 9000, 2), (2, 1500, 2, 3), (1, 5000, 1, 4)]
)
def test_shapes_beyond_a_buffer_a_tile_or_a_band_agree(device, layout, shape, variant):
    case = Case(shape, layout)
    for sigma in (1.0, 11.0, 50.0):
        assert_blurred(case, sigma, blur(case, sigma, device))
    for by in (False, True):
        assert_clipped(case, 30, by, clip(case, 30, by, device))


def test_a_radius_beyond_the_buffer_is_right(variant):
    case = Case((1, 1, 2, 9000))
    exact = blurred(case.x.double(), 900.0)
    torch.testing.assert_close(blur(case, 900.0).double(), exact, rtol=0, atol=2e-7)


@pytest.mark.parametrize("at_end", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("gradient", GRADIENTS)
def test_nothing_outside_of_the_tensors_is_touched(at_end, layout, gradient, variant):
    for shape in ((2, 3, 13, 11), (1, 1, 1, 1), (3, 2, 40, 1), (1, 3, 1, 700)):
        case, guarded = Case(shape, layout, gradient), Guarded(at_end)
        x, g, x0, failed = (guarded.copy(tensor) for tensor in (case.x, case.g, case.x0, case.failed))
        scratch, worth = guarded.copy(torch.zeros_like(x)), guarded.copy(workspace(x))
        gaussian_blur(x, 1.3, failed=failed, scratch=scratch, backend="cpp")
        rest = {"x0": x0, "failed": failed, "worth": worth, "backend": "cpp"}
        clip_small_norm(x, 30, **rest)
        clip_small_contribution(x, g, 30, **rest)
        guarded.assert_intact()


def reserved(*shape):
    """float32 zeros that take no memory until they are touched."""
    no_reserve = 0x4000  # mmap.MAP_NORESERVE, which Python knows since 3.13
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | no_reserve
    return torch.frombuffer(mmap.mmap(-1, 4 * math.prod(shape), flags=flags), dtype=torch.float32).view(shape)


def test_an_image_beyond_two_to_the_31st_element_is_filtered():
    shape = (2**21 + 3, 1, 32, 32)
    case = Case((1, 1, 32, 32))
    x, scratch, worth = reserved(*shape), reserved(*shape), reserved(shape[0], 1025)
    rest = {"failed": torch.ones(shape[0], dtype=torch.bool), "backend": "cpp"}
    rest["failed"][-1] = False
    x[-1] = case.x[0]
    gaussian_blur(x, 1.0, scratch=scratch, **rest)
    assert torch.equal(x[-1:], blur(case, 1.0))
    x[-1] = case.x[0]
    clip_small_norm(x, 30, x0=case.x0, worth=worth, **rest)
    assert torch.equal(x[-1:], clip(case, 30, False))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_constant_stays_and_an_impulse_becomes_the_kernel(device, layout, variant):
    case = Case((1, 2, 21, 25), layout)
    case.x[0, 0] = 0.7
    case.x[0, 1] = 0
    case.x[0, 1, 10, 12] = 1
    found = blur(case, 1.5, device).double()
    torch.testing.assert_close(found[0, 0], torch.full((21, 25), 0.7, dtype=torch.float64), rtol=5e-7, atol=0)
    rows, columns = (torch.arange(-side, side + 1, dtype=torch.float64) for side in (10, 12))
    bell = [torch.where(offset.abs() <= 6, torch.exp(-(offset**2) / 4.5), 0) for offset in (rows, columns)]
    kernel = torch.outer(bell[0] / bell[0].sum(), bell[1] / bell[1].sum())
    torch.testing.assert_close(found[0, 1], kernel, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_images_in_a_batch_and_threads_do_not_matter(device, layout, threads):
    together = Case((7, 3, 40, 37), layout)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        whole = filters(together, device)
        torch.set_num_threads(threads)
        for n in range(7):
            alone = Case((1, 3, 40, 37), layout)
            alone.x, alone.g, alone.x0 = together.x[n : n + 1], together.g[n : n + 1], together.x0
            for one, all_ in zip(filters(alone, device), whole, strict=True):
                assert torch.equal(one[0], all_[n])
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_failed_image_stays_and_its_neighbours_do_not_notice(device, layout, variant):
    case = Case((4, 3, 21, 17), layout)
    clean = filters(case, device)
    case.failed[[0, 2]] = True
    case.x[2, 1, 3, 4], case.g[0] = math.nan, math.inf
    again = [clip(case, 35, by_contribution, device, before=0) for by_contribution in (False, True)]
    for found, unhurt in zip((*filters(case, device), *again), (*clean, *clean[1:]), strict=True):
        assert torch.equal(found[[0, 2]].nan_to_num(9), case.x[[0, 2]].nan_to_num(9))
        assert torch.equal(found[[1, 3]], unhurt[[1, 3]])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("scale", [1e-30, 1e-42, 1e30])
def test_worths_whose_squares_are_no_float_are_ranked(device, scale, variant):
    case = Case((2, 3, 13, 11))
    case.x0[:] = 0
    case.x *= scale
    if scale > 1e-40:
        assert_clipped(case, 40, False, clip(case, 40, False, device))
    else:  # denormals: many pixels are worth the same
        assert (clip(case, 40, False, device) == 0).all(dim=1).sum(dim=(1, 2)).min() >= int(13 * 11 * 0.4)


@pytest.mark.parametrize("device", DEVICES)
def test_pixels_worth_the_same_fall_together(device, variant):
    case = Case((1, 1, 10, 10))
    case.x0[:] = 0
    case.x[:] = torch.arange(10.0).view(10, 1) + 1
    assert clip(case, 35, False, device)[0, 0, :, 0].tolist() == [0, 0, 0, 0, 5, 6, 7, 8, 9, 10]


@pytest.mark.parametrize("device", DEVICES)
def test_a_pixel_whose_channels_cancel_is_ranked_by_what_is_left(device, variant):
    # In float32 a running sum loses what is left beside 10,000: half of the pixels would be worth nothing.
    case = Case((1, 3, 1, 100))
    order = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    case.x0[:] = 0
    case.x[0, :, 0] = torch.stack([torch.full((100,), 1e4), 1e-5 * (order + 1), torch.full((100,), 1e4)])
    case.g[0, :, 0] = torch.tensor([1.0, 1.0, -1.0]).view(3, 1)
    found = clip(case, 30, True, device)
    assert torch.equal((found == 0).all(dim=1).view(-1), order < 30)


@pytest.mark.parametrize("device", DEVICES)
def test_a_nan_spreads_with_the_blur_and_is_never_clipped(device, variant):
    case = Case((1, 1, 9, 9))
    case.x[0, 0, 4, 4] = math.nan
    rows = torch.isnan(blur(case, 0.5, device)[0, 0])
    assert torch.equal(rows.nonzero().unique(), torch.arange(2, 7))
    found = clip(case, 98, False, device)
    assert torch.isnan(found[0, 0, 4, 4])
    assert (found == case.x0).sum() == 79


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_opcheck_passes(device, layout):
    case = Case((2, 3, 5, 6), layout)
    x, g, failed, x0 = (tensor.to(device) for tensor in (case.x, case.g, case.failed, case.x0))
    kernel = torch.tensor([0.25, 0.5, 0.25], device=device)
    torch.library.opcheck(torch.ops.classmodels.blur_.default, (x, torch.zeros_like(x), kernel, kernel, failed))
    for gradient in (None, g):
        torch.library.opcheck(torch.ops.classmodels.clip_.default, (x, gradient, workspace(x), failed, x0, 7))


def test_nothing_is_allocated():
    case = Case((4, 3, 40, 40))
    scratch, worth = torch.empty_like(case.x), workspace(case.x)
    rest = {"failed": case.failed, "backend": "cpp"}
    gaussian_blur(case.x, 1.0, scratch=scratch, **rest)  # makes the kernels, once
    with torch.profiler.profile(profile_memory=True) as profile:
        gaussian_blur(case.x, 1.0, scratch=scratch, **rest)
        clip_small_norm(case.x, 20, x0=case.x0, worth=worth, **rest)
        clip_small_contribution(case.x, case.g, 20, x0=case.x0, worth=worth, **rest)
    assert [event.key for event in profile.key_averages() if event.cpu_memory_usage > 0] == []


def test_autograd_notices_that_the_image_changed():
    case = Case((1, 3, 4, 4))
    x, rest = case.x, {"failed": case.failed, "backend": "cpp"}
    for run in (
        lambda: gaussian_blur(x, 1.0, scratch=torch.empty_like(x), **rest),
        lambda: clip_small_norm(x, 50, x0=case.x0, worth=workspace(x), **rest),
    ):
        kept = torch.ones(1, 3, 4, 4, requires_grad=True)
        product = (kept * x).sum()
        run()
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            product.backward()


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 3, 0, 4), (2, 3, 4, 0), (2, 0, 4, 4)])
def test_nothing_to_do_is_no_error(shape):
    filters(Case(shape))


X = torch.zeros(2, 3, 4, 5)
BLUR = {
    "x": X,
    "scratch": torch.zeros(2, 3, 4, 5),
    "across": torch.ones(3),
    "down": torch.ones(3),
    "failed": torch.zeros(2, dtype=torch.bool),
}
CLIP = {"x": X, "g": None, "worth": torch.zeros(2, 21), "failed": BLUR["failed"], "x0": torch.zeros(3), "rank": 1}
WRONG = [
    (BLUR, {"x": X.double()}, "x must be float32"),
    (BLUR, {"scratch": X}, "scratch must be another tensor than x"),
    (BLUR, {"scratch": torch.zeros(2, 3, 4, 4)}, r"scratch must have x's shape, found \[2, 3, 4, 4\]"),
    (BLUR, {"across": torch.ones(4)}, r"across must be one-dimensional and of odd length, found \[4\]"),
    (BLUR, {"across": torch.ones(11)}, "across must have a radius below 5, found 5"),
    (BLUR, {"across": torch.ones(6)[::2]}, r"across must be \[3\] and dense"),
    (BLUR, {"down": torch.ones(9)}, "down must have a radius below 4, found 4"),
    (BLUR, {"down": torch.ones(3).double()}, "down has the wrong dtype"),
    (BLUR, {"failed": torch.zeros(3, dtype=torch.bool)}, r"failed must be \[2\]"),
    (CLIP, {"g": torch.zeros(2, 3, 4, 5, dtype=torch.int32)}, "g must be float32, bfloat16 or float16"),
    (CLIP, {"worth": torch.zeros(2, 20)}, r"worth must be \[2, 21\] and contiguous, found \[2, 20\]"),
    (CLIP, {"worth": torch.zeros(2, 21).double()}, "worth must be float32"),
    (CLIP, {"x0": torch.zeros(1)}, r"x0 must be \[3\]"),
    (CLIP, {"rank": 0}, "rank must be from 1 to 20, found 0"),
    (CLIP, {"rank": 21}, "rank must be from 1 to 20, found 21"),
]


@pytest.mark.parametrize(("right", "change", "message"), WRONG, ids=[message[:40] for _, _, message in WRONG])
def test_a_wrong_argument_is_named(right, change, message):
    operator = torch.ops.classmodels.blur_ if right is BLUR else torch.ops.classmodels.clip_
    with pytest.raises(RuntimeError, match=message):
        operator(**(right | change))

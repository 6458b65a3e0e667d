"""The compiled transform and its adjoint do what the reference does, whatever the map, shape and layouts."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.ops.affine_cases import Case
from tests.ops.agreement import LAYOUTS
from tests.ops.guarded import Guarded

from classmodels.ops import extension
from classmodels.ops.affine import affine

pytestmark = pytest.mark.extension

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() and extension.has_cuda() else [])]
VARIANTS = extension.compiled.variants() if extension.compiled else []


@pytest.fixture(params=VARIANTS)
def variant(request):
    extension.compiled.force_variant(request.param)
    yield request.param
    extension.compiled.force_variant()


def there_and_back(case, device="cpu", seen_layout=None):
    """What is seen of the case's x, and its g brought back."""
    x = case.x.to(device, copy=True).requires_grad_(True)
    layout = seen_layout and LAYOUTS[seen_layout]
    seen = affine(x, case.maps.to(device), layout, "cuda" if device == "cuda" else "cpp")
    g = case.g.to(device).contiguous(memory_format=layout or torch.contiguous_format)
    (back,) = torch.autograd.grad(seen, x, g)
    return seen.detach().cpu(), back.cpu()


@pytest.mark.parametrize("device", DEVICES)
@given(
    shape=st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 40), st.integers(1, 40)),
    layout=st.sampled_from([*LAYOUTS]),
    seen_layout=st.sampled_from([None, *LAYOUTS]),
    which=st.sampled_from(VARIANTS or ["none"]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=400, deadline=None)
def test_any_transform_and_its_adjoint_agree_with_float64(device, shape, layout, seen_layout, which, seed):
    extension.compiled.force_variant(which)
    try:
        case = Case(shape, layout, seed)
        case.assert_agrees(*there_and_back(case, device, seen_layout))
    finally:
        extension.compiled.force_variant()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", [(2, 3, 224, 224), (1, 1, 3, 1300), (1, 4, 1300, 2)])
def test_shapes_beyond_a_tile_agree(device, shape, variant):
    case = Case(shape)
    case.assert_agrees(*there_and_back(case, device, "channels_last"))


@pytest.mark.parametrize("device", DEVICES)
def test_the_backward_pass_is_the_exact_adjoint(device, variant):
    # <A x, y> = <x, A* y>, of numbers whose products and sums float32 and float64 hold almost exactly.
    for seed in range(20):
        case = Case((2, 3, 30, 41), seed=seed)
        seen, back = there_and_back(case, device)
        there, again = (seen.double() * case.g).sum().item(), (case.x.double() * back).sum().item()
        assert there == pytest.approx(again, abs=1e-6 * math.prod(case.x.shape) ** 0.5)


@pytest.mark.parametrize("device", DEVICES)
def test_exact_cases_are_exact(device, variant):
    x = torch.randn(1, 2, 6, 6, generator=torch.Generator().manual_seed(0), device="cpu").to(device)
    backend = "cuda" if device == "cuda" else "cpp"

    def seen(*rows):
        return affine(x, torch.tensor([rows], device=device, dtype=torch.float32), None, backend)

    assert torch.equal(seen((1, 0, 0), (0, 1, 0)), x)
    assert torch.equal(seen((-1, 0, 0), (0, 1, 0)), x.flip(-1))
    assert torch.equal(seen((0, 1, 0), (-1, 0, 0)), x.rot90(-1, (2, 3)))
    moved = seen((1, 0, -2), (0, 1, 0))
    assert torch.equal(moved[..., 2:], x[..., :-2])
    assert torch.equal(moved[..., :2], x[..., [1, 0]])


@pytest.mark.parametrize("device", DEVICES)
def test_bits_depend_on_neither_neighbours_nor_threads_nor_layout(device):
    case = Case((6, 3, 40, 37))
    threads = torch.get_num_threads()
    first = there_and_back(case, device)
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            for one, other in zip(there_and_back(case, device, "channels_last"), first, strict=True):
                assert torch.equal(one, other)
    finally:
        torch.set_num_threads(threads)
    order = [4, 1, 5]
    for one, other in zip(there_and_back(case.chosen(order), device), first, strict=True):
        assert torch.equal(one, other[order])


@pytest.mark.parametrize("at_end", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("seen_layout", LAYOUTS)
def test_nothing_outside_of_the_tensors_is_touched_whatever_the_map(at_end, layout, seen_layout, variant):
    wild = torch.tensor([[[math.nan, 0, 0], [0, 1, 0]], [[math.inf, -math.inf, 3e38], [1e30, 0, 1]]])
    for shape in ((2, 3, 13, 11), (2, 1, 1, 1), (2, 2, 40, 1), (2, 3, 1, 700)):
        for maps in (Case(shape, layout).maps, wild):
            case, guarded = Case(shape, layout), Guarded(at_end)
            image, given = guarded.copy(case.x), guarded.copy(maps)
            seen = guarded.copy(torch.empty_like(case.x).contiguous(memory_format=LAYOUTS[seen_layout]))
            torch.ops.classmodels.affine_(seen, image, given)
            torch.ops.classmodels.affine_adjoint_(image, seen, given)
            guarded.assert_intact()


@pytest.mark.parametrize("device", DEVICES)
def test_a_second_derivative_is_refused(device):
    case = Case((1, 2, 5, 6))
    x = case.x.to(device).requires_grad_(True)
    seen = affine(x, case.maps.to(device), None, "cuda" if device == "cuda" else "cpp")
    (gradient,) = torch.autograd.grad((seen * seen).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_opcheck_passes(device, layout):
    case = Case((2, 3, 6, 7), layout)
    image, maps = case.x.to(device), case.maps.to(device)
    for op in (torch.ops.classmodels.affine_, torch.ops.classmodels.affine_adjoint_):
        torch.library.opcheck(op.default, (torch.empty_like(image), image, maps))


def test_wrong_arguments_are_named():
    case = Case((2, 3, 6, 7))
    seen = torch.empty_like(case.x)
    for arguments, said in (
        ((seen[:1], case.x, case.maps), "seen must have image's shape"),
        ((seen, case.x, case.maps[:1]), r"maps must be \[2, 2, 3\]"),
        ((seen, case.x, case.maps.double()), "maps must be float32"),
        ((seen.double(), case.x, case.maps), "seen must be float32"),
        ((case.x, case.x, case.maps), "seen must be another tensor"),
        ((seen, case.x[..., ::2], case.maps), "image must be contiguous"),
        ((seen, case.x.mT, case.maps), "image must be contiguous"),
    ):
        with pytest.raises(RuntimeError, match=said):
            torch.ops.classmodels.affine_(*arguments)


def test_no_images_are_no_error():
    assert affine(torch.empty(0, 3, 4, 5), torch.empty(0, 2, 3), None, "cpp").shape == (0, 3, 4, 5)

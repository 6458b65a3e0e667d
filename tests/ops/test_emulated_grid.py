"""The CUDA sources, run on the CPU: compiled for a host with a grid that is emulated (emulated_grid.h).

Every index of the kernels is exercised without a GPU. What is read or written outside of a tensor shows in the result
or ends the process (see Guarded), and so does what is undefined in C++.
"""

import ctypes
import math
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.ops import affine_cases, filter_cases
from tests.ops.agreement import LAYOUTS, assert_agrees
from tests.ops.filter_cases import assert_blurred, assert_clipped
from tests.ops.guarded import Guarded
from tests.ops.test_step_backends import Case

from classmodels.ops.filters import _kernel
from classmodels.ops.step import NORMS

ROOT = Path(__file__).parents[2]
GRADIENTS = (torch.float32, torch.bfloat16, torch.float16)  # in the order of csrc/numbers.h
FLAGS = ["-std=c++20", "-O1", "-g1", "-fsanitize=undefined", "-fsanitize-undefined-trap-on-error"]


class Sizes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in ("images", "channels", "height", "width")]
    _fields_ += [("channels_last", ctypes.c_bool)]


class Grid:
    """The launchers, with tensors for arguments."""

    def __init__(self, library: Path) -> None:
        self.library = ctypes.CDLL(str(library))
        self.library.partials.restype = ctypes.c_int64

    def call(self, name, like, *arguments):
        """`like`: a tensor [N, C, H, W] that lies as all images of the call do."""
        function = getattr(self.library, name)
        function.restype = ctypes.c_char_p
        passed = [
            ctypes.c_void_p(value.data_ptr() if isinstance(value, torch.Tensor) else value)
            if value is None or isinstance(value, torch.Tensor)
            else ctypes.c_int64(value)
            for value in arguments
        ]
        assert function(Sizes(*like.shape, not like.is_contiguous()), *passed) is None

    def partials(self, elements: int) -> int:
        return self.library.partials(ctypes.c_int64(elements))


@pytest.fixture(scope="session")
def grid(tmp_path_factory):
    compiler = shutil.which(os.environ.get("CXX", "c++")) or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler was found")
    library = tmp_path_factory.mktemp("emulated") / "grid.so"
    sources = [*sorted((ROOT / "csrc").glob("*.cu")), ROOT / "tests/ops/emulated.cpp"]
    includes = [f"-I{ROOT / 'csrc'}", f"-I{ROOT / 'tests/ops'}"]
    command = [compiler, *FLAGS, "-DEMULATED_GRID", *includes, "-shared", "-fPIC", "-x", "c++", *sources, "-o", library]
    subprocess.run([str(word) for word in command], check=True)
    return Grid(library)


def step_on(grid, case, at_end=True):
    """Image, moments and flags after the case's step."""
    guarded = Guarded(at_end)
    x, g, m, v, failed = (guarded.copy(tensor) for tensor in (case.x, case.g, case.m, case.v, case.failed))
    x0, low, high = (guarded.copy(tensor) for tensor in (case.x0, case.low, case.high))
    rows = guarded.copy(torch.tensor(case.rows(), dtype=torch.float32))
    out = guarded.copy(torch.full_like(x, math.nan)) if case.tv else None
    partial = guarded.copy(torch.full((len(x), grid.partials(x[0].numel())), math.nan, dtype=torch.float64))
    state = (m if case.states > 0 else None, v if case.states > 1 else None)
    kind = GRADIENTS.index(g.dtype)
    constants = (rows, len(rows), x0, low, high, NORMS.index(case.norm))
    grid.call("step", x, x, g, kind, *state, out, failed, partial, *constants)
    guarded.assert_intact()
    if case.tv:
        assert torch.equal(x.nan_to_num(9), case.x.nan_to_num(9))
    return x if out is None else out, m, v, failed


def assert_steps_right(grid, case, at_end=True):
    found, narrow, exact = step_on(grid, case, at_end), case.run("torch"), case.run("torch", torch.float64)
    for name, one, two, three in zip(("x", "m", "v"), found, narrow, exact, strict=False):
        assert_agrees(one, two, three, name)
    assert torch.equal(found[3], exact[3])
    return found


def blur_on(grid, case, sigma, at_end=True):
    guarded = Guarded(at_end)
    x, failed = guarded.copy(case.x), guarded.copy(case.failed)
    scratch = guarded.copy(torch.full_like(x, math.nan))
    kernels = [_kernel(sigma, size, torch.float64, x.device).float() for size in (x.shape[3], x.shape[2])]
    across, down = (guarded.copy(kernel) for kernel in kernels)
    grid.call("blur", x, x, scratch, across, len(across) // 2, down, len(down) // 2, failed)
    guarded.assert_intact()
    return x


def clip_on(grid, case, rank, by_contribution, at_end=True, before=math.nan):
    guarded = Guarded(at_end)
    x, failed, x0 = guarded.copy(case.x), guarded.copy(case.failed), guarded.copy(case.x0)
    g = guarded.copy(case.g) if by_contribution else None
    worth = guarded.copy(torch.full((len(x), x.shape[2] * x.shape[3] + 1), before))
    grid.call("clip", x, x, g, GRADIENTS.index(case.g.dtype) if by_contribution else 0, worth, failed, x0, rank)
    guarded.assert_intact()
    return x


def affine_on(grid, case, seen_layout, at_end=True):
    """What is seen of the case's x, and its g brought back."""
    guarded, last = Guarded(at_end), seen_layout == "channels_last"
    image, maps = guarded.copy(case.x), guarded.copy(case.maps)
    back = guarded.copy(torch.full_like(case.x, math.nan))
    g = guarded.copy(case.g.contiguous(memory_format=LAYOUTS[seen_layout]))
    seen = guarded.copy(torch.full_like(case.g, math.nan).contiguous(memory_format=LAYOUTS[seen_layout]))
    grid.call("affine", case.x, image, seen, maps, last, False)
    grid.call("affine", case.x, back, g, maps, last, True)
    guarded.assert_intact()
    return seen, back


SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 21), st.integers(1, 21))
MATRIX = {"layout": st.sampled_from([*LAYOUTS]), "gradient": st.sampled_from(GRADIENTS), "seed": st.integers(0, 999)}


@given(
    shape=SHAPES,
    states=st.integers(0, 2),
    tv=st.booleans(),
    norm=st.sampled_from(NORMS),
    at_end=st.booleans(),
    **MATRIX,
)
@settings(max_examples=80, deadline=None)
def test_any_step_agrees_with_float64(grid, shape, states, tv, norm, at_end, layout, gradient, seed):
    assert_steps_right(grid, Case(shape, layout, states, tv, norm, gradient, seed), at_end)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("tv", [False, True])
@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("states", [0, 1, 2])
def test_a_step_over_several_blocks_and_spans_agrees(grid, layout, tv, gradient, states):
    assert_steps_right(grid, Case((2, 3, 43, 37), layout, states, tv, "rms", gradient))


@pytest.mark.parametrize("norm", ["rms", "l2"])
@pytest.mark.parametrize("power", [-20, 60, 100, 122])
def test_the_size_of_a_gradient_does_not_matter_once_it_is_normalised(grid, norm, power):
    case = Case((2, 3, 30, 40), norm=norm)
    expected = assert_steps_right(grid, case)
    case.g = case.g * 2.0**power  # changes no digit
    for found, same in zip(assert_steps_right(grid, case), expected, strict=True):
        assert torch.equal(found, same)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("tv", [False, True])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("gradient", GRADIENTS)
def test_a_failed_image_stays_and_its_neighbours_do_not_notice(grid, layout, tv, bad, gradient):
    case = Case((4, 3, 19, 21), layout, 2, tv, "l2", gradient)
    clean = step_on(grid, case)
    case.g[1, 2, 18, 20] = bad
    case.failed[3] = True
    x, m, v, failed = assert_steps_right(grid, case)
    assert failed.tolist() == [False, True, False, True]
    for found, unhurt, before in zip((x, m, v), clean, (case.x, case.m, case.v), strict=False):
        assert torch.equal(found[[0, 2]], unhurt[[0, 2]])
        assert torch.equal(found[[1, 3]], before[[1, 3]])


@given(shape=SHAPES, sigma=st.floats(0.2, 12), at_end=st.booleans(), **MATRIX)
@settings(max_examples=80, deadline=None)
def test_any_blur_agrees_with_float64(grid, shape, sigma, at_end, layout, gradient, seed):
    case = filter_cases.Case(shape, layout, gradient, seed)
    assert_blurred(case, sigma, blur_on(grid, case, sigma, at_end))


@given(shape=SHAPES, part=st.floats(0, 1), by_contribution=st.booleans(), at_end=st.booleans(), **MATRIX)
@settings(max_examples=80, deadline=None)
def test_any_clipping_agrees_with_float64(grid, shape, part, by_contribution, at_end, layout, gradient, seed):
    case = filter_cases.Case(shape, layout, gradient, seed)
    pixels = shape[2] * shape[3]
    rank = max(round(part * pixels), 1)
    found = clip_on(grid, case, rank, by_contribution, at_end)
    assert_clipped(case, 100 * (rank + 0.5) / pixels, by_contribution, found)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_filters_over_several_blocks_agree_and_leave_failed_images(grid, layout):
    case = filter_cases.Case((3, 3, 33, 31), layout)
    case.failed[1] = True
    assert_blurred(case, 1.3, blur_on(grid, case, 1.3))
    for by_contribution in (False, True):
        for before in (math.nan, 0.0):  # what an earlier clipping has left in the scratch
            found = clip_on(grid, case, int(33 * 31 * 0.3001), by_contribution, before=before)
            assert_clipped(case, 30.01, by_contribution, found)


def test_a_nan_is_worth_more_than_anything(grid):
    case = filter_cases.Case((1, 1, 1, 8))
    case.x = torch.tensor([3.0, math.nan, -1, math.inf, 0, -math.nan, 2, -0.0]).view(1, 1, 1, 8)
    case.x0[:] = 0
    for rank, kept in enumerate([{1, 2, 3}, {1, 2, 3}, {2, 3}, {3}, set(), set()], 1):
        found = clip_on(grid, case, rank, False)
        assert torch.isnan(found[..., [1, 5]]).all()
        assert set(found[torch.isfinite(found)].abs().tolist()) == kept | {0}
        assert torch.isinf(found[..., 3]) == (rank < 6)


@given(shape=SHAPES, layout=st.sampled_from([*LAYOUTS]), seen_layout=st.sampled_from([*LAYOUTS]), at_end=st.booleans(),
       seed=st.integers(0, 999))  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_any_transform_and_its_adjoint_agree_with_float64(grid, shape, layout, seen_layout, at_end, seed):
    case = affine_cases.Case(shape, layout, seed)
    case.assert_agrees(*affine_on(grid, case, seen_layout, at_end))


def test_maps_without_an_inverse_have_an_adjoint_too(grid):
    case = affine_cases.Case((4, 5, 9, 7))
    case.maps = torch.tensor([[[0, 0, 1.3], [0, 0, -2.2]], [[1, 1, 0], [1, 1, 0.5]], [[0, 0, 0], [0, 1, 0]],
                              [[1e-4, 0, 0], [0, 3e4, 0.2]]])  # fmt: skip
    case.assert_agrees(*affine_on(grid, case, "contiguous"))

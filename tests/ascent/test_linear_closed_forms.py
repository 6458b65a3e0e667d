"""For a linear classifier the class model is known exactly (DESIGN, invariant 1): the whole loop must find it."""

import pytest
import torch

from classmodels.ascent.loop import Ascent, Final, Numerics
from classmodels.ascent.recipe import Recipe
from classmodels.ascent.space import Space
from classmodels.ops.backend import missing

SHAPE = (3, 6, 5)
# Sizes from 0.05 to 2, none within 0.005 of the L1 threshold below, in random places with random signs: so every pixel
# arrives where it goes within the steps given.
_SIZES = 0.055 + torch.arange(360) * 0.0055
_SIZES = torch.where((_SIZES - 0.8).abs() < 0.005, 0.82, _SIZES)
W = (_SIZES * torch.tensor([1.0, -1.0]).repeat(180))[
    torch.randperm(360, generator=torch.Generator().manual_seed(0))
].view(4, 90)
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
SPACE = Space.of(MEAN, STD, SHAPE[1:])


def linear(x):
    return x.flatten(1) @ W.T.to(x.device) + 3.0


BACKEND = {"name": "torch", "device": "cpu"}


@pytest.fixture(
    autouse=True,
    params=[
        pytest.param("torch"),
        pytest.param("cpp", marks=pytest.mark.extension),
        *([pytest.param("cuda", marks=pytest.mark.extension)] if missing("cuda") is None else []),
    ],
)
def backend(request, monkeypatch):
    """Every closed form holds on every backend."""
    monkeypatch.setitem(BACKEND, "name", request.param)
    monkeypatch.setitem(BACKEND, "device", "cuda" if request.param == "cuda" else "cpu")


def climb(settings, targets=(0, 3), noise=0.01, head="softmax", layout=torch.contiguous_format):
    recipe = Recipe.model_validate(settings)
    device = torch.device(BACKEND["device"])
    x = torch.randn(len(targets), *SHAPE, generator=torch.Generator().manual_seed(1)) * noise
    space, numerics = SPACE.to(device), Numerics(backend=BACKEND["name"])
    x = x.to(device, memory_format=layout)
    ascent = Ascent(linear, torch.tensor(targets).to(device), x, None, recipe, space, head, numerics)
    for _ in range(recipe.steps):
        ascent.step()
    final = ascent.finish()
    ascent.x, ascent.scores = ascent.x.cpu(), ascent.scores.cpu()
    return ascent, Final(final.logit.cpu(), final.probability.cpu(), final.rank.cpu())


def weights(targets=(0, 3)):
    return W[list(targets)].view(-1, *SHAPE)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("towards", ["mean", "black"])
def test_l2_ends_at_x0_plus_w_over_two_lambda(momentum, towards):
    l2 = 0.5
    ascent, _ = climb(
        {
            "steps": 600,
            "clamp": False,
            "optimizer": {"lr": 0.05, "momentum": momentum},
            "regularizers": {"l2": l2, "towards": towards},
        }
    )
    expected = SPACE.towards(towards) + weights() / (2 * l2)
    # A sum of x0 and w that nearly cancels keeps the rounding of its terms.
    torch.testing.assert_close(ascent.x, expected, rtol=1e-5, atol=1e-6 if towards == "mean" else 5e-6)


def test_adam_ends_at_the_sign_of_w_because_it_divides_by_its_size():
    l2 = 0.5
    ascent, _ = climb(
        {"steps": 600, "clamp": False, "optimizer": {"kind": "adam", "lr": 0.05}, "regularizers": {"l2": l2}}
    )
    w = weights()
    torch.testing.assert_close(ascent.x, w / (w.abs() + 1e-8) / (2 * l2), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("normalize", ["rms", "l2"])
def test_a_normalised_gradient_rescales_lambda(normalize):
    ascent, _ = climb(
        {"steps": 600, "clamp": False, "optimizer": {"lr": 0.05, "normalize": normalize}, "regularizers": {"l2": 0.5}}
    )
    w = weights()
    norm = (
        w.pow(2).sum(dim=(1, 2, 3), keepdim=True) if normalize == "l2" else w.pow(2).mean(dim=(1, 2, 3), keepdim=True)
    )
    torch.testing.assert_close(ascent.x, w / norm.sqrt(), rtol=1e-5, atol=1e-6)


def test_a_preconditioner_ends_at_p_w_over_two_lambda():
    from classmodels.ascent.preconditioner import Precondition

    settings = {"spectral": [0.5, 0.5], "floor": 1.0, "color": True}
    ascent, _ = climb(
        {
            "steps": 600,
            "clamp": False,
            "preconditioner": settings,
            "optimizer": {"lr": 0.05},
            "regularizers": {"l2": 0.5},
        }
    )
    p = Precondition(ascent.recipe.preconditioner, SHAPE, torch.device("cpu"), torch.float64)
    torch.testing.assert_close(ascent.x, p(weights().double(), 0).float(), rtol=1e-4, atol=1e-5)


def test_l1_around_the_mean_leaves_exactly_the_pixels_with_small_weight_at_zero():
    l1 = 0.8
    ascent, _ = climb({"steps": 3000, "optimizer": {"lr": 0.5}, "regularizers": {"l1": l1}})
    w = weights()
    assert ((ascent.x == 0) == (w.abs() < l1)).all()
    low, high = SPACE.box
    edge = torch.where(w > 0, high, low)
    assert torch.equal(ascent.x[w.abs() >= l1], edge[w.abs() >= l1])


def test_plain_reaches_the_corner_of_the_box():
    ascent, _ = climb({"steps": 2000, "optimizer": {"lr": 0.5}})
    low, high = SPACE.box
    assert torch.equal(ascent.x, torch.where(weights() > 0, high, low))


def test_scores_are_the_raw_logits_of_what_the_network_saw():
    ascent, final = climb({"steps": 3, "objective": "log_prob", "optimizer": {"lr": 0.5}, "regularizers": {"l2": 0.1}})
    assert ascent.scores.shape == (2, 4)
    logits = linear(ascent.x)
    expected = logits.gather(1, torch.tensor([[0], [3]])).squeeze(1)
    torch.testing.assert_close(ascent.scores[:, -1], expected)
    torch.testing.assert_close(final.probability, logits.softmax(1).gather(1, torch.tensor([[0], [3]])).squeeze(1))
    assert final.rank.tolist() == [1, 1]


def test_scores_under_transforms_are_of_the_transformed_image_and_the_last_of_the_plain_one():
    recipe = Recipe.model_validate({"steps": 1, "transforms": {"flip": True}, "optimizer": {"lr": 0.1}})
    mirror = torch.tensor([[[-1.0, 0, 0], [0, 1, 0]]]).unsqueeze(0)
    x = torch.rand(1, *SHAPE, generator=torch.Generator().manual_seed(2)) * 0.1
    ascent = Ascent(linear, torch.tensor([1]), x.clone(), mirror, recipe, SPACE)
    ascent.step()
    ascent.finish()
    torch.testing.assert_close(ascent.scores[0, 0], linear(x.flip(-1))[0, 1])
    torch.testing.assert_close(ascent.scores[0, 1], linear(ascent.x)[0, 1])


@pytest.mark.parametrize("head", ["softmax", "sigmoid", "binary"])
def test_log_prob_climbs_the_log_of_the_probability(head):
    recipe = Recipe.model_validate({"steps": 1, "objective": "log_prob", "clamp": False, "optimizer": {"lr": 1.0}})
    x = torch.zeros(1, *SHAPE)
    ascent = Ascent(linear, torch.tensor([2]), x, None, recipe, SPACE, head)
    ascent.step()
    logits = torch.full((4,), 3.0)
    if head == "softmax":
        expected = W[2] - (logits.softmax(0).unsqueeze(1) * W).sum(0)
    else:
        expected = (1 - logits.sigmoid()[2]) * W[2]
    torch.testing.assert_close(ascent.x.flatten(), expected, rtol=1e-4, atol=1e-6)


def test_the_cosine_schedule_falls_from_lr_towards_zero():
    recipe = {"steps": 4, "clamp": False, "optimizer": {"lr": 0.2, "schedule": "cosine"}}
    ascent, _ = climb(recipe)
    rates = [ascent.learning_rate(done) for done in range(4)]
    assert rates == pytest.approx([0.2, 0.2 * 0.5 * (1 + 0.5**0.5), 0.1, 0.2 * 0.5 * (1 - 0.5**0.5)])


def test_a_nan_score_fails_its_image_even_with_a_finite_gradient():
    bias = torch.tensor([0.0, float("nan"), 0.0, 0.0])
    recipe = Recipe.model_validate({"steps": 2, "optimizer": {"lr": 0.1}})
    ascent = Ascent(lambda x: linear(x) + bias, torch.tensor([0, 1]), torch.zeros(2, *SHAPE), None, recipe, SPACE)
    ascent.step()
    assert ascent.failed.tolist() == [False, True]
    assert not ascent.x[1].any()
    assert ascent.x[0].any()


def test_periodic_filters_act_every_so_many_steps():
    settings = {"steps": 3, "optimizer": {"lr": 0.1}, "regularizers": {"small_norm": {"percentile": 50, "every": 2}}}
    ascent = Ascent(linear, torch.tensor([0]), torch.zeros(1, *SHAPE), None, Recipe.model_validate(settings), SPACE)
    clipped = []
    for _ in range(3):
        ascent.step()
        clipped.append(int((ascent.x == 0).all(dim=1).sum()))
    assert clipped == [0, 15, 0]


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_how_the_first_image_lies_in_memory_changes_no_bit(kind):
    settings = {
        "steps": 4,
        "optimizer": {"kind": kind, "lr": 0.1, "momentum": 0.5, "normalize": "rms"},
        "regularizers": {"tv": 0.1, "blur": {"sigma": 0.5, "every": 2}, "small_contribution": {"percentile": 20}},
    }
    one, other = (climb(settings, layout=layout)[0].x for layout in (torch.contiguous_format, torch.channels_last))
    assert torch.equal(one, other)


def test_a_penalty_pulls_towards_black_when_asked():
    ascent, _ = climb({"steps": 300, "optimizer": {"lr": 0.05}, "regularizers": {"l1": 10.0, "towards": "black"}})
    torch.testing.assert_close(ascent.x, SPACE.box[0].expand_as(ascent.x))

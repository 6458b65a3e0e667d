"""`classmodels.ascend` as a notebook uses it: any module in, images out, the module as it was."""

import base64
import copy
import io
import re
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

import classmodels
from classmodels.errors import InputError

INPUT = {"size": 8, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
QUICK = {"extends": "plain", "steps": 4, "precision": "fp32"}


def test_it_returns_images_tensor_and_scores(tiny_nets) -> None:
    network = tiny_nets["linear"]()
    result = classmodels.ascend(network, [3, 0, 3], QUICK, input=INPUT)
    assert result.tensor.shape == (3, 3, 8, 8)
    assert result.tensor.dtype == torch.float32
    assert result.scores.shape == (3, 5)
    assert [image.size for image in result.images] == [(8, 8)] * 3
    assert torch.equal(result.tensor[0], result.tensor[2])
    torch.testing.assert_close(result.scores[:2, -1], network(result.tensor[:2])[[0, 1], [3, 0]].detach())
    expected = np.rint((result.tensor[1] * 0.25 + 0.5).clamp(0, 1).numpy() * 255).transpose(1, 2, 0)
    assert (np.asarray(result.images[1]) == expected).all()


def test_the_score_rises(tiny_nets) -> None:
    result = classmodels.ascend(tiny_nets["conv"](), [0, 1, 2], {"extends": "plain", "steps": 20}, input=INPUT)
    assert (result.scores[:, -1] > result.scores[:, 0]).all()


def test_the_module_is_the_same_afterwards(tiny_nets) -> None:
    network = torch.nn.Sequential(torch.nn.BatchNorm2d(3), torch.nn.Dropout(0.5), tiny_nets["conv"]()).train()
    network[2].eval()
    network[0].weight.requires_grad_(False)
    before = copy.deepcopy(network)
    classmodels.ascend(network, 1, QUICK, input=INPUT)
    assert [module.training for module in network.modules()] == [module.training for module in before.modules()]
    for now, then in zip(network.parameters(), before.parameters(), strict=True):
        assert now.requires_grad == then.requires_grad
        assert now.grad is None
        assert torch.equal(now, then)
        assert now.stride() == then.stride()
    for now, then in zip(network.buffers(), before.buffers(), strict=True):
        assert torch.equal(now, then)


def test_the_module_is_the_same_even_after_an_error(tiny_nets) -> None:
    network = tiny_nets["conv"]().train()
    with pytest.raises(InputError, match="classes"):
        classmodels.ascend(network, [17], QUICK, input=INPUT)
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_the_seed_decides_and_nothing_else(tiny_nets) -> None:
    network = tiny_nets["conv"]()
    recipe = {"extends": "natural", "steps": 3}
    first = classmodels.ascend(network, [0, 1], recipe, input=INPUT, seed=5)
    torch.manual_seed(99)
    again = classmodels.ascend(network, [1], recipe, input=INPUT, seed=5)
    other = classmodels.ascend(network, [1], recipe, input=INPUT, seed=6)
    assert torch.equal(first.tensor[1], again.tensor[0])
    assert not torch.equal(again.tensor, other.tensor)


def test_a_preset_is_named_or_spelled_out(tiny_nets) -> None:
    network = tiny_nets["linear"]()
    named = classmodels.ascend(network, 0, "plain", input=INPUT)
    spelled = classmodels.ascend(network, 0, {"extends": "plain"}, input=INPUT)
    assert torch.equal(named.tensor, spelled.tensor)


def test_a_broken_class_is_marked_with_a_warning_and_its_neighbours_go_on(tiny_nets) -> None:
    with pytest.warns(UserWarning, match="classes 1"):
        result = classmodels.ascend(tiny_nets["broken"](), [0, 1, 2], QUICK, input=INPUT)
    assert result.failed == (False, True, False)
    assert result.tensor[0].abs().sum() > result.tensor[1].abs().sum()


def test_a_notebook_shows_a_row_of_images(tiny_nets) -> None:
    result = classmodels.ascend(tiny_nets["linear"](), [2, 4], QUICK, input=INPUT)
    shown = result._repr_html_()
    data = re.findall(r"base64,([A-Za-z0-9+/=]+)", shown)
    assert len(data) == 2
    assert Image.open(io.BytesIO(base64.b64decode(data[1]))).tobytes() == result.images[1].tobytes()
    assert "class 4" in shown


def test_one_channel_and_many(tiny_nets) -> None:
    grey = tiny_nets["conv"](channels=1)
    result = classmodels.ascend(grey, 0, QUICK, input={"size": [6, 10], "mean": [0.5], "std": [0.2]})
    assert result.images[0].mode == "L"
    assert result.images[0].size == (10, 6)
    many = tiny_nets["conv"](channels=5)
    result = classmodels.ascend(many, 0, QUICK, input={"size": 6, "mean": [0.5] * 5, "std": [0.2] * 5})
    assert result.tensor.shape == (1, 5, 6, 6)
    assert result.images[0].mode == "RGB"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"recipe": "natral"}, "did you mean"),
        ({"recipe": {"extends": "plain", "steps": 0}}, "steps"),
        ({"recipe": {"extends": "plain", "optimiser": {}}}, "optimiser"),
        ({"classes": [-1]}, "0 to 4"),
        ({"classes": []}, "none"),
        ({"backend": "cuda"}, "not available"),
        ({"backend": "mps"}, "expected one of"),
        ({"device": "tpu"}, "expected auto"),
        ({"input": {"size": 0}}, "size"),
        ({"model": "no module"}, "Module"),
        ({"classes": "12"}, "whole number"),
        ({"classes": [1.7]}, "whole number"),
        ({"classes": True}, "whole number"),
        ({"seed": -5}, "seed"),
        ({"seed": 0.5}, "whole number"),
        ({"recipe": None}, "preset's name"),
        ({"recipe": {"extends": ["plain"]}}, "preset's name"),
        ({"input": 224}, "mapping"),
    ],
)
def test_wrong_arguments_are_said_in_a_sentence(arguments, message, tiny_nets) -> None:
    given = {"model": tiny_nets["linear"](), "classes": 0, "recipe": QUICK, "input": INPUT} | arguments
    with pytest.raises(InputError, match=message):
        classmodels.ascend(given.pop("model"), given.pop("classes"), given.pop("recipe"), **given)


def test_nothing_is_warned_of_where_nothing_is_wrong(tiny_nets) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        classmodels.ascend(tiny_nets["linear"](), 0, QUICK, input=INPUT)


def test_numpy_and_torch_numbers_are_numbers(tiny_nets) -> None:
    network = tiny_nets["linear"]()
    plain = classmodels.ascend(network, [3], QUICK, input=INPUT, seed=1)
    for classes in (np.int64(3), torch.tensor(3), torch.tensor([3]), np.array([3])):
        found = classmodels.ascend(network, classes, QUICK, input=INPUT, seed=np.int64(1))
        assert torch.equal(found.tensor, plain.tensor)


def test_a_refused_backend_leaves_the_threads_as_they_were(tiny_nets) -> None:
    before = torch.get_num_threads()
    with pytest.raises(InputError):
        classmodels.ascend(tiny_nets["linear"](), 0, QUICK, input=INPUT, backend="cuda")
    assert torch.get_num_threads() == before


def test_the_numerics_say_whether_batch_norm_was_folded(tiny_nets) -> None:
    normed = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 3), torch.nn.BatchNorm2d(3), tiny_nets["conv"]())
    assert classmodels.ascend(normed, 0, QUICK, input=INPUT).numerics["folded"] is True
    assert classmodels.ascend(tiny_nets["conv"](), 0, QUICK, input=INPUT).numerics["folded"] is False

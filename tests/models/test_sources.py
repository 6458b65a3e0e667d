"""Networks from every source: torchvision, factories, exported programs; timm and transformers where installed."""

import json
import logging
import random
import sys

import numpy as np
import pytest
import torch
from torch import nn

from classmodels.errors import ModelError
from classmodels.models import torchvision_compat
from classmodels.models.classifier import load
from classmodels.models.resolve import resolve
from classmodels.models.sources import describe
from classmodels.models.spec import FieldError, ModelSpec
from classmodels.models.torchvision_compat import import_torchvision

SMALL = {"size": [16, 12], "mean": [0.5] * 3, "std": [0.2] * 3}


def spec(**fields) -> ModelSpec:
    return ModelSpec.model_validate({"name": "net", **fields})


def network(classes=3):
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes)
    ).eval()


def blamed(field, said, **fields):
    with pytest.raises(FieldError, match=said) as caught:
        load(resolve(spec(**fields), fields.pop("base", None) or _nowhere(), None, None))
    assert caught.value.field == field
    assert "\n" not in str(caught.value)


def _nowhere():
    from pathlib import Path

    return Path("/nowhere")


@pytest.fixture
def code(tmp_path, monkeypatch):
    """A code folder with one module, `my_factories`."""
    folder = tmp_path / "src"
    folder.mkdir()
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(text: str):
        (folder / "my_factories.py").write_text(
            "import random\nimport numpy as np\nimport torch\nfrom torch import nn\n" + text
        )
        return folder

    yield write
    sys.modules.pop("my_factories", None)


def made(code, text, **fields):
    folder = code(text)
    fields = {"source": {"factory": "my_factories:make"}, "input": SMALL, **fields}
    resolved = resolve(spec(**fields), folder.parent, folder, None)
    return resolved, load(resolved)


# torchvision


def test_a_torchvision_network_brings_its_own_preprocessing_and_labels(tmp_path):
    resolved = resolve(
        spec(source={"torchvision": "efficientnet_b3", "kwargs": {"num_classes": 1000}}), tmp_path, None, None
    )
    preset = import_torchvision().models.get_model_weights("efficientnet_b3").DEFAULT.transforms()
    assert resolved.input.size == (preset.crop_size[0],) * 2 == (300, 300)
    assert resolved.input.mean == tuple(preset.mean)
    assert resolved.labels[9] == "ostrich"
    assert (resolved.classes, resolved.family) == (1000, "efficientnet")


@pytest.mark.parametrize(
    ("name", "family"),
    [("resnet50", "resnet"), ("vgg16_bn", "vgg"), ("vit_b_16", "vit"), ("efficientnet_b0", "efficientnet"),
     ("mobilenet_v3_small", "mobilenet"), ("convnext_tiny", "convnext"), ("swin_v2_t", "swin")],
)  # fmt: skip
def test_families_are_derived_from_names(tmp_path, name, family, monkeypatch):
    monkeypatch.setattr("classmodels.models.resolve.digest_state", lambda network: "0")
    monkeypatch.setattr("classmodels.models.sources.build", lambda *arguments: None)
    assert resolve(spec(source={"torchvision": name}), tmp_path, None, None).family == family
    assert resolve(spec(source={"torchvision": name}, family="mine"), tmp_path, None, None).family == "mine"


def test_random_weights_are_the_same_each_time_and_noted(tmp_path):
    fields = {"source": {"torchvision": "squeezenet1_1", "kwargs": {"num_classes": 5}}, "input": {"size": 32}}
    before = torch.random.get_rng_state()
    resolved = resolve(spec(**fields), tmp_path, None, None)
    torch.manual_seed(99)
    first, second = load(resolved), load(resolve(spec(**fields), tmp_path, None, None))
    torch.random.set_rng_state(before)
    assert first.model12 == second.model12
    assert all(map(torch.equal, first.net.state_dict().values(), second.net.state_dict().values()))
    assert first.notes == ("random weights: no checkpoint is named",)
    assert (first.classes, first.labels, first.label(3)) == (5, None, "class 3")


def test_building_leaves_the_callers_random_numbers_alone(tmp_path):
    torch.manual_seed(1), random.seed(1), np.random.seed(1)
    expected = torch.rand(1), random.random(), np.random.rand()
    torch.manual_seed(1), random.seed(1), np.random.seed(1)
    resolve(spec(source={"torchvision": "squeezenet1_1"}), tmp_path, None, None)
    assert (torch.rand(1), random.random(), np.random.rand()) == expected


def test_a_checkpoint_of_a_torchvision_network_loads(tmp_path):
    torch.manual_seed(5)
    trained = import_torchvision().models.squeezenet1_1(num_classes=4)
    torch.save({"state_dict": {f"module.{k}": v for k, v in trained.state_dict().items()}}, tmp_path / "w.pth")
    classifier = load(
        resolve(
            spec(source={"torchvision": "squeezenet1_1", "kwargs": {"num_classes": 4}}, checkpoint="w.pth",
                 input={"size": 40}), tmp_path, None, None)
    )  # fmt: skip
    x = torch.randn(2, 3, 40, 40)
    torch.testing.assert_close(classifier.logits(x), trained.eval()(x))
    assert not any("random" in note for note in classifier.notes)


def test_named_weights_are_built_as_torchvision_builds_them(tmp_path, monkeypatch):
    # googlenet's own weights expect another normalisation, which the network applies itself.
    torch.manual_seed(5)
    models = import_torchvision().models
    trained = models.googlenet(weights=None, aux_logits=True, transform_input=True, init_weights=False)
    path = tmp_path / "hub" / "checkpoints" / "googlenet-weights.pth"
    path.parent.mkdir(parents=True)
    torch.save(trained.state_dict(), path)
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    monkeypatch.setattr(models.GoogLeNet_Weights, "url", property(lambda self: "https://host/googlenet-weights.pth"))
    fields = {"source": {"torchvision": "googlenet", "kwargs": {"init_weights": False}}, "input": {"size": 64}}
    named = resolve(spec(**fields, checkpoint="IMAGENET1K_V1"), tmp_path, None, None)
    by_path = resolve(spec(**fields, checkpoint=str(path)), tmp_path, None, None)
    assert named.checkpoint == path
    assert named.checkpoint_sha256 == by_path.checkpoint_sha256
    assert named.model12 != by_path.model12  # the same file in another network
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(load(named).logits(x), trained.eval()(x))


@pytest.mark.parametrize(
    ("field", "said", "source"),
    [
        (("source", "torchvision"), 'no classifier "resnet5O"; did you mean .*"resnet50"', {"torchvision": "resnet5O"}),
        (("source", "torchvision"), 'no classifier "fcn_resnet50"', {"torchvision": "fcn_resnet50"}),
        (("source", "kwargs", "weights"), "in `checkpoint`", {"torchvision": "resnet18", "kwargs": {"weights": "X"}}),
        (
            ("source", "torchvision"),
            r"called with \(depth=3\) raised TypeError",
            {"torchvision": "resnet18", "kwargs": {"depth": 3}},
        ),
    ],
)
def test_a_wrong_torchvision_source_blames_its_field(field, said, source):
    blamed(field, said, source=source)


def test_torchvision_imports_without_its_operators_and_says_so_once(monkeypatch, caplog):
    import builtins

    real, failures = builtins.__import__, []

    def broken(name, *arguments):
        if name == "torchvision" and not failures:
            failures.append(name)
            raise RuntimeError("operator torchvision::nms does not exist")
        return real(name, *arguments)

    defined = []
    monkeypatch.setattr(builtins, "__import__", broken)
    monkeypatch.setattr(torchvision_compat, "_declared", [])
    monkeypatch.setattr(
        torch.library, "Library", lambda *a: type("L", (), {"define": lambda self, s: defined.append(s)})()
    )
    with caplog.at_level(logging.INFO):
        assert import_torchvision().__name__ == "torchvision"
        import_torchvision()
    assert [schema.partition("(")[0] for schema in defined] == ["nms", "qnms"]
    assert len(caplog.records) == 1


def test_another_failure_of_torchvision_is_not_hidden(monkeypatch):
    import builtins

    real = builtins.__import__

    def broken(name, *arguments):
        if name == "torchvision":
            raise RuntimeError("disk on fire")
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", broken)
    with pytest.raises(RuntimeError, match="disk on fire"):
        import_torchvision()


# factories

MAKE = """
def make(classes=3, scale=1.0):
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 12, classes))
"""


def test_a_factory_is_called_with_its_arguments(code):
    source = {"factory": "my_factories:make", "args": [7], "kwargs": {"scale": 2.0}}
    resolved, classifier = made(code, MAKE, source=source)
    assert classifier.classes == 7
    assert resolved.family == "my_factories.make"
    assert classifier.notes == ()


def test_a_factory_that_makes_its_own_weights_is_digested_by_them(code):
    text = MAKE + "\ndef double():\n    net = make()\n    net[1].bias.data[:] = 2\n    return net\n"
    plain, _ = made(code, text)
    double, _ = made(code, text, source={"factory": "my_factories:double"})
    again, _ = made(code, text)
    assert plain.checkpoint_sha256 == again.checkpoint_sha256 != double.checkpoint_sha256


def test_random_numbers_of_any_kind_are_seeded_for_a_factory(code):
    made(code, "def make():\n    net = nn.Sequential(nn.Flatten(), nn.Linear(576, 2))\n"
         "    net[1].bias.data[0] = random.random() + np.random.rand()\n    return net\n")  # fmt: skip


def test_a_factory_whose_weights_differ_each_time_is_refused(code):
    with pytest.raises(ModelError, match="other weights each time"):
        made(code, "import os\n\ndef make():\n    net = nn.Sequential(nn.Flatten(), nn.Linear(576, 2))\n"
             "    net[1].bias.data[0] = int.from_bytes(os.urandom(3))\n    return net\n")  # fmt: skip


def test_a_network_in_half_precision_is_made_float32(code):
    _, classifier = made(
        code, MAKE + "\ndef half():\n    return make().half()\n", source={"factory": "my_factories:half"}
    )
    assert classifier.logits(torch.zeros(1, 3, 16, 12)).dtype == torch.float32


def test_a_network_may_import_more_of_its_code_when_it_runs(code, tmp_path):
    text = """
class Late(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(576, 2)
    def forward(self, x):
        from my_late_layers import scale
        return self.fc(x.flatten(1)) * scale
make = Late
"""
    folder = code(text)
    (folder / "my_late_layers.py").write_text("scale = 3.0")
    _, classifier = made(code, text)
    sys.modules.pop("my_late_layers")
    assert classifier.classes == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def make():\n    return 3", "returned a int; expected a torch.nn.Module"),
        ("def make():\n    raise KeyError('no\\nsuch')", r"called with \(\) raised KeyError"),
        ("def make(needed):\n    pass", "missing 1 required positional argument"),
        ("make = 3", "not something to call"),
    ],
)
def test_a_factory_that_returns_no_network_blames_itself(code, text, said):
    with pytest.raises(FieldError, match=said) as caught:
        made(code, text)
    assert caught.value.field == ("source", "factory")


# programs


def exported(path, batch=None):
    shapes = None if batch else ({0: torch.export.Dim("batch", max=64)},)
    program = torch.export.export(network(), (torch.zeros(batch or 2, 3, 16, 12),), dynamic_shapes=shapes)
    torch.export.save(program, path)


def traced(path):
    torch.jit.trace(network(), torch.zeros(2, 3, 16, 12)).save(str(path))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("name", "write"), [("p.pt2", exported), ("p.pt", traced)])
def test_an_exported_program_is_a_classifier(tmp_path, name, write):
    write(tmp_path / name)
    resolved = resolve(spec(source={"program": name}, input=SMALL), tmp_path, None, None)
    classifier = load(resolved).to("cpu")
    assert (classifier.classes, resolved.family, resolved.checkpoint) == (3, "p", None)
    x = torch.randn(5, 3, 16, 12, requires_grad=True)
    torch.testing.assert_close(classifier.logits(x), network()(x))
    results = [torch.autograd.grad(classifier.logits(x).sum(), x)[0] for _ in range(4)]
    assert all(torch.equal(results[0], result) for result in results)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_program_is_known_by_its_content_not_by_its_path(tmp_path):
    traced(tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes((tmp_path / "a.pt").read_bytes())
    first, second = (resolve(spec(source={"program": p}, input=SMALL), tmp_path, None, None) for p in ("a.pt", "b.pt"))
    assert first.model12 == second.model12


def test_a_program_for_one_batch_size_says_how_to_export_it(tmp_path):
    exported(tmp_path / "p.pt2", batch=1)
    with pytest.raises(ModelError, match="dynamic batch size"):
        load(resolve(spec(source={"program": "p.pt2"}, input=SMALL), tmp_path, None, None))


@pytest.mark.parametrize("name", ["x.pt", "x.pt2"])
def test_a_file_that_is_no_program_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"nothing")
    with pytest.raises(ModelError, match=f"{name} is neither a TorchScript file nor"):
        load(resolve(spec(source={"program": name}, input=SMALL), tmp_path, None, None))


def test_a_program_that_is_missing_or_has_a_checkpoint_is_refused():
    blamed(("source", "program"), "does not exist", source={"program": "gone.pt"}, input=SMALL)
    blamed(("source", "program"), "local files only", source={"program": "s3://b/p.pt"}, input=SMALL)
    blamed(("checkpoint",), "holds its own weights", source={"program": "p.pt"}, checkpoint="w.pth", input=SMALL)


# extras


@pytest.mark.parametrize(("kind", "name"), [("timm", "resnet50"), ("transformers", "org/name")])
def test_a_missing_extra_says_how_to_install_it(monkeypatch, kind, name):
    monkeypatch.setitem(sys.modules, kind, None)
    real = sys.modules.pop(kind)

    class Absent:
        @staticmethod
        def find_spec(wanted, path=None, target=None):
            if wanted == kind:
                raise ModuleNotFoundError(f"No module named {kind!r}", name=kind)

    monkeypatch.setattr(sys, "meta_path", [Absent, *sys.meta_path])
    blamed(("source", kind), rf"pip install 'classmodels\[{kind}\]'", source={kind: name})
    assert real is None


def test_timm_networks_bring_their_own_preprocessing(tmp_path):
    pytest.importorskip("timm", exc_type=ImportError)
    resolved = resolve(spec(source={"timm": "test_vit", "kwargs": {"num_classes": 7}}), tmp_path, None, None)
    assert resolved.input.size == (160, 160)
    assert resolved.notes == ("random weights: no checkpoint is named",)
    assert load(resolved).classes == resolved.classes == 7
    assert resolve(spec(source={"timm": "resnet18"}), tmp_path, None, None).labels[9] == "ostrich"
    blamed(("source", "timm"), 'no model "resnet5O".*did you mean', source={"timm": "resnet5O"})
    blamed(("source", "timm"), 'no pretrained "resnet50.a1_in2k".*did you mean', source={"timm": "resnet50.a1_in2k"})
    blamed(
        ("source", "kwargs", "pretrained"),
        "in `checkpoint`",
        source={"timm": "resnet18", "kwargs": {"pretrained": True}},
    )


@pytest.fixture
def vit(tmp_path):
    transformers = pytest.importorskip("transformers", exc_type=ImportError)
    import_torchvision()
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=8,
        id2label={0: "cat", 1: "dog"}, label2id={"cat": 0, "dog": 1},
    )  # fmt: skip
    torch.manual_seed(2)
    network = transformers.ViTForImageClassification(config).eval()
    network.save_pretrained(tmp_path / "vit")
    processor = {"size": {"height": 32, "width": 32}, "image_mean": [0.4] * 3, "image_std": [0.3] * 3,
                 "do_normalize": True, "rescale_factor": 1 / 255}  # fmt: skip
    (tmp_path / "vit" / "preprocessor_config.json").write_text(json.dumps(processor))
    return network


@pytest.mark.parametrize("checkpoint", [None, "vit"])
def test_a_transformers_folder_brings_weights_preprocessing_and_labels(tmp_path, vit, checkpoint):
    resolved = resolve(spec(source={"transformers": "vit"}, checkpoint=checkpoint), tmp_path, None, None)
    classifier = load(resolved)
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(classifier.logits(x), vit(x).logits)
    assert (classifier.labels, resolved.input.mean, resolved.family) == (("cat", "dog"), (0.4, 0.4, 0.4), "vit")
    assert str(tmp_path) not in json.dumps(resolved.identity)


def test_a_transformers_name_that_is_not_here_is_not_fetched(vit):
    blamed(("source", "transformers"), "nothing is downloaded", source={"transformers": "org/no-such-model"})


def test_a_transformers_folder_without_a_head_is_refused(tmp_path, vit):
    vit.vit.save_pretrained(tmp_path / "headless")
    config = json.loads((tmp_path / "vit" / "config.json").read_text())
    (tmp_path / "headless" / "config.json").write_text(json.dumps(config))
    with pytest.raises(FieldError, match=r"lacks 2 weights of an image classifier: classifier.bias"):
        resolve(spec(source={"transformers": "headless"}, input=SMALL), tmp_path, None, None)


REMOTE = """
from pathlib import Path
import transformers
from torch import nn
Path(r"CANARY").touch()

class Config(transformers.PretrainedConfig):
    model_type = "my-own"

class Net(transformers.PreTrainedModel):
    config_class = Config
    def __init__(self, config):
        super().__init__(config)
        self.fc = nn.Linear(3 * 16 * 12, 2)
        self.post_init()
    def forward(self, x):
        return self.fc(x.flatten(1))
"""


@pytest.fixture
def remote(tmp_path, monkeypatch):
    """A transformers folder whose config.json names code beside it."""
    pytest.importorskip("transformers", exc_type=ImportError)
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    folder = tmp_path / "own"
    folder.mkdir()
    names = {"AutoConfig": "net.Config", "AutoModelForImageClassification": "net.Net"}
    (folder / "config.json").write_text(json.dumps({"model_type": "my-own", "auto_map": names}))
    (folder / "net.py").write_text(REMOTE.replace("CANARY", str(tmp_path / "canary")))
    from safetensors.torch import save_file

    save_file(
        {"fc.weight": torch.ones(2, 576), "fc.bias": torch.zeros(2)}, folder / "model.safetensors", {"format": "pt"}
    )
    return folder


@pytest.mark.parametrize("checkpoint", [None, "own/model.safetensors"])
@pytest.mark.parametrize("value", [None, False, "true", 1])
def test_code_that_a_config_names_does_not_run(tmp_path, remote, checkpoint, value):
    kwargs = {} if value is None else {"trust_remote_code": value}
    source = {"transformers": "own", "kwargs": kwargs}
    with pytest.raises(FieldError, match=r"which is not run; .*trust_remote_code: true"):
        load(resolve(spec(source=source, checkpoint=checkpoint, input=SMALL), tmp_path, None, None))
    assert not (tmp_path / "canary").exists()


def test_code_that_the_job_trusts_runs_and_counts(tmp_path, remote):
    source = {"transformers": "own", "kwargs": {"trust_remote_code": True}}
    fields = {"source": source, "checkpoint": "own/model.safetensors", "input": SMALL}
    resolved = resolve(spec(**fields), tmp_path, None, None)
    assert load(resolved).classes == 2
    (remote / "net.py").write_text((remote / "net.py").read_text() + "\n")
    assert resolve(spec(**fields), tmp_path, None, None).model12 != resolved.model12
    with pytest.raises(ModelError, match="its transformers own changed since the job began"):
        load(resolved)


def test_what_a_config_calls_its_type_is_a_plain_name(tmp_path, vit):
    path = tmp_path / "vit" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_type": "v\x1b[2Jit"}))
    assert describe(spec(source={"transformers": "vit"}), tmp_path).family == "vit"

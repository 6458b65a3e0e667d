"""`classmodels fetch`: a mirror from which the same job is the same job, on a machine without any network."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from classmodels.models import named, pretrained
from classmodels.models.resolve import resolve
from classmodels.models.spec import FieldError, ModelSpec
from classmodels.models.torchvision_compat import import_torchvision
from classmodels.s3 import S3Settings, connect, parse_uri
from web import CERTIFICATE, WebServer

Command = Callable[..., Any]
LABELS = b"ant\nbee\ncrow\ndog\neel\n"


@pytest.fixture
def secure(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    server = WebServer(tls=True)
    yield server
    server.stop()


@pytest.fixture
def remote_job(
    tmp_path: Path,
    write_job: Callable[..., Path],
    tiny_data: Callable[[], dict[str, Any]],
    secure: WebServer,
    bucket_uri: str,
    cache_root: Path,
) -> Path:
    """Two models, one in a bucket and one at https, with labels in the bucket."""
    write_job(tmp_path)
    checkpoint, model = (tmp_path / "tiny.safetensors").read_bytes(), tiny_data()["models"][0]
    bucket, prefix = parse_uri(bucket_uri)
    client = connect(S3Settings())
    client.put_object(Bucket=bucket, Key=f"{prefix}/w.pth", Body=checkpoint, Metadata={"sha256": digest(checkpoint)})
    client.put_object(Bucket=bucket, Key=f"{prefix}/labels.txt", Body=LABELS)
    (tmp_path / "tiny.safetensors").unlink()
    (tmp_path / "labels.txt").unlink()
    models = [
        model | {"name": "one", "checkpoint": f"{bucket_uri}/w.pth", "labels": f"{bucket_uri}/labels.txt"},
        model | {"name": "two", "checkpoint": secure.put("/w.pth", checkpoint), "labels": None},
    ]
    job: Path = write_job(tmp_path, models=models, classes=[0, 1])
    (tmp_path / "tiny.safetensors").unlink()
    (tmp_path / "labels.txt").unlink()
    return job


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def units(run_command: Command, job: Path) -> Any:
    ended = run_command("plan", job, "--json")
    assert ended.code == 0, ended.err
    return json.loads(ended.out)


def test_a_mirror_gives_the_same_job_with_no_server_left(
    remote_job: Path,
    secure: WebServer,
    bucket_uri: str,
    run_command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended = run_command("fetch", remote_job, tmp_path / "mirror")
    assert ended.code == 0, ended.err
    sha12 = digest(secure.pages["/w.pth"].data)[:12]
    assert ended.out.splitlines() == [
        f"one: {bucket_uri}/w.pth (sha256 {sha12})",
        f"one: {bucket_uri}/labels.txt (sha256 {digest(LABELS)[:12]})",
        f"two: {secure.url}/w.pth (sha256 {sha12})",
        f"bring along with {remote_job}: ./src",
        f"on a machine that has {tmp_path}/mirror (or a copy: change the paths), no network is needed after",
        f"  export CLASSMODELS_CACHE={tmp_path}/mirror",
    ]
    with_network = units(run_command, remote_job)

    # Another machine: a copy of the mirror, nothing in the environment, nobody who answers.
    shutil.copytree(tmp_path / "mirror", tmp_path / "copy", copy_function=shutil.copyfile)
    monkeypatch.setenv("CLASSMODELS_CACHE", str(tmp_path / "copy"))
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("there is no network"))
    assert units(run_command, remote_job) == with_network
    ran = run_command("run", remote_job)
    assert ran.code == 0, ran.err
    assert ran.out.startswith("4 units done, 0 were done already, 0 failed")
    assert run_command("validate", remote_job).code == 0
    missing = run_command("plan", remote_job, "--set", "models.0.checkpoint=s3://bucket/new.pth")
    assert missing.code == 2
    assert f"s3://bucket/new.pth is not in the mirror {tmp_path}/copy" in missing.err
    assert "run classmodels fetch JOB" in missing.err


def test_fetching_again_fetches_only_what_changed(
    remote_job: Path, secure: WebServer, run_command: Command, tmp_path: Path
) -> None:
    run_command("fetch", remote_job, tmp_path / "mirror")
    run_command("fetch", remote_job, tmp_path / "mirror")
    assert secure.seen == ["HEAD /w.pth", "GET /w.pth", "HEAD /w.pth"]
    secure.put("/w.pth", b"retrained")
    again = json.loads(run_command("fetch", remote_job, tmp_path / "mirror", "--json").out)
    assert secure.seen[3:] == ["HEAD /w.pth", "GET /w.pth"]
    assert again["files"][-1]["sha256"] == digest(b"retrained")
    assert again["environment"] == {"CLASSMODELS_CACHE": f"{tmp_path}/mirror"}


def test_what_cannot_be_had_is_told_all_at_once_and_leaves_no_mirror(
    remote_job: Path, secure: WebServer, run_command: Command, tmp_path: Path, bucket_uri: str
) -> None:
    secure.pages.clear()
    ended = run_command("fetch", remote_job, tmp_path / "mirror", "--set", f"models.0.checkpoint={bucket_uri}/no.pth")
    assert ended.code == 2
    assert [line.partition("model ")[2][:3] for line in ended.err.splitlines()] == ["one", "two"]
    assert not (tmp_path / "mirror" / "mirror.json").exists()


def test_the_cache_itself_does_not_become_a_mirror(remote_job: Path, run_command: Command, cache_root: Path) -> None:
    ended = run_command("fetch", remote_job, cache_root)
    assert ended.code == 2
    assert "is the cache of this machine: name another folder" in ended.err


def test_what_must_travel_or_be_installed_otherwise_is_named(
    write_job: Callable[..., Path], tiny_data: Callable[[], dict[str, Any]], run_command: Command, tmp_path: Path
) -> None:
    model = tiny_data()["models"][0]
    job = write_job(tmp_path, models=[model, model | {"name": "b", "checkpoint": "package:some_package/w.pth"}])
    out = run_command("fetch", job, tmp_path / "mirror").out
    assert f"bring along with {job}: ./src, ./tiny.safetensors, ./labels.txt\n" in out
    assert "install there: some_package\n" in out


# Weights that a library knows by name


def test_torchvisions_weights_are_found_by_torchvision_in_the_mirror(
    write_job: Callable[..., Path],
    tiny_data: Callable[[], dict[str, Any]],
    run_command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    models = import_torchvision().models
    torch.manual_seed(3)
    torch.save(models.squeezenet1_1().state_dict(), tmp_path / "w.pth")
    name = f"squeezenet1_1-{digest((tmp_path / 'w.pth').read_bytes())[:8]}.pth"
    monkeypatch.setattr(models.SqueezeNet1_1_Weights, "url", property(lambda self: f"https://host/{name}"))
    here = tmp_path / "home" / "hub" / "checkpoints"
    here.mkdir(parents=True)
    shutil.copy(tmp_path / "w.pth", here / name)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    model = {"name": "s", "source": {"torchvision": "squeezenet1_1"}, "checkpoint": "IMAGENET1K_V1"}
    job = write_job(tmp_path, models=[model], classes=[9], code=...)
    before = units(run_command, job)
    ended = run_command("fetch", job, tmp_path / "mirror")
    assert f"  export TORCH_HOME={tmp_path}/mirror/torch\n" in ended.out
    shutil.rmtree(tmp_path / "home")
    assert "is not in the cache and nothing is downloaded" in run_command("plan", job).err
    monkeypatch.setenv("TORCH_HOME", f"{tmp_path}/mirror/torch")
    assert units(run_command, job) == before
    assert torch.hub.load_state_dict_from_url(f"https://host/{name}", check_hash=True)  # no server: it is there

    asked = []
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda url, path, **_: asked.append((url, path)))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    ended = run_command("fetch", job, tmp_path / "other")
    assert asked == [(f"https://host/{name}", f"{tmp_path}/other/torch/hub/checkpoints/{name}")]
    assert ended.code == 2  # nothing came


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the hub that holds org/tiny, laid out as the hub's client does."""
    pytest.importorskip("transformers", exc_type=ImportError)
    folder = tmp_path / "hub"
    repository = folder / "models--org--tiny"
    for name in ("blobs", "refs", "snapshots/abc"):
        (repository / name).mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    (repository / "blobs" / "1").write_text('{"model_type": "vit", "num_labels": 3}')
    (repository / "snapshots" / "abc" / "config.json").symlink_to("../../blobs/1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))
    return folder


def test_a_repository_of_the_hub_is_found_by_its_client_in_the_mirror(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "w.pth").write_bytes(b"x")
    given = {"size": 8, "mean": [0.5] * 3, "std": [0.5] * 3}
    fields = {"name": "t", "source": {"transformers": "org/tiny"}, "checkpoint": "w.pth", "input": given}
    spec = ModelSpec.model_validate(fields)
    before = resolve(spec, tmp_path, None, None).model12
    assert named.mirror_named(spec, tmp_path, tmp_path / "mirror") is not None
    shutil.rmtree(hub)
    with pytest.raises(FieldError, match="nothing is downloaded"):
        resolve(spec, tmp_path, None, None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "mirror" / "huggingface" / "hub"))
    assert resolve(spec, tmp_path, None, None).model12 == before


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_of_a_repository_that_is_not_here_only_what_is_needed_is_fetched(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    asked: list[list[str]] = []

    def snapshot(name: str, cache_dir: Path, allow_patterns: list[str]) -> str:
        asked.append(allow_patterns)
        folder = Path(cache_dir) / "models--org--new" / "snapshots" / "def"
        folder.mkdir(parents=True, exist_ok=True)
        if any(pattern.endswith(kind) for pattern in allow_patterns):
            (folder / f"pytorch_model.{kind}").touch()
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    spec = ModelSpec.model_validate({"name": "t", "source": {"transformers": "org/new"}})
    found = named.mirror_named(spec, tmp_path, tmp_path / "mirror")
    assert found == tmp_path / "mirror/huggingface/hub/models--org--new/snapshots/def"
    assert len(asked) == (2 if kind == "safetensors" else 3)
    assert not any("*.py" in patterns for patterns in asked)
    assert pretrained.trusts_code(spec.source) is False
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download", lambda *_, **__: (_ for _ in ()).throw(OSError("no route"))
    )
    with pytest.raises(FieldError, match=r"transformers org/new cannot be fetched: .*no route"):
        named.mirror_named(spec, tmp_path, tmp_path / "mirror")

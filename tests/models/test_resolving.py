"""Resolving: what is found, what is digested, and which field is blamed."""

import json
import sys

import pytest
import torch
from torch import nn

from classmodels.errors import ModelError
from classmodels.models.classifier import load
from classmodels.models.resolve import digest_code, digest_state, resolve
from classmodels.models.sources import Description, check_factory
from classmodels.models.spec import FieldError, InputSpec, ModelSpec, Source

NET = """
from torch import nn

def make(classes=3, **ignored):
    return nn.Sequential(nn.Flatten(), nn.Linear(48, classes))
"""
INPUT = {"size": 4, "mean": [0.5] * 3, "std": [0.2] * 3}


@pytest.fixture
def job(tmp_path, monkeypatch):
    """A job folder with code, weights and labels; returns resolve for it, any field changed."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "my_job_net.py").write_text(NET)
    torch.manual_seed(0)
    state = nn.Sequential(nn.Flatten(), nn.Linear(48, 3)).state_dict()
    torch.save({"state_dict": state, "ema": state}, tmp_path / "w.pth")
    (tmp_path / "labels.txt").write_text("a\nb\nc\n")

    def resolved(base=tmp_path, code_sha256=None, **changes):
        fields = {
            "name": "net",
            "source": {"factory": "my_job_net:make"},
            "checkpoint": "w.pth",
            "input": INPUT,
            "labels": "labels.txt",
            **changes,
        }
        return resolve(ModelSpec.model_validate(fields), base, base / "src", code_sha256)

    yield resolved
    sys.modules.pop("my_job_net", None)


def test_everything_is_found_beside_the_job_file(job, tmp_path):
    resolved = job()
    assert resolved.checkpoint == tmp_path / "w.pth"
    assert resolved.labels == ("a", "b", "c")
    assert resolved.classes == 3
    assert resolved.input == InputSpec(size=(4, 4), mean=(0.5,) * 3, std=(0.2,) * 3)
    assert resolved.family == "my_job_net.make"
    assert len(resolved.model12) == 12
    assert int(resolved.model12, 16) >= 0


def test_resolving_a_checkpoint_neither_imports_the_code_nor_reads_the_weights(job, tmp_path):
    (tmp_path / "src" / "my_job_net.py").write_text("raise SystemExit('ran')")
    (tmp_path / "w.pth").write_bytes(b"no checkpoint at all")
    assert job().model12
    assert "my_job_net" not in sys.modules


@pytest.mark.parametrize(
    "changes",
    [
        {"select": "ema"},
        {"source": {"factory": "my_job_net:make", "args": [3]}},
        {"source": {"factory": "my_job_net:make", "kwargs": {"classes": 3}}},
        {"source": {"factory": "my_job_net:other"}},
        {"input": {**INPUT, "size": [4, 5]}},
        {"input": {**INPUT, "mean": [0.5, 0.5, 0.4]}},
        {"input": {**INPUT, "std": [0.2, 0.2, 0.3]}},
        {"head": "sigmoid"},
        {"output": "logits"},
        {"checkpoint": None},
    ],
)
def test_what_changes_the_classifier_changes_its_identity(job, changes):
    assert job(**changes).model12 != job().model12


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "another"},
        {"labels": None},
        {"family": "mine"},
        {"licence": "MIT"},
        {"role": "judge"},
        {"checkpoint": "./copy.pth"},
        {"input": {**INPUT, "size": [4, 4]}},
    ],
)
def test_what_does_not_change_the_classifier_keeps_its_identity(job, changes, tmp_path):
    (tmp_path / "copy.pth").write_bytes((tmp_path / "w.pth").read_bytes())
    assert job(**changes).model12 == job().model12


def test_one_byte_of_the_checkpoint_or_of_the_code_changes_the_identity(job, tmp_path):
    identities = {job().model12}
    code = tmp_path / "src" / "my_job_net.py"
    code.write_text(NET + "\n")
    identities.add(job().model12)
    code.write_text(NET)
    content = bytearray((tmp_path / "w.pth").read_bytes())
    content[-1] ^= 1
    (tmp_path / "w.pth").write_bytes(content)
    identities.add(job().model12)
    assert len(identities) == 3


def test_the_same_job_in_another_folder_has_the_same_identity(job, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "src").mkdir(parents=True)
    for name in ("src/my_job_net.py", "w.pth", "labels.txt"):
        (elsewhere / name).write_bytes((tmp_path / name).read_bytes())
    assert job(base=elsewhere).model12 == job().model12
    assert job(base=elsewhere, checkpoint=None).model12 == job(checkpoint=None).model12
    assert str(tmp_path) not in json.dumps(job().identity)


def test_the_digest_of_code_may_be_handed_in(job, tmp_path):
    assert job(code_sha256=digest_code(tmp_path / "src")).model12 == job().model12
    assert job(code_sha256="other").model12 != job().model12


def test_code_that_the_network_does_not_come_from_is_no_part_of_its_identity(job):
    source = {"factory": "efficientnet_lite_pytorch:EfficientNet.from_name", "args": ["efficientnet-lite0"]}
    assert job(source=source, code_sha256="a").model12 == job(source=source, code_sha256="b").model12


def test_the_digest_of_a_network_sees_names_shapes_types_and_bytes():
    plain = nn.Linear(2, 3)
    state = {key: value.clone() for key, value in plain.state_dict().items()}

    def digest(**changes):
        module = nn.Module()
        for key, value in {**state, **changes}.items():
            module.register_buffer(key, value)
        return digest_state(module)

    reference = digest()
    assert digest() == reference
    others = [
        digest(extra=torch.zeros(1)),
        digest(weight=state["weight"].reshape(2, 3)),
        digest(weight=state["weight"].double()),
        digest(bias=state["bias"] + 1),
        digest(weight=state["weight"].view(torch.int32)),
    ]
    assert len({reference, *others}) == 6
    assert digest(weight=state["weight"].t().contiguous().t()) == reference  # layout is no content
    assert digest(empty=torch.empty(0), scalar=torch.tensor(1.0)) != reference


@pytest.mark.parametrize(
    ("field", "said", "changes"),
    [
        (("checkpoint",), 'did you mean "w.pth"', {"checkpoint": "v.pth"}),
        (("labels",), "does not exist", {"labels": "none.txt"}),
        (("input",), r"give `input` with size \(a number or \[height, width\]\), mean and std", {"input": None}),
        (("select",), "none is named", {"select": "ema", "checkpoint": None}),
        (("source",), "may hold text, finite numbers", {"source": {"factory": "my_job_net:make", "args": [{1, 2}]}}),
        (("source",), "finite numbers", {"source": {"factory": "my_job_net:make", "args": [float("nan")]}}),
        (
            ("source", "factory"),
            'no attribute "mak"; did you mean "make"',
            {"source": {"factory": "my_job_net:mak"}, "checkpoint": None},
        ),
    ],
)
def test_errors_carry_the_field_to_blame(job, field, said, changes):
    with pytest.raises(FieldError, match=said) as caught:
        job(**changes)
    assert caught.value.field == field
    assert caught.value.exit_code == 2


def test_labels_that_do_not_fit_the_network_are_found_when_it_is_loaded(job, tmp_path):
    (tmp_path / "labels.txt").write_text("a\nb\n")
    with pytest.raises(FieldError, match="3 classes and 2 labels"):
        load(job())


@pytest.mark.parametrize("content", ["other weights", "half of them", None])
def test_a_checkpoint_that_changed_since_it_was_resolved_is_refused(job, tmp_path, content):
    resolved = job()
    assert load(resolved)
    path = tmp_path / "w.pth"
    if content == "other weights":
        torch.save(nn.Sequential(nn.Flatten(), nn.Linear(48, 3)).state_dict(), path)
    elif content is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ModelError, match=r"model net: checkpoint .*w\.pth changed since the job began"):
        load(resolved)


def test_code_that_changed_since_it_was_resolved_is_refused(job, tmp_path):
    resolved = job()
    (tmp_path / "src" / "my_job_net.py").write_text(NET + "\n")
    with pytest.raises(ModelError, match="code of its factory my_job_net:make changed since the job began"):
        load(resolved)
    (tmp_path / "src" / "my_job_net.py").write_text(NET)
    assert load(resolved)


def test_a_known_digest_of_the_code_is_not_taken_again(job, tmp_path, monkeypatch):
    digest, reads = digest_code(tmp_path / "src"), []
    for module in ("user_code", "resolve"):
        monkeypatch.setattr(f"classmodels.models.{module}.digest_code", lambda code: reads.append(code) or digest)
    for _ in range(3):
        check_factory(Source(factory="my_job_net:make"), tmp_path / "src", digest)
        job(code_sha256=digest)
        job(code_sha256=digest, checkpoint=None)
    assert reads == []
    load(job(code_sha256=digest))  # time has gone by
    assert reads == [tmp_path / "src"]


def test_labels_of_a_source_that_no_terminal_should_see_are_refused(job, monkeypatch):
    known = Description(InputSpec(), ("a", "b\x1b[2J"), 2, "net", {})
    monkeypatch.setattr("classmodels.models.sources.describe", lambda spec, base: known)
    with pytest.raises(FieldError, match=r"give `labels`: label 1 holds the character #x001b") as caught:
        job(labels=None)
    assert caught.value.field == ("labels",)
    assert job().labels == ("a", "b", "c")


def test_a_resolved_job_loads(job):
    classifier = load(job())
    assert (classifier.name, classifier.classes, classifier.label(1)) == ("net", 3, "b")
    assert classifier.resolved is not None
    assert classifier.notes == (
        "weights taken from the checkpoint's entry state_dict",
        "ignored in the checkpoint: ema",
    )


def test_resolving_a_job_with_checkpoints_does_without_torch(job, tmp_path):
    import subprocess

    script = (
        "import sys; from pathlib import Path; from classmodels.models.resolve import resolve; "
        "from classmodels.models.spec import ModelSpec; "
        "resolve(ModelSpec(name='n', source={'factory': 'my_job_net:make'}, checkpoint='w.pth', input={}, "
        "labels='imagenet-1k'), Path('.'), Path('src'), None); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=False).returncode == 0

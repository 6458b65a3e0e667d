"""The user's code: found in the right order, imported fresh, digested by content; errors blame the factory."""

import os
import sys
import zipfile
from pathlib import Path

import pytest

from classmodels.models.sources import check_factory
from classmodels.models.spec import FieldError, Source
from classmodels.models.user_code import digest_code, digest_factory, import_factory, importable

MODULE = """
import torch

class Nets:
    @staticmethod
    def small(classes=2):
        return torch.nn.Linear(4, classes)
"""


@pytest.fixture(autouse=True)
def a_clean_import_system(monkeypatch, tmp_path):
    """The working directory is empty, and modules imported by a test are forgotten after it."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    path = list(sys.path)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("my_"):
            del sys.modules[name]
    assert sys.path == path


def folder(parent: Path, name: str = "src", **files: str) -> Path:
    root = parent / name
    for path, content in files.items():
        target = root / (path.replace("__slash__", "/") + ".py")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)
    return root


def test_a_factory_is_found_in_the_code_folder_then_in_the_working_directory(tmp_path):
    folder(tmp_path, "work", my_net="WHERE = lambda: 'work'")
    assert import_factory("my_net:WHERE", None)() == "work"
    code = folder(tmp_path, my_net="WHERE = lambda: 'code'")
    assert import_factory("my_net:WHERE", code)() == "code"
    assert import_factory("my_net:WHERE", None)() == "work"


def test_code_that_was_edited_is_imported_again(tmp_path):
    code = folder(tmp_path, my_net="VALUE = lambda: 1")
    assert import_factory("my_net:VALUE", code)() == 1
    first = sys.modules["my_net"]
    assert import_factory("my_net:VALUE", code)() == 1
    assert sys.modules["my_net"] is first
    folder(tmp_path, my_net="VALUE = lambda: 22")
    assert import_factory("my_net:VALUE", code)() == 22


def test_a_factory_in_a_wheel_is_imported(tmp_path):
    with zipfile.ZipFile(tmp_path / "my.whl", "w") as wheel:
        wheel.writestr("my_wheeled/__init__.py", MODULE)
    factory = import_factory("my_wheeled:Nets.small", tmp_path / "my.whl")
    assert factory(classes=5).out_features == 5
    sha256 = digest_code(tmp_path / "my.whl")
    assert digest_factory("my_wheeled:Nets.small", tmp_path / "my.whl", sha256) == sha256


@pytest.mark.parametrize(
    ("factory", "said"),
    [
        ("my_nett:Nets.small", 'no module "my_nett" .*did you mean "my_net"'),
        ("my_pack.nett:x", 'no module "my_pack.nett" .*did you mean "my_pack.net"'),
        ("my_net.inner:x", 'no module "my_net.inner"'),
        ("my_net:Nots.small", 'my_net has no attribute "Nots"; did you mean "Nets"'),
        ("my_net:Nets.smal", 'my_net.Nets has no attribute "smal"; did you mean "small"'),
        ("my_net:NUMBER", "is a int, not something to call"),
        ("my_broken:x", "importing my_broken raised ValueError: first$"),
        ("my_syntax:x", "importing my_syntax raised SyntaxError"),
        ("my_exit:x", "importing my_exit raised SystemExit"),
        ("my_needs:x", "importing my_needs raised ModuleNotFoundError: No module named 'not_there'"),
    ],
)
def test_a_factory_that_cannot_be_imported_blames_itself_in_one_sentence(tmp_path, factory, said):
    code = folder(
        tmp_path,
        my_net=MODULE + "NUMBER = 3\n",
        my_pack__slash____init__="",
        my_pack__slash__net="",
        my_broken="raise ValueError('first\\nsecond')",
        my_syntax="def",
        my_exit="raise SystemExit(3)",
        my_needs="import not_there",
    )
    with pytest.raises(FieldError, match=said) as caught:
        check_factory(Source(factory=factory), tmp_path, code)
    assert caught.value.field == ("source", "factory")
    assert "\n" not in str(caught.value)


def test_checking_a_factory_does_not_call_it(tmp_path):
    code = folder(tmp_path, my_net="def make():\n    raise SystemExit('called')")
    check_factory(Source(factory="my_net:make"), tmp_path, code)
    check_factory(Source(torchvision="resnet18"), tmp_path, None)


def test_the_digest_of_code_is_of_names_and_contents_only(tmp_path):
    first = folder(tmp_path, "a", net="x = 1", sub__slash__more="y = 2")
    second = folder(tmp_path, "b", sub__slash__more="y = 2", net="x = 1")
    (second / "__pycache__").mkdir()
    (second / "__pycache__" / "net.cpython-311.pyc").write_bytes(b"compiled")
    (second / "stray.pyc").write_bytes(b"compiled")
    (second / ".git").mkdir()
    (second / ".git" / "HEAD").write_text("ref")
    os.utime(second / "net.py", (1, 1))
    assert digest_code(first) == digest_code(second)
    for changed in (
        folder(tmp_path, "c", net="x = 2", sub__slash__more="y = 2"),
        folder(tmp_path, "d", net2="x = 1", sub__slash__more="y = 2"),
        folder(tmp_path, "e", net="x = 1", more="y = 2"),
        folder(tmp_path, "f", net="x = 1"),
    ):
        assert digest_code(changed) != digest_code(first)


def test_code_that_is_no_folder_or_wheel_is_refused(tmp_path, monkeypatch):
    (tmp_path / "text").write_text("x")
    monkeypatch.setattr("classmodels.models.user_code._MAX_DIGESTED", 2)
    for path, said in [
        (tmp_path / "none", "does not exist"),
        (tmp_path / "text", "no wheel"),
        (folder(tmp_path, "many", a="", b="", c=""), "more than 2 files"),
    ]:
        with pytest.raises(FieldError, match=said) as caught:
            digest_code(path)
        assert caught.value.field == ("code",)


def test_a_module_in_the_working_directory_counts_as_user_code(tmp_path):
    folder(tmp_path, "work", my_net=MODULE, my_other="x = 1")
    digest = digest_factory("my_net:Nets.small", None, None)
    assert digest is not None
    folder(tmp_path, "work", my_other="x = 2")
    assert digest_factory("my_net:Nets.small", None, None) == digest
    folder(tmp_path, "work", my_net=MODULE + "\n")
    assert digest_factory("my_net:Nets.small", None, None) != digest


def test_a_package_in_the_working_directory_counts_whole(tmp_path):
    folder(tmp_path, "work", my_pack__slash____init__="", my_pack__slash__net=MODULE, my_pack__slash__layers="x = 1")
    digest = digest_factory("my_pack.net:Nets.small", None, None)
    folder(tmp_path, "work", my_pack__slash__layers="x = 2")
    assert digest_factory("my_pack.net:Nets.small", None, None) != digest


def test_installed_packages_and_unknown_modules_are_no_user_code(tmp_path):
    code = folder(tmp_path, my_net=MODULE)
    for factory in (
        "efficientnet_lite_pytorch:EfficientNet.from_name",
        "torch.nn:Linear",
        "json:loads",
        "sys:exit",
        "my_x:y",
    ):
        assert digest_factory(factory, code, "digest of code") is None
    assert digest_factory("my_net:Nets.small", code, "digest of code") == "digest of code"
    assert digest_factory("my_net:Nets.small", code, None) == digest_code(code)


def test_digesting_runs_nothing(tmp_path):
    code = folder(tmp_path, my_trap__slash____init__="raise SystemExit('ran')", my_trap__slash__net="")
    assert digest_factory("my_trap.net:make", code, "d") == "d"
    assert "my_trap" not in sys.modules


def test_paths_that_an_import_adds_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    with importable(tmp_path):
        assert sys.path[:2] == [str(tmp_path), os.getcwd()]
        sys.path.append("/added/by/an/import")
    assert sys.path[-1] == "/added/by/an/import"
    assert str(tmp_path) not in sys.path
    sys.path.remove("/added/by/an/import")

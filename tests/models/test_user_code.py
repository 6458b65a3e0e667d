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
        check_factory(Source(factory=factory), code)
    assert caught.value.field == ("source", "factory")
    assert "\n" not in str(caught.value)


def test_checking_a_factory_does_not_call_it(tmp_path):
    code = folder(tmp_path, my_net="def make():\n    raise SystemExit('called')")
    check_factory(Source(factory="my_net:make"), code)
    check_factory(Source(torchvision="resnet18"), None)


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
    monkeypatch.setattr("classmodels.models.folders.MAX_ENTRIES", 2)
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


def digest(factory="my_net:make", code=None):
    return digest_factory(factory, code, None)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("import my_layers", "my_layers"),
        ("from my_layers import conv", "my_layers"),
        ("def make():\n    from my_layers import conv", "my_layers"),
        ("import importlib\nlayers = importlib.import_module('my_layers')", "my_layers"),
        ("try:\n    import my_layers as layers\nexcept ImportError:\n    pass", "my_layers"),
        ("import my_first", "my_layers"),
        ("import my_whole.net", "my_whole__slash__other"),
        ("from my_open import part", "my_open__slash__part"),
        ("from my_open.deep import part", "my_open__slash__deep__slash__part"),
        ("import my_open.relative", "my_open__slash__part"),
    ],
)
def test_what_a_factory_in_the_working_directory_imports_from_beside_it_counts(tmp_path, text, path):
    beside = {
        "my_layers": "import my_net",  # a circle
        "my_first": "import json, torch, my_not_there\nimport my_layers",
        "my_whole__slash____init__": "",
        "my_whole__slash__net": "",
        "my_whole__slash__other": "",
        "my_open__slash__part": "",
        "my_open__slash__relative": "from . import part",
        "my_open__slash__deep__slash__part": "",
    }
    folder(tmp_path, "work", **beside, my_net=text)
    first = digest()
    (tmp_path / "work" / "my_open" / "weights.bin").write_bytes(b"not code")
    folder(tmp_path, "work", my_unrelated="x = 1")
    assert digest() == first
    folder(tmp_path, "work", **{path: beside[path] + "\nx = 2"})
    assert digest() != first


def test_installed_packages_below_the_working_directory_do_not_count(tmp_path):
    root = folder(tmp_path, "work", my_net="import my_layers, my_dependency\n", my_layers="")
    site = ".venv__slash__lib__slash__python3__slash__site-packages__slash__my_dependency"
    folder(tmp_path, "work", **{site: "x = 1"})
    sys.path.append(str(root / ".venv" / "lib" / "python3" / "site-packages"))
    try:
        first = digest()
        folder(tmp_path, "work", **{site: "x = 2"})
        assert digest() == first
    finally:
        sys.path.pop()


def test_the_digest_does_not_depend_on_what_was_imported_before(tmp_path):
    text = "import sys\nsys.path.insert(0, 'hidden')\nimport my_hidden, my_layers\nmake = dict\n"
    folder(tmp_path, "work", my_net=text, my_layers="x = 1", hidden__slash__my_hidden="")
    first = digest()
    before = list(sys.path)
    try:
        import_factory("my_net:make", None)
        assert "my_layers" in sys.modules
        assert digest() == first
        sys.path[:] = before
        other = folder(tmp_path, "elsewhere", my_layers="x = 2")
        assert import_factory("my_layers:__name__.upper", other)() == "MY_LAYERS"
        assert digest() == first
    finally:
        sys.path[:] = before


def test_the_same_files_in_another_folder_have_the_same_digest(tmp_path, monkeypatch):
    digests = set()
    for name in ("work", "another"):
        monkeypatch.chdir(folder(tmp_path, name, my_net="import my_layers", my_layers="x = 1"))
        digests.add(digest())
    assert len(digests) == 1


def test_code_that_imports_from_the_working_directory_counts_both(tmp_path):
    code = folder(tmp_path, my_net="import my_layers", my_inner="")
    assert digest(code=code) == digest_code(code)
    folder(tmp_path, "work", my_layers="x = 1")
    first = digest(code=code)
    folder(tmp_path, "work", my_layers="x = 2")
    second = digest(code=code)
    folder(tmp_path, my_inner="x = 3")
    assert len({first, second, digest(code=code), digest_code(code)}) == 4


@pytest.mark.parametrize("place", ["work", "src"])
def test_an_edited_module_that_a_factory_imports_is_imported_again(tmp_path, place):
    code = tmp_path / "src" if place == "src" else None
    folder(tmp_path, place, my_net="from my_layers import value\ndef make():\n    return value", my_layers="value = 1")
    assert import_factory("my_net:make", code)() == 1
    folder(tmp_path, place, my_layers="value = 22")
    assert import_factory("my_net:make", code)() == 22


def test_a_module_of_the_same_name_in_another_jobs_folder_is_not_taken_for_it(tmp_path):
    for name, value in (("a", 1), ("b", 2)):
        code = folder(tmp_path, name, my_open__slash__net=f"make = lambda: {value}", my_layers=f"value = {value}")
        assert import_factory("my_open.net:make", code)() == value
        code = folder(tmp_path, name, my_net="from my_layers import value\ndef make():\n    return value")
        assert import_factory("my_net:make", code)() == value


def test_links_to_folders_count_as_what_they_lead_to(tmp_path):
    shared = folder(tmp_path, "shared", net="x = 1", deep__slash__more="y = 1")
    code, copy = folder(tmp_path, my_net=""), folder(tmp_path, "copy", my_net="")
    (code / "linked").symlink_to(shared)
    folder(tmp_path, "copy", linked__slash__net="x = 1", linked__slash__deep__slash__more="y = 1")
    first = digest_code(code)
    assert first == digest_code(copy)
    folder(tmp_path, "shared", deep__slash__more="y = 2")
    assert digest_code(code) != first


def test_links_in_a_circle_end(tmp_path, monkeypatch):
    code = folder(tmp_path, my_net="", inner__slash__more="")
    (code / "inner" / "loop").symlink_to(code)
    first = digest_code(code)
    (code / "inner" / "loop").unlink()
    (code / "inner" / "loop").symlink_to(code / "inner")
    assert digest_code(code) != first
    for number in range(9):  # each leads to all the others: 9! ways
        folder(tmp_path, f"ring__slash__{number}".replace("__slash__", "/"), net="")
    for number in range(9):
        for other in range(9):
            (tmp_path / "ring" / str(number) / f"to{other}").symlink_to(tmp_path / "ring" / str(other))
    with pytest.raises(FieldError, match="more than 20,000 files"):
        digest_code(tmp_path / "ring")

"""The user's own code: made importable, imported, and digested so that a changed network is a changed identity.

A factory's module is looked for in the job's `code` (folder or wheel), then in the working directory, then among
the installed packages. `imports.py` tells what else it brings along; `sources.py` calls what is imported here;
`resolve.py` takes the digest.
"""

import contextlib
import hashlib
import importlib
import os
import pkgutil
import sys
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from classmodels.models.folders import files_of
from classmodels.models.imports import Unit, units_of
from classmodels.models.labels import did_you_mean
from classmodels.models.spec import FieldError
from classmodels.models.torchvision_compat import import_torchvision


def digest_code(folder: Path) -> str:
    """The sha256 (hex) over relative paths and contents of a code folder, or over the members of a wheel.

    `__pycache__`, version-control and tool-cache folders and `*.pyc` do not count; neither do times and modes.
    Links count as what they lead to. Raises FieldError on ("code",) where it is missing or holds more than 20,000
    files and folders.
    """
    try:
        if folder.is_file():
            if not zipfile.is_zipfile(folder):
                raise FieldError(f"code {folder} is a file but no wheel: expected a folder or a wheel", "code")
            with zipfile.ZipFile(folder) as wheel:
                names = sorted(i.filename for i in wheel.infolist() if not i.is_dir())
                return _digest((name, wheel.read(name)) for name in names if not name.endswith(".pyc"))
        if not folder.is_dir():
            raise FieldError(f"code {folder} does not exist: expected a folder or a wheel", "code")
        return _digest((name, at if isinstance(at, bytes) else at.read_bytes()) for name, at in files_of(folder))
    except (OSError, zipfile.BadZipFile, RecursionError) as error:
        raise FieldError(f"code {folder} cannot be read: {error}", "code") from error


def digest_factory(factory: str, code: Path | None, code_sha256: str | None) -> str | None:
    """The digest of the user code behind `module:callable`, or None where the module is an installed package.

    Nothing is imported. The factory's module counts with all that it imports of the user's own (`imports.py`): what
    lies in `code` as `code_sha256` (None: taken here), anything else as its own file or its whole package folder.
    """
    with importable(code):
        digests = _digests(factory, code, code_sha256)
    if not digests:
        return None
    outside = sorted((unit.name, unit.place.name, digest) for unit, digest in digests.items() if not unit.in_code)
    inside = next((digest for unit, digest in digests.items() if unit.in_code), None)
    if not outside:
        return inside
    members = [(f"{name} {file}", digest.encode()) for name, file, digest in outside]
    return _digest([*members, *([("code", inside.encode())] if inside else [])])


def digest_python(folder: Path) -> str:
    """The sha256 (hex) over the names and contents of the Python files directly in `folder`."""
    return _digest((path.name, _read(path)) for path in sorted(folder.glob("*.py")))


def _digests(factory: str, code: Path | None, code_sha256: str | None) -> dict[Unit, str]:
    """The user's units behind a factory, each with the digest that changes when it does."""
    digests = {}
    for unit in units_of(factory.partition(":")[0], code):
        if unit.in_code:
            assert code is not None
            code_sha256 = digest_code(code) if code_sha256 is None else code_sha256
            digests[unit] = code_sha256
        else:
            digests[unit] = (
                digest_code(unit.place) if unit.place.is_dir() else _digest([(unit.place.name, _read(unit.place))])
            )
    return digests


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FieldError(f"code {path} cannot be read: {error}", "source") from error


@contextlib.contextmanager
def importable(code: Path | None) -> Iterator[None]:
    """Within this, modules of `code` (first) and of the working directory (next) can be imported."""
    before = list(sys.path)
    front = [str(code.absolute())] if code is not None else []
    sys.path[:0] = [*front, os.getcwd()]
    importlib.invalidate_caches()
    try:
        yield
    finally:
        added = [entry for entry in sys.path if entry not in before and entry not in (*front, os.getcwd())]
        sys.path[:] = before + added


def import_factory(factory: str, code: Path | None, code_sha256: str | None = None) -> Any:
    """The object that `module:callable.attr` names, imported but not called.

    code_sha256: the `digest_code` of `code` where it is known, which spares reading the folder again.
    Raises FieldError on ("source", "factory") where the module cannot be imported or has no such attribute.
    Call within `importable(code)` if the object is to be called: it may import more then.
    """
    module_name, _, attributes = factory.partition(":")
    with importable(code):
        _forget_stale(_digests(factory, code, code_sha256))
        try:
            try:
                module: Any = importlib.import_module(module_name)
            except RuntimeError as error:
                if "torchvision::" not in str(error):
                    raise
                import_torchvision()
                module = importlib.import_module(module_name)
        except (Exception, SystemExit) as error:
            if isinstance(error, ModuleNotFoundError) and error.name and _is_part(error.name, module_name):
                raise FieldError(
                    f'factory {factory}: there is no module "{error.name}" in the job\'s code, the working '
                    f"directory or the installed packages{_nearest_module(module_name)}",
                    "source",
                    "factory",
                ) from error
            raise FieldError(
                f"factory {factory}: importing {module_name} raised {first_line(error)}", "source", "factory"
            ) from error
        found, place = module, module_name
        for attribute in attributes.split("."):
            try:
                found = getattr(found, attribute)
            except AttributeError as error:
                near = did_you_mean(attribute, [name for name in dir(found) if not name.startswith("_")])
                raise FieldError(
                    f'factory {factory}: {place} has no attribute "{attribute}"{near}', "source", "factory"
                ) from error
            place = f"{place}.{attribute}"
    if not callable(found):
        raise FieldError(
            f"factory {factory} is a {type(found).__name__}, not something to call: expected a function or class "
            "that returns a torch.nn.Module",
            "source",
            "factory",
        )
    return found


def first_line(error: BaseException) -> str:
    """`ValueError: what it says`, cut to the first line and 300 characters."""
    lines = str(error).strip().splitlines()
    text = f"{type(error).__name__}: {lines[0].strip()}" if lines else type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."


def _digest(members: Iterable[tuple[str, bytes]]) -> str:
    total = hashlib.sha256()
    for name, content in members:
        # Lengths first, so that no two different folders spell the same bytes.
        encoded = name.encode("utf-8", "surrogateescape")
        total.update(f"{len(encoded)} {len(content)}\n".encode() + encoded + content)
    return total.hexdigest()


def _forget_stale(digests: dict[Unit, str]) -> None:
    """Forget imported user modules if one of them is not what an import would find now: another job's, or edited."""
    stale = False
    for unit, digest in digests.items():
        stale = (
            stale or _is_elsewhere(unit) or (unit.name in sys.modules and _imported.get(unit.name, digest) != digest)
        )
        _imported[unit.name] = digest
    if stale:
        # All of them: one that is still true holds on to what it imported of the others.
        tops = {unit.name.partition(".")[0] for unit in digests} - {"__main__", "classmodels"}
        for module in [module for module in sys.modules if module.partition(".")[0] in tops]:
            del sys.modules[module]


def _is_elsewhere(unit: Unit) -> bool:
    """Whether a module of this name is imported, from another place."""
    top = sys.modules.get(unit.name.partition(".")[0])
    if top is not None and "." in unit.name:
        folder = unit.place.parents[unit.name.count(".") - 1]
        if str(folder) not in map(str, getattr(top, "__path__", ())):
            return True
    loaded = getattr(sys.modules.get(unit.name), "__spec__", None)
    if loaded is None:
        return False
    return loaded.origin is None or unit.place not in (Path(loaded.origin), Path(loaded.origin).parent)


_imported: dict[str, str] = {}
"""The digest that each of the users' units had when it was imported in this process."""


def _is_part(outer: str, name: str) -> bool:
    return name == outer or name.startswith(outer + ".")


def _nearest_module(module_name: str) -> str:
    parent, _, last = module_name.rpartition(".")
    if not parent:
        return did_you_mean(last, [module.name for module in pkgutil.iter_modules()])
    places = getattr(sys.modules.get(parent), "__path__", None)
    if places is None:
        return _nearest_module(parent)
    return did_you_mean(module_name, [f"{parent}.{module.name}" for module in pkgutil.iter_modules(places)])

"""The user's own code: made importable, imported, and digested so that a changed network is a changed identity.

A factory's module is looked for in the job's `code` (folder or wheel), then in the working directory, then among
the installed packages. `sources.py` calls what is imported here; `resolve.py` takes the digest.
"""

import contextlib
import hashlib
import importlib
import importlib.machinery
import os
import pkgutil
import site
import sys
import sysconfig
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from classmodels.models.labels import did_you_mean
from classmodels.models.spec import FieldError
from classmodels.models.torchvision_compat import import_torchvision

_SKIPPED = {"__pycache__", ".git", ".hg", ".mypy_cache", ".pytest_cache", ".ruff_cache"}
_MAX_DIGESTED = 20_000  # files; beyond this the folder is a project with its data, not code


def digest_code(folder: Path) -> str:
    """The sha256 (hex) over relative paths and contents of a code folder, or over the members of a wheel.

    `__pycache__`, version-control and tool-cache folders and `*.pyc` do not count; neither do times and modes.
    Raises FieldError on ("code",) where it is missing or holds more than 20,000 files.
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
        paths = _files(folder)
        if len(paths) > _MAX_DIGESTED:
            raise FieldError(
                f"code {folder} holds more than {_MAX_DIGESTED:,} files: name a folder that holds only code", "code"
            )
        return _digest((path.relative_to(folder).as_posix(), path.read_bytes()) for path in paths)
    except (OSError, zipfile.BadZipFile) as error:
        raise FieldError(f"code {folder} cannot be read: {error}", "code") from error


def digest_factory(factory: str, code: Path | None, code_sha256: str | None) -> str | None:
    """The digest of the user code behind `module:callable`, or None where the module is an installed package.

    Nothing is imported. A module found in `code` counts as `code_sha256`; one found elsewhere outside the
    installed packages (the working directory, an editable install) as its own file or its whole package folder.
    """
    top = factory.partition(":")[0].partition(".")[0]
    with importable(code):
        spec = _spec_of(top)
    if spec is None:
        return None
    places = [Path(place) for place in spec.submodule_search_locations or ()]
    if not places and spec.origin and os.path.exists(spec.origin):
        places = [Path(spec.origin)]
    if code is not None and _within(spec, code):
        return code_sha256 if code_sha256 is not None else digest_code(code)
    if not places or any(_installed(place) for place in places):
        return None
    if len(places) == 1 and places[0].is_file():
        return _digest([(places[0].name, places[0].read_bytes())])
    return _digest([(str(number), digest_code(place).encode()) for number, place in enumerate(places)])


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


def import_factory(factory: str, code: Path | None) -> Any:
    """The object that `module:callable.attr` names, imported but not called.

    Raises FieldError on ("source", "factory") where the module cannot be imported or has no such attribute.
    Call within `importable(code)` if the object is to be called: it may import more then.
    """
    module_name, _, attributes = factory.partition(":")
    with importable(code):
        _forget_stale(module_name.partition(".")[0], code)
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


def _files(folder: Path) -> list[Path]:
    found: list[Path] = []
    for top, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in _SKIPPED]
        found += [Path(top) / name for name in names if not name.endswith(".pyc")]
        if len(found) > _MAX_DIGESTED:
            break
    return sorted((path for path in found if path.is_file()), key=lambda path: path.relative_to(folder).as_posix())


def _digest(members: Iterable[tuple[str, bytes]]) -> str:
    total = hashlib.sha256()
    for name, content in members:
        # Lengths first, so that no two different folders spell the same bytes.
        encoded = name.encode("utf-8", "surrogateescape")
        total.update(f"{len(encoded)} {len(content)}\n".encode() + encoded + content)
    return total.hexdigest()


def _spec_of(top: str) -> importlib.machinery.ModuleSpec | None:
    # Through the path finders, not importlib.util.find_spec: that answers from sys.modules, which may hold a
    # module of the same name from another job's folder.
    for finder in sys.meta_path:
        with contextlib.suppress(Exception):
            spec = finder.find_spec(top, None)
            if spec is not None:
                return spec
    return None


def _within(spec: importlib.machinery.ModuleSpec, code: Path) -> bool:
    root = code.resolve()
    return any(
        Path(place).resolve().is_relative_to(root)
        for place in [spec.origin or "", *(spec.submodule_search_locations or ())]
        if os.path.isabs(place)
    )


def _installed(place: Path) -> bool:
    roots = [sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")]
    roots += [*site.getsitepackages(), site.getusersitepackages()]
    parts = set(place.parts)
    return bool(parts & {"site-packages", "dist-packages"}) or any(
        place.resolve().is_relative_to(Path(root).resolve()) for root in roots if root
    )


def _forget_stale(top: str, code: Path | None) -> None:
    """Forget an imported user module that is not what an import would find now: another job's, or since edited."""
    spec = _spec_of(top)
    if spec is None or top in ("__main__", "classmodels"):
        return
    digest = digest_factory(top, code, None)
    if digest is None:
        return
    loaded = getattr(sys.modules.get(top), "__spec__", None)
    if loaded is not None:
        same_place = (spec.origin, list(spec.submodule_search_locations or ())) == (
            loaded.origin,
            list(loaded.submodule_search_locations or ()),
        )
        if not same_place or _imported.get(top, digest) != digest:
            for name in [name for name in sys.modules if _is_part(top, name)]:
                del sys.modules[name]
    _imported[top] = digest


_imported: dict[str, str] = {}
"""The digest that each of the users' top-level modules had when it was imported in this process."""


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

"""Which of the user's files a factory brings along: its module, and what that imports from beside it, transitively.

Read from the source text, so that nothing runs and the same files give the same answer whatever this process has
imported. An import that is only decided while it runs (a computed name, a changed `sys.path`) is not seen: a job's
`code` folder counts whole and has no such gap. `user_code.py` digests and forgets what is found here.
"""

import ast
import contextlib
import functools
import importlib.machinery
import os
import site
import sys
import sysconfig
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from classmodels.models.folders import files_of

_STARTED_WITH = tuple(sys.path)  # as it was before any user code ran: a factory may change it


@dataclass(frozen=True)
class Unit:
    """A module, or the outermost regular package, with its file or folder. in_code: it lies in the job's `code`."""

    name: str
    place: Path
    in_code: bool


def units_of(module: str, code: Path | None) -> list[Unit]:
    """The user's own units that `module` consists of and imports, itself first; empty for an installed package.

    A unit is the user's own if it lies in `code`, below the working directory or beside the factory's module, and
    neither in an installation of Python packages nor in this package. Call within `importable(code)`.
    """
    first = _unit(module, None, code)
    if first is None or (not first.in_code and installed(first.place)):
        return []
    beside = first.place.parents[first.name.count(".")]
    roots = [Path.cwd().resolve(), beside.resolve()]
    search = [*([str(code.absolute())] if code else []), os.getcwd(), *_STARTED_WITH, str(beside)]
    found, asked = {first.place: first}, {module}
    waiting = [first]
    while waiting:
        for name in sorted(_imported_by(waiting.pop(), code) - asked):
            asked.add(name)
            unit = None if name.partition(".")[0] == "classmodels" else _unit(name, search, code)
            if unit is None or unit.place in found or not (unit.in_code or _own(unit.place, roots)):
                continue
            found[unit.place] = unit
            waiting.append(unit)
    return [first, *sorted((unit for unit in found.values() if unit is not first), key=lambda unit: unit.name)]


def spec_of(top: str) -> importlib.machinery.ModuleSpec | None:
    """What an import of the top-level module `top` would find in this process, had it imported nothing yet."""
    # Through the path finders, not importlib.util.find_spec: that answers from sys.modules, which may hold a
    # module of the same name from another job's folder.
    for finder in sys.meta_path:
        with contextlib.suppress(Exception):
            spec = finder.find_spec(top, None)
            if spec is not None:
                return spec
    return None


def installed(place: Path) -> bool:
    """Whether this lies in Python's library or among installed packages."""
    roots = [sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")]
    roots += [*site.getsitepackages(), site.getusersitepackages()]
    return bool(set(place.parts) & {"site-packages", "dist-packages"}) or any(
        place.resolve().is_relative_to(Path(root).resolve()) for root in roots if root
    )


def _own(place: Path, roots: list[Path]) -> bool:
    # Both as it is named and where it really is: a link to a shared folder is the user's all the same.
    ways = (place.absolute(), place.resolve())
    return any(way.is_relative_to(root) for way in ways for root in roots) and not installed(place)


def _unit(name: str, search: list[str] | None, code: Path | None) -> Unit | None:
    """The unit that `name` lies in, looked for on `search` or (None) as an import would."""
    parts = name.split(".")
    spec = spec_of(parts[0]) if search is None else _found(parts[0], search)
    known = 1
    while spec is not None and _is_namespace(spec) and known < len(parts):
        # A folder without __init__.py runs nothing itself and may hold anything: what is imported from it counts.
        # By its last part only: with its whole name the finder would ask sys.modules for the folder around it.
        spec = _found(parts[known], list(spec.submodule_search_locations or ()))
        known += 1
    if spec is None or _is_namespace(spec) or not spec.origin or not os.path.isabs(spec.origin):
        return None
    origin = Path(spec.origin)
    place = origin.parent if spec.submodule_search_locations is not None else origin
    in_code = code is not None and (
        origin.is_relative_to(code.absolute()) or origin.resolve().is_relative_to(code.resolve())
    )
    if not in_code and not place.exists():
        return None
    return Unit(".".join(parts[:known]), place, in_code)


def _found(name: str, search: list[str]) -> importlib.machinery.ModuleSpec | None:
    try:
        return importlib.machinery.PathFinder.find_spec(name, search)
    except Exception:  # an entry of the path may be anything
        return None


def _is_namespace(spec: importlib.machinery.ModuleSpec) -> bool:
    return spec.origin is None and spec.submodule_search_locations is not None


def _imported_by(unit: Unit, code: Path | None) -> set[str]:
    return {name for module, package, text in _sources(unit, code) for name in _names(module, package, text)}


def _sources(unit: Unit, code: Path | None) -> Iterator[tuple[str, bool, bytes]]:
    """The Python files of a unit: each one's dotted name, whether it is a package's own, its text."""
    if not unit.place.exists():
        assert code is not None  # a wheel: only within `code` may a place be none
        with contextlib.suppress(OSError, zipfile.BadZipFile), zipfile.ZipFile(code) as wheel:
            for name in wheel.namelist():
                if name.endswith(".py"):
                    yield *_dotted(name.removesuffix(".py").split("/")), wheel.read(name)
        return
    above = unit.name.split(".")
    if unit.place.is_dir():
        files = files_of(unit.place)
    else:
        files = [(unit.place.name, unit.place)]
        above.pop()
    for inside, file in files:
        if inside.endswith(".py") and isinstance(file, Path):
            with contextlib.suppress(OSError):  # whoever digests it says so
                yield *_dotted([*above, *inside.removesuffix(".py").split("/")]), file.read_bytes()


def _dotted(parts: list[str]) -> tuple[str, bool]:
    package = parts[-1] == "__init__"
    return ".".join(parts[:-1] if package else parts), package


def _names(module: str, package: bool, text: bytes) -> Iterator[str]:
    """The absolute names of all that a file may import: `from a import b` may mean a.b."""
    parts = module.split(".") if package else module.split(".")[:-1]
    for level, base, names in _imports(text):
        above = parts[: len(parts) - level + 1] if level else []
        start = ".".join([*above, *([base] if base else [])])
        for name in (start, *(f"{start}.{name}" if start else name for name in names)):
            if name:
                yield name


@functools.lru_cache(maxsize=512)
def _imports(text: bytes) -> tuple[tuple[int, str, tuple[str, ...]], ...]:
    """Every import in a source text, in functions too: its level (0: absolute), its module, the names from it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            nodes = list(ast.walk(ast.parse(text)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ()
    found: list[tuple[int, str, tuple[str, ...]]] = []
    for node in nodes:
        if isinstance(node, ast.Import):
            found += [(0, alias.name, ()) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = tuple(alias.name for alias in node.names if alias.name != "*")
            found.append((node.level, node.module or "", names))
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
            name = node.args[0].value
            if called in ("import_module", "__import__") and isinstance(name, str) and name.strip("."):
                found.append((len(name) - len(name.lstrip(".")), name.lstrip("."), ()))
    return tuple(found)

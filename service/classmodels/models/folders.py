"""The files of a code folder, the same list on every machine that holds the same folder."""

import os
from pathlib import Path

from classmodels.models.spec import FieldError

SKIPPED = {"__pycache__", ".git", ".hg", ".mypy_cache", ".pytest_cache", ".ruff_cache"}
MAX_ENTRIES = 20_000
"""Beyond this a folder is a project with its data, not code."""


def files_of(folder: Path) -> list[tuple[str, Path | bytes]]:
    """What counts in a folder, sorted by its path within: the files, those behind linked folders too.

    Folders that runs have written results to do not count: they change with every run.
    A link to a folder around it would never end: it counts as the bytes that say where it leads. Version control,
    caches and `*.pyc` do not count. Raises FieldError on ("code",) for more than 20,000 files and folders, OSError
    where one cannot be read.
    """
    found: list[tuple[str, Path | bytes]] = []
    visited = 0

    def visit(at: Path, inside: str, around: dict[Path, str]) -> None:
        nonlocal visited
        real = at.resolve()
        if real in around:
            found.append((inside, f"-> {around[real]}".encode("utf-8", "surrogateescape")))
            return
        for entry in sorted(os.listdir(at)):
            visited += 1
            if visited > MAX_ENTRIES:
                raise FieldError(
                    f"code {folder} holds more than {MAX_ENTRIES:,} files: name a folder that holds only code", "code"
                )
            path, name = at / entry, f"{inside}/{entry}" if inside else entry
            if path.is_dir():
                if entry not in SKIPPED and not _holds_results(path):
                    visit(path, name, {**around, real: inside})
            elif path.is_file() and not entry.endswith(".pyc"):
                found.append((name, path))

    visit(folder, "", {})
    return sorted(found, key=lambda member: member[0])


def _holds_results(folder: Path) -> bool:
    return next(folder.glob("runs/*/plan.json"), None) is not None

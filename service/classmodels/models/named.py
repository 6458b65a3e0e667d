"""Weights that a library knows by name, copied or fetched to a folder from which the library takes them elsewhere.

The libraries' own layout and their own downloads are used, so that they find there what they would have fetched.
"""

import importlib
import re
import shutil
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from classmodels.models.checkpoints import cached_weights, hub_folder, is_named, named_weights
from classmodels.models.pretrained import transformers_folder, trusts_code
from classmodels.models.spec import FieldError, ModelSpec
from classmodels.models.user_code import first_line

TORCH, HUGGINGFACE = "torch", "huggingface"
"""Folders of a mirror, which TORCH_HOME and HF_HOME are set to."""

_SETTINGS = ["config.json", "preprocessor_config.json"]
_WEIGHTS = (["*.safetensors", "*.safetensors.index.json"], ["pytorch_model*.bin", "pytorch_model*.bin.index.json"])


def mirror_named(spec: ModelSpec, base: Path, mirror: Path) -> Path | None:
    """Have the named weights of a model in `mirror`, and return where; None where it names none.

    What is in a cache of this machine is copied from there. Raises FieldError where they cannot be had.
    """
    source = spec.source
    if source.torchvision and spec.checkpoint and is_named(spec.checkpoint, source, base):
        weights = named_weights(source.torchvision, spec.checkpoint)
        folder = mirror / TORCH / "hub" / "checkpoints"
        here = hub_folder() / PurePosixPath(urlsplit(weights.url).path).name
        if here.is_file() and not (folder / here.name).is_file():
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(here, folder / here.name)
        return cached_weights(weights, folder, download=True)
    if source.transformers and not (base / Path(source.transformers).expanduser() / "config.json").is_file():
        return _mirror_transformers(spec, base, mirror / HUGGINGFACE / "hub")
    return None


def _mirror_transformers(spec: ModelSpec, base: Path, folder: Path) -> Path:
    name = spec.source.transformers
    assert name is not None
    try:
        cached = transformers_folder(spec.source, base)  # <hub>/models--org--name/snapshots/<revision>
    except FieldError:
        return _download_transformers(spec, folder)
    repository = cached.parent.parent
    # Links as they are: a snapshot's files are links to blobs beside it.
    shutil.copytree(repository, folder / repository.name, symlinks=True, dirs_exist_ok=True)
    return folder / repository.name / "snapshots" / cached.name


def _download_transformers(spec: ModelSpec, folder: Path) -> Path:
    name = spec.source.transformers
    assert name is not None
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        raise FieldError(f"transformers {name} is neither a folder nor a name such as org/name", "source")
    hub = importlib.import_module("huggingface_hub")
    needed = [*_SETTINGS, *(["*.py"] if trusts_code(spec.source) else [])]
    try:
        snapshot = Path(hub.snapshot_download(name, cache_dir=folder, allow_patterns=needed))
        for patterns in _WEIGHTS if spec.checkpoint is None else ():
            snapshot = Path(hub.snapshot_download(name, cache_dir=folder, allow_patterns=patterns))
            if any(file for pattern in patterns for file in snapshot.glob(pattern)):
                break
    except Exception as error:  # of whatever client the hub uses
        raise FieldError(f"transformers {name} cannot be fetched: {first_line(error)}", "source") from error
    return snapshot

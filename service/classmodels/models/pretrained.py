"""What timm and transformers say about their networks, and building them without the network (the other kind).

Both are optional extras, imported only when a job names them. `sources.py` is the caller.
"""

import importlib
import json
import re
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from classmodels.models.labels import IMAGENET, did_you_mean, load_labels
from classmodels.models.spec import FieldError, InputSpec, Source
from classmodels.models.torchvision_compat import import_torchvision
from classmodels.models.user_code import first_line

if TYPE_CHECKING:
    from torch import nn

Known = tuple[InputSpec | None, tuple[str, ...] | None, int | None, str]
"""input, labels, classes, family: the first fields of `sources.Description`."""

_MAX_CONFIG_BYTES = 50_000_000


def describe_timm(source: Source) -> Known:
    """What timm knows about `source.timm`. Raises FieldError on ("source", "timm")."""
    timm = _optional("timm")
    name = source.timm
    assert name is not None
    known = timm.list_models()
    plain = name.partition(".")[0]
    if plain not in known:
        raise FieldError(f'timm has no model "{name}"{did_you_mean(plain, known)}', "source", "timm")
    for forbidden in ("pretrained", "checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay"):
        if forbidden in source.kwargs:
            raise FieldError(
                f"timm {name}: `{forbidden}` does not belong here; name the weights in `checkpoint`",
                "source",
                "kwargs",
                forbidden,
            )
    tags = timm.list_pretrained(f"{plain}.*")
    if "." in name and name not in tags:
        raise FieldError(f'timm has no pretrained "{name}"{did_you_mean(name, tags)}', "source", "timm")
    config = timm.models.get_pretrained_cfg(name)
    settings = timm.data.resolve_data_config(args=source.kwargs, pretrained_cfg=config.to_dict() if config else {})
    shape = InputSpec(size=settings["input_size"][1:], mean=tuple(settings["mean"]), std=tuple(settings["std"]))
    own = (config.num_classes if config else None) or 1000
    classes = source.kwargs.get("num_classes", own)
    labels = tuple(load_labels(IMAGENET, Path())) if classes == own == 1000 else None
    family = re.match(r"[a-z]+(?:_?[a-z]+)*?(?=_|\d|$)", plain)
    return shape, labels, classes, family[0] if family else plain


def build_timm(source: Source) -> "nn.Module":
    """The timm network with random weights."""
    return _optional("timm").create_model(source.timm, *source.args, pretrained=False, **source.kwargs)


def transformers_folder(source: Source, base: Path) -> Path:
    """The folder with `config.json`: a local one (relative to `base`) or the hub cache's, never the network's.

    Raises FieldError on ("source", "transformers").
    """
    name = source.transformers
    assert name is not None
    local = base / Path(name).expanduser()
    if (local / "config.json").is_file():
        return local
    _optional("transformers")
    cached = None
    if re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        hub = importlib.import_module("huggingface_hub")
        cached = hub.try_to_load_from_cache(name, "config.json")
    if not isinstance(cached, str):
        raise FieldError(
            f"transformers {name} is neither a folder with a config.json nor in the hub's cache, and nothing is "
            "downloaded: fetch it first (hf download) or name its folder",
            "source",
            "transformers",
        )
    return Path(cached).parent


def describe_transformers(source: Source, folder: Path) -> Known:
    """What the files in `folder` say: preprocessing from its image processor, labels from its config."""
    config = _json(folder / "config.json")
    shape = _processor(folder) if (folder / "preprocessor_config.json").is_file() else None
    labels = config.get("id2label")
    names: tuple[str, ...] | None = None
    if isinstance(labels, dict) and set(labels) == {str(index) for index in range(len(labels))}:
        names = tuple(str(labels[str(index)]) for index in range(len(labels)))
    classes = source.kwargs.get("num_labels", len(names) if names else config.get("num_labels"))
    if names and classes != len(names):
        names = None
    family = config.get("model_type")
    if not isinstance(family, str) or not re.fullmatch(r"[\w.-]{1,64}", family):
        family = folder.name
    return shape, names, classes, family


def trusts_code(source: Source) -> bool:
    """Whether the job says that the code beside a config.json may run."""
    return source.kwargs.get("trust_remote_code") is True


def build_transformers(source: Source, base: Path, own_weights: bool) -> "nn.Module":
    """The network of a local folder or cached repository, with its own weights or (False) random ones."""
    transformers = _optional("transformers")
    folder = transformers_folder(source, base)
    # A config.json can name code to run. It is data: only the job can say that this code is trusted.
    trusted = {"trust_remote_code": trusts_code(source)}
    try:
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, **{**source.kwargs, **trusted})
    except ValueError as error:
        if trusts_code(source) or "trust_remote_code" not in str(error):
            raise
        raise FieldError(
            f"transformers {source.transformers}: its config.json names code, which is not run; if you trust "
            "that code, say kwargs: {trust_remote_code: true}",
            "source",
            "transformers",
        ) from error
    auto = transformers.AutoModelForImageClassification
    if not own_weights:
        return auto.from_config(config, **trusted)
    network, info = auto.from_pretrained(
        folder, config=config, local_files_only=True, output_loading_info=True, **trusted
    )
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise FieldError(
            f"transformers {source.transformers} lacks {len(missing)} weights of an image classifier: "
            f"{', '.join(missing[:5])}",
            "source",
            "transformers",
        )
    return network


def _optional(package: str) -> ModuleType:
    try:
        import_torchvision()  # both import it, and fail where it fails
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise FieldError(f"{package} cannot be imported: {first_line(error)}", "source", package) from error
        raise FieldError(
            f"{package} is not installed: try: pip install 'classmodels[{package}]'", "source", package
        ) from error
    except Exception as error:
        raise FieldError(f"{package} cannot be imported: {first_line(error)}", "source", package) from error


def _json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_CONFIG_BYTES:
            raise ValueError("it is too large")
        value = json.loads(path.read_bytes())
        if not isinstance(value, dict):
            raise ValueError("it holds no mapping")
        return value
    except (OSError, ValueError, RecursionError) as error:
        raise FieldError(f"{path} cannot be read: {first_line(error)}", "source", "transformers") from error


def _processor(folder: Path) -> InputSpec | None:
    settings = _json(folder / "preprocessor_config.json")
    crop = settings.get("do_center_crop") and settings.get("crop_size")
    size = _size(crop) or _size(settings.get("size"))
    scaled = abs(settings.get("rescale_factor", 1 / 255) * 255 - 1) < 1e-3 and settings.get("do_rescale", True)
    if size is None or not scaled:
        return None
    if not settings.get("do_normalize", True):
        return InputSpec(size=size, mean=(0.0,) * 3, std=(1.0,) * 3)
    try:
        return InputSpec(size=size, mean=tuple(settings["image_mean"]), std=tuple(settings["image_std"]))
    except (KeyError, TypeError, ValueError):
        return None


def _size(value: Any) -> tuple[int, int] | None:
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value, value
    if isinstance(value, dict):
        side = value.get("shortest_edge")
        height, width = value.get("height", side), value.get("width", side)
        if isinstance(height, int) and isinstance(width, int):
            return height, width
    return None

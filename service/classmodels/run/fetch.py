"""`classmodels fetch`: a mirror of what a job needs from elsewhere, for machines without a route out.

A mirror is a cache (`models/remote/cache.py`) with a mark in it, that nothing else is ever asked, and folders of named
weights beside it. Nothing of the job is built or imported here, so that it need not be installed where this runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from classmodels.errors import InputError
from classmodels.job.check import well_formed
from classmodels.job.document import JobFileError, Problem, read
from classmodels.models.labels import IMAGENET, MAX_BYTES
from classmodels.models.named import HUGGINGFACE, TORCH, mirror_named
from classmodels.models.remote.base import Listener
from classmodels.models.remote.cache import MIRROR, Cache
from classmodels.models.remote.disk import telling, write_note
from classmodels.models.remote.elsewhere import Elsewhere
from classmodels.models.remote.place import PLACE, find_place
from classmodels.models.remote.uri import is_remote
from classmodels.models.spec import FieldError, ModelSpec
from classmodels.s3 import S3Settings


@dataclass(frozen=True)
class Mirrored:
    """One thing that a model needs and that is in the mirror now. sha256: None for named weights of several files."""

    model: str
    what: str
    sha256: str | None


@dataclass
class Mirror:
    """What a mirror holds of a job. beside: paths that must travel with the job file. packages: what to install.

    environment: the variables by which the job uses the mirror.
    """

    root: Path
    files: list[Mirrored] = field(default_factory=list)
    beside: list[str] = field(default_factory=list)
    packages: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)


def fetch_job(job: str | Path, destination: str | Path, overrides: Sequence[str], listener: Listener) -> Mirror:
    """Have in the folder `destination` all that the job names elsewhere; what is there already stays.

    Raises JobFileError with every name that cannot be had, StoreError where a server or the folder cannot be used.
    """
    document = read(job)
    checked = well_formed(document, overrides)
    root = Path(destination).expanduser().absolute()
    _check_is_free(root)
    elsewhere = Elsewhere(S3Settings(**checked.storage.model_dump()), listener, cache=Cache(root, None))
    mirror = Mirror(root, environment={PLACE: str(root)})
    if checked.code:
        mirror.beside.append(checked.code)
    problems: list[Problem] = []
    for index, spec in enumerate(checked.models):
        try:
            _mirror_model(spec, Path(document.file).absolute().parent, elsewhere, mirror)
        except InputError as error:
            at = error.field if isinstance(error, FieldError) else ()
            problems.append(document.problem(("models", index, *at), f"model {spec.name}: {error}"))
    if problems:
        raise JobFileError(problems)
    with telling(root):
        write_note(root / MIRROR, {"format": 1})
    mirror.beside, mirror.packages = list(dict.fromkeys(mirror.beside)), list(dict.fromkeys(mirror.packages))
    return mirror


def _mirror_model(spec: ModelSpec, base: Path, elsewhere: Elsewhere, mirror: Mirror) -> None:
    for name, most, what in ((spec.checkpoint, None, "checkpoint"), (spec.labels, MAX_BYTES, "labels")):
        if name is not None and is_remote(name):
            try:
                file = elsewhere.bring(name, most)
            except InputError as error:
                raise FieldError(f"{what}: {error}", what) from error
            mirror.files.append(Mirrored(spec.name, str(file), file.sha256))
        elif name is not None and name.startswith("package:"):
            mirror.packages.append(name.removeprefix("package:").partition("/")[0])
        elif name not in (None, IMAGENET) and (base / str(name)).exists():
            mirror.beside.append(str(name))
    if spec.source.program:
        mirror.beside.append(spec.source.program)
    try:
        named = mirror_named(spec, base, mirror.root)
    except OSError as error:
        with telling(mirror.root):
            raise error
    if named is None:
        if spec.source.transformers:
            mirror.beside.append(spec.source.transformers)
        return
    mirror.files.append(Mirrored(spec.name, str(named.relative_to(mirror.root)), None))
    if spec.source.torchvision:
        mirror.environment["TORCH_HOME"] = str(mirror.root / TORCH)
    else:
        mirror.environment |= {"HF_HOME": str(mirror.root / HUGGINGFACE), "HF_HUB_OFFLINE": "1"}


def _check_is_free(root: Path) -> None:
    """Raises InputError where a mirror in `root` would make this machine's own cache one."""
    if not (root / MIRROR).is_file() and root == find_place():
        raise InputError(f"{root} is the cache of this machine: name another folder, which becomes a mirror")

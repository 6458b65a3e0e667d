"""What travels with a submitted job: the local files that it names, and the job file rewritten so that workers find
them.

Most lie beside the job file again where a worker unpacks them (`run/inputs.py`). A checkpoint becomes an address in the
bucket, pinned by its digest, so that a worker fetches only those that its share needs. Paths are no part of any
identity: the rewritten job makes the very same units.
"""

import copy
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from classmodels.cluster.files import Files, PackedFile, changed, digest
from classmodels.errors import InputError, ModelError
from classmodels.job.document import JobFileError, Problem, dump
from classmodels.job.plan import Plan
from classmodels.models import checkpoints, pretrained
from classmodels.models.folders import files_of
from classmodels.models.imports import units_of
from classmodels.models.labels import IMAGENET, MAX_BYTES, load_labels
from classmodels.models.remote.elsewhere import Elsewhere, RemoteFile
from classmodels.models.remote.place import amount
from classmodels.models.remote.uri import is_remote, parse
from classmodels.models.resolve import ResolvedModel, check_source
from classmodels.models.user_code import importable
from classmodels.results.progress import Meter
from classmodels.run.inputs import FOLDER
from classmodels.run.job import run_plan, write_plan
from classmodels.s3 import S3Settings
from classmodels.store import RunPlan, Store, open_store
from classmodels.store.records import input_key, input_prefix

MOST_CONFIG_BYTES = 1_000_000
"""Of job file and list together, which go into a ConfigMap: the API takes 1 MiB of it in all."""
THREADS = 8


@dataclass(frozen=True)
class Packed:
    """What is submitted: the rewritten job, the list of its inputs, the files to upload, each once, and the plan."""

    job_yaml: str
    inputs_json: str
    files: tuple[PackedFile, ...]
    plan: RunPlan

    @property
    def bytes(self) -> int:
        return sum(file.size for file in self.files)

    def __str__(self) -> str:
        return f"{len(self.files)} files, {amount(self.bytes)}"


def pack(plan: Plan, output: str) -> Packed:
    """What of `plan`'s job travels to a cluster, whose results go to `output`, s3://bucket/prefix.

    Nothing is sent yet. Raises InputError for what cannot travel, or changed since the plan was made; StoreError where
    labels elsewhere cannot be looked at again.
    """
    if not output.startswith("s3://"):
        raise InputError(f"output {output!r} is a folder of this machine, where pods cannot write: expected s3://...")
    store = open_store(output)
    packing = _Packing(plan, store)
    packing.code()
    for index in range(len(plan.job.models)):
        packing.model(index)
    if packing.problems:
        raise JobFileError(packing.problems)
    listed = [json.dumps(file.model_dump()) for file in packing.files.listed]
    lines = ",\n".join(listed)
    listing = f'{{"format": 1, "files": [\n{lines}\n]}}\n' if listed else '{"format": 1, "files": []}\n'
    job = dump({**packing.data, "output": store.uri})
    if len(job.encode()) + len(listing.encode()) > MOST_CONFIG_BYTES:
        raise InputError(
            f"the job names {len(listed):,} local files: it and the list of them are larger than the"
            f" {MOST_CONFIG_BYTES:,} bytes that fit into a ConfigMap; name a folder that holds only code, or build a"
            " wheel, which is one file"
        )
    return Packed(job, listing, packing.files.carried, run_plan(plan))


def upload(packed: Packed, store: Store, run12: str, progress: Meter) -> int:
    """Have the plan and all files of `packed` in `store`; those that are there stay. How many were sent.

    Raises InputError where a file is no longer what was packed, StoreError.
    """
    write_plan(packed.plan, store)  # first: what belongs to a run without a plan would never be pruned
    there = {entry.key: entry.size for entry in store.entries(input_prefix(run12))}
    missing = [file for file in packed.files if there.get(file.key) != file.size]
    if missing:
        progress.begin("upload inputs", sum(file.size for file in missing))
    with ThreadPoolExecutor(THREADS, "upload-inputs") as threads:
        try:
            for file in threads.map(lambda file: _send(store, file), missing):
                progress.step(file.size)
        finally:  # where one fails, or at Ctrl-C, the others need not begin
            threads.shutdown(wait=False, cancel_futures=True)
    return len(missing)


def _send(store: Store, file: PackedFile) -> PackedFile:
    try:
        before = file.path.stat()
        if digest(file.path) != (file.sha256, file.size):
            raise changed(file.path)
        store.write_file(file.key, file.path, file.sha256)
        after = file.path.stat()
    except OSError as error:
        raise InputError(f"{file.path} cannot be read any more: {error.strerror}; submit the job again") from error
    if (before.st_size, before.st_mtime_ns, before.st_ino) != (after.st_size, after.st_mtime_ns, after.st_ino):
        store.delete(file.key)
        raise changed(file.path)
    return file


class _Packing:
    """One job on its way into a `Packed`. data: the job, rewritten part by part. problems: what cannot travel."""

    def __init__(self, plan: Plan, store: Store) -> None:
        self._plan, self._store = plan, store
        self._elsewhere = Elsewhere(S3Settings(**plan.job.job.storage.model_dump()))
        self.data: dict[str, Any] = copy.deepcopy(plan.job.document.data)
        self.files = Files(plan.run12)
        self.problems: list[Problem] = []

    def code(self) -> None:
        code = self.data.get("code")
        if code is None:
            return
        place = (Path(self._plan.job.document.file).absolute().parent / Path(code).expanduser()).absolute()
        room = f"{FOLDER}/code"
        if place.is_file():
            self.data["code"] = self._add(place, f"{room}/{place.name}", "code")
            return
        files = files_of(place)
        for inside, file in files:
            if isinstance(file, bytes):
                self._wrong(f"{place / inside} is a link to a folder around it, which cannot travel: remove it", "code")
            else:
                self._add(file, f"{room}/{inside}", "code")
        if files:
            self.data["code"] = room
        else:  # a folder of nothing does not travel either
            del self.data["code"]

    def model(self, index: int) -> None:
        model, item, at = self._plan.job.models[index], self.data["models"][index], ("models", index)
        source, room = model.spec.source, f"{FOLDER}/models/{model.spec.name}"
        if source.factory:
            self._factory(model, *at, "source", "factory")
        if source.program:
            program = model.base / Path(source.program).expanduser()
            item["source"]["program"] = self._add(program, f"{room}/program/{program.name}", *at, "source", "program")
        if source.transformers:
            item["source"]["transformers"] = self._transformers(model, room, *at, "source", "transformers")
        if model.spec.checkpoint is not None and not model.spec.checkpoint.startswith("package:"):
            self._checkpoint(model, item, room, *at, "checkpoint")
        if model.spec.labels not in (None, IMAGENET):
            item["labels"] = self._labels(model, room, *at, "labels")
        try:
            check_source(model)
        except ModelError as error:
            raise InputError(str(error)) from error

    def _factory(self, model: ResolvedModel, *at: str | int) -> None:
        with importable(model.code):
            found = units_of(str(model.spec.source.factory).partition(":")[0], model.code)
        outside = [unit for unit in found if not unit.in_code]
        if outside:
            imported = "" if outside[0] is found[0] else ", which its factory imports,"
            self._wrong(
                f"model {model.spec.name}: {outside[0].place}{imported} is neither in the job's `code` nor installed,"
                " and would be missing on the cluster: set `code: .`, or the folder that holds it",
                *at,
            )

    def _transformers(self, model: ResolvedModel, room: str, *at: str | int) -> str:
        """A folder, also one of the hub's cache: its settings and code, and its weights where these are used."""
        folder = pretrained.transformers_folder(model.spec.source, model.base)
        inside = f"{room}/transformers/{folder.name}"
        wanted = [*folder.glob("*.json"), *folder.glob("*.py")]
        if model.spec.checkpoint is None:
            wanted += list(folder.glob("*.safetensors")) or list(folder.glob("pytorch_model*.bin"))
        for file in sorted(wanted):
            self._add(file, f"{inside}/{file.name}", *at)
        return inside

    def _checkpoint(self, model: ResolvedModel, item: dict[str, Any], room: str, *at: str | int) -> None:
        file = model.checkpoint
        assert file is not None
        if isinstance(file, RemoteFile):
            item["checkpoint"] = self._pinned(file)
            return
        if checkpoints.is_named(model.spec.checkpoint, model.spec.source, model.base):
            # What torchvision knows by its name brings its preprocessing; without the name the job says that itself.
            item["input"] = model.input.model_dump(mode="json")
            item["source"]["kwargs"] = copy.deepcopy(model.identity["source"]["kwargs"])
        if shards := checkpoints.shards_of(file):
            for part in (file, *shards):
                self._add(part, f"{room}/checkpoint/{part.name}", *at)
            item["checkpoint"] = f"{room}/checkpoint/{file.name}"
            same = checkpoints.sha256_of(file) == model.checkpoint_sha256
        else:
            sha256 = self.files.carry(file)
            item["checkpoint"] = self._address(sha256)
            same = sha256 == model.checkpoint_sha256
        if not same:
            raise changed(file)

    def _labels(self, model: ResolvedModel, room: str, *at: str | int) -> str:
        named = str(model.spec.labels)
        if is_remote(named):
            shown, found = parse(named).shown, self._pinned(self._elsewhere.open(named, MAX_BYTES))
        else:
            place = model.base / Path(named).expanduser()
            shown, found = named, self._add(place, f"{room}/labels/{place.name}", *at)
        if tuple(load_labels(named, model.base, self._elsewhere)) != model.labels:
            raise InputError(f"labels {shown} changed since the job was read: submit it again")
        return found

    def _add(self, file: Path, inside: str, *at: str | int) -> str:
        try:
            return self.files.add(file, inside)
        except InputError as error:
            self._wrong(str(error), *at)
            return inside

    def _address(self, sha256: str) -> str:
        return f"{self._store.locate(input_key(self._plan.run12, sha256))}#sha256={sha256}"

    def _pinned(self, file: RemoteFile) -> str:
        """The address of a file elsewhere and its digest; what a signed address leads to travels as a copy."""
        uri = file.remote.uri
        if uri.is_s3 or "?" not in uri.text:
            return f"{uri.text}#sha256={file.sha256}"
        with file.held() as path:
            return self._address(self.files.carry(path))

    def _wrong(self, message: str, *at: str | int) -> None:
        self.problems.append(self._plan.job.document.problem(at, message))

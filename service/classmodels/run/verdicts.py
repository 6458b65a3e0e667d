"""The panel's turn: every judge looks at every finished image of a plan that it has not judged yet.

Images are read ahead and verdicts written while others are being judged: a judge does not wait for the store.
"""

import logging
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256

import numpy as np

from classmodels.errors import InputError, MachineError, ModelError, StoreError
from classmodels.image import decode_png
from classmodels.job.panel import Judge
from classmodels.job.plan import Task, Unit, by_task
from classmodels.models.classifier import Classifier, load
from classmodels.panel.features import Penultimate
from classmodels.panel.judge import BATCH, judge_images, prepare, rank_of, same_class, top_classes
from classmodels.run.background import Background
from classmodels.run.numerics import Machine
from classmodels.run.progress import Quiet
from classmodels.run.units import check_device, failure_of
from classmodels.run.upload import Failure, Tally
from classmodels.store import Record, Store, Verdict
from classmodels.store.base import Read
from classmodels.store.believed import read_believed, read_record
from classmodels.store.records import Features, dump, verdict_key, verdict_prefix

log = logging.getLogger("classmodels")

THREADS = 16
AHEAD = 4
"""Batches of images that are read before they are judged, and of verdicts that may be on their way."""

_IMAGE = re.compile(r"(\d{4,})-[^/]*\.([0-9a-f]{12})\.png")


def judge_all(
    units: Sequence[Unit], panel: Sequence[Judge], store: Store, machine: Machine, progress: Quiet, tally: Tally
) -> int:
    """Write the verdicts on `units` that are missing and return how many; a judge that fails is a failure of its own.

    What is missing is told by one listing for each recipe, unless `tally` has it, and by one for each judge of each.
    """
    finished: list[Finished] = []
    for task, some in by_task(units):
        keys = tally.complete[task.prefix] if task.prefix in tally.complete else store.list(task.prefix)
        finished += find_finished(task, some, keys)
    tally.finished = len(finished)
    written = 0
    for judge in panel:
        answers = answers_of(judge, finished, store)
        tally.judged += len(finished) - len(answers.missing)
        for key in answers.outdated:
            store.delete(key)
        try:
            for _ in _judge(judge, answers.missing, store, machine, progress, tally) if answers.missing else ():
                written += 1
                tally.judged += 1
        except (StoreError, MachineError):
            raise
        except Exception as error:
            log.debug("judge %s failed", judge.model.spec.name, exc_info=error)
            check_device(machine)
            tally.fail(failure_of(error, f"judge {judge.model.spec.name}"))
    return written


@dataclass(frozen=True)
class Finished:
    """A unit that has a record. sha12: the beginning of its image's sha256; None where only the record knows."""

    unit: Unit
    sha12: str | None


def find_finished(task: Task, units: Iterable[Unit], keys: Iterable[str]) -> Iterator[Finished]:
    """Those of `units`, all of `task`, that are done, as `keys`, a listing of the task, tells."""
    names = [key.removeprefix(task.prefix) for key in keys]
    images: dict[int, list[str]] = {}
    for name in names:
        if match := _IMAGE.fullmatch(name):
            images.setdefault(int(match[1]), []).append(match[2])
    present = set(names)
    for unit in units:
        if unit.record_key.removeprefix(task.prefix) in present:
            found = images.get(unit.class_index, [])
            yield Finished(unit, found[0] if len(found) == 1 else None)


@dataclass
class Answers:
    """missing: units whose images a judge has not judged. outdated: keys of verdicts on images since replaced."""

    missing: list[Unit] = field(default_factory=list)
    outdated: list[str] = field(default_factory=list)


def answers_of(judge: Judge, finished: Sequence[Finished], store: Store) -> Answers:
    """What `judge` has yet to say of the finished units, as a listing for each recipe tells."""
    # Not all that this judge ever said: only what it said of these models and recipes.
    mine = verdict_prefix(judge.model.spec.name, judge.model.model12)
    tasks = dict.fromkeys(one.unit.task.prefix.removeprefix("units/") for one in finished)
    present: dict[tuple[str, str], set[str]] = {}
    with ThreadPoolExecutor(THREADS, "verdicts") as threads:
        for keys in threads.map(lambda task: list(store.list(f"{mine}{task}")), tasks):
            for key in keys:
                present.setdefault(_without_image(key), set()).add(key)
    answers = Answers()
    for one in finished:
        sha12 = one.sha12
        if sha12 is None:  # a worker that was killed has left an image there beside that of another
            record = read_record(store.read, one.unit.record_key)
            sha12 = record.image.sha256[:12] if record is not None else None
        key = _key(judge, one.unit, sha12) if sha12 is not None else ""
        given = present.get(_without_image(key), set())
        if key not in given:
            answers.missing.append(one.unit)
        answers.outdated += sorted(given - {key})
    return answers


def _without_image(key: str) -> tuple[str, str]:
    """The key of a verdict before and after the digest of the image: what all verdicts of a judge on a unit share."""
    folder, _, name = key.rpartition("/")
    index, _, rest = name.partition(".")
    return f"{folder}/{index}", rest.partition(".")[2]


def _key(judge: Judge, unit: Unit, image_sha256: str) -> str:
    model = judge.model
    return verdict_key(model.spec.name, model.model12, judge.judge12, unit.record_key, image_sha256)


def _judge(
    judge: Judge, units: list[Unit], store: Store, machine: Machine, progress: Quiet, tally: Tally
) -> Iterator[Unit]:
    """Write a verdict on each of `units`, and then give that unit."""
    import torch

    classifier = load(judge.model).to(machine.device, torch.channels_last)
    progress.begin(f"judge {classifier.name}", len(units), 1)
    background = Background("judge", THREADS)
    writing: deque[tuple[Unit, Future[None]]] = deque()
    try:
        with store.reading() as read:
            for looks in _ahead(units, partial(_image, read=read, store=store, classifier=classifier), background):
                shown, images = [], []
                for unit, look in looks:
                    try:
                        record, image = look.result()
                    except ValueError as error:
                        tally.fail(Failure(str(unit), str(error), unit.record_key))
                        continue
                    shown.append((unit, record))
                    images.append(image)
                if not images:
                    continue
                penultimate = Penultimate(classifier) if judge.features else None
                answers = judge_images(classifier, images, machine.device, penultimate)
                features = penultimate.found if penultimate is not None else [None] * len(answers)
                for (unit, record), probabilities, seen in zip(shown, answers, features, strict=True):
                    verdict = _verdict(judge, classifier, unit, record, probabilities, seen)
                    key = _key(judge, unit, record.image.sha256)
                    writing.append((unit, background.ask(partial(store.write, key, dump(verdict)))))
                progress.step(len(shown))
                while len(writing) > AHEAD * BATCH:
                    yield _written(*writing.popleft())
            while writing:
                yield _written(*writing.popleft())
    finally:
        background.close()


def _written(unit: Unit, writing: Future[None]) -> Unit:
    writing.result()
    return unit


Look = tuple[Record, np.ndarray]


def _ahead(
    units: Sequence[Unit], look: Callable[[Unit], Look], background: Background
) -> Iterator[list[tuple[Unit, Future[Look]]]]:
    """The units in batches, each with a look at it that has been asked for AHEAD batches before."""
    waiting: deque[list[tuple[Unit, Future[Look]]]] = deque()
    for start in range(0, len(units), BATCH):
        waiting.append([(unit, background.ask(partial(look, unit))) for unit in units[start : start + BATCH]])
        if len(waiting) > AHEAD:
            yield waiting.popleft()
    yield from waiting


def _image(unit: Unit, read: Read, store: Store, classifier: Classifier) -> Look:
    """The unit's record, and its stored image as the judge's input. Raises ValueError where one is damaged."""
    record = read_record(read, unit.record_key)
    advice = f"delete {store.locate(unit.record_key)} and run the job again to have it made anew"
    if record is None:
        raise ValueError(f"its record is damaged; {advice}")
    png = read_believed(read, unit.task.prefix + record.image.name)
    if png is None or sha256(png).hexdigest() != record.image.sha256:
        raise ValueError(f"its image is {'gone' if png is None else 'not the one its record names'}; {advice}")
    image = prepare(decode_png(png), classifier.input)
    assert image is not None  # a judge that cannot be shown a picture is no member of the panel
    return record, image


def _verdict(
    judge: Judge,
    classifier: Classifier,
    unit: Unit,
    record: Record,
    probabilities: np.ndarray,
    features: Features | str | None,
) -> Verdict:
    if not np.isfinite(probabilities).all():
        raise ModelError(f"model {classifier.name} gives {unit} probabilities that are NaN, and cannot judge it")
    index = same_class(unit.class_index, unit.label, unit.task.model, judge.model, judge.map)
    if index is not None and not 0 <= index < classifier.classes:
        raise InputError(f"its map sends {unit.label!r} to class {index}, expected 0 to {classifier.classes - 1}")
    return Verdict(
        judge=classifier.name,
        judge12=judge.judge12,
        judge_family=classifier.family,
        record=unit.record_key,
        image_sha256=record.image.sha256,
        class_index=index,
        rank=None if index is None else rank_of(probabilities, index),
        probability=None if index is None else round(float(probabilities[index]), 6),
        top=top_classes(probabilities, classifier),
        features=features,
    )

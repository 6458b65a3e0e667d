"""The panel's turn: every judge looks at every finished image of a plan that it has not judged yet."""

import numpy as np

from classmodels.errors import ClassmodelsError, InputError, ModelError, StoreError
from classmodels.image import decode_png
from classmodels.job.check import Judge
from classmodels.job.plan import Plan, Unit
from classmodels.models.classifier import Classifier, load
from classmodels.panel.judge import BATCH, judge_images, prepare, rank_of, same_class, top_classes
from classmodels.run.numerics import Machine
from classmodels.run.progress import Quiet
from classmodels.run.units import Failure, Tally
from classmodels.store import Record, Store, Verdict
from classmodels.store.records import dump, parse, verdict_key, verdict_prefix


def judge_all(plan: Plan, store: Store, machine: Machine, progress: Quiet, tally: Tally) -> int:
    """Write the verdicts that are missing and return how many; a judge that fails is a failure of its own."""
    records = _finished(plan, store)
    written = 0
    for judge in plan.job.panel:
        present = set(store.list(verdict_prefix(judge.model.spec.name, judge.judge12)))
        missing = [(unit, record) for unit, record in records if _key(judge, unit, record) not in present]
        if not missing:
            continue
        try:
            written += _judge(judge, missing, store, machine, progress)
        except StoreError:
            raise
        except (ClassmodelsError, RuntimeError) as error:
            reason = str(error).partition("\n")[0]
            tally.failures.append(Failure(f"judge {judge.model.spec.name}", reason, isinstance(error, InputError)))
    return written


def _finished(plan: Plan, store: Store) -> list[tuple[Unit, Record]]:
    finished = []
    for unit in plan.units:
        data = store.read(unit.record_key)
        record = parse(Record, data) if data is not None else None
        if record is not None:
            finished.append((unit, record))
    return finished


def _key(judge: Judge, unit: Unit, record: Record) -> str:
    return verdict_key(judge.model.spec.name, judge.judge12, unit.record_key, record.image.sha256)


def _judge(judge: Judge, work: list[tuple[Unit, Record]], store: Store, machine: Machine, progress: Quiet) -> int:
    import torch

    classifier = load(judge.model).to(machine.device, torch.channels_last)
    progress.begin(f"judge {classifier.name}", len(work), 1)
    written = 0
    for start in range(0, len(work), BATCH):
        part, images = [], []
        for unit, record in work[start : start + BATCH]:
            data = store.read(unit.task.prefix + record.image.name)
            image = prepare(decode_png(data), classifier.input) if data is not None else None
            if image is not None:
                part.append((unit, record))
                images.append(image)
        if not images:
            continue
        for (unit, record), probabilities in zip(part, judge_images(classifier, images, machine.device), strict=True):
            if not np.isfinite(probabilities).all():
                raise ModelError(
                    f"model {classifier.name} gives {unit} probabilities that are NaN, and cannot judge it"
                )
            index = _own_index(judge, classifier, unit)
            verdict = Verdict(
                judge=classifier.name,
                judge12=judge.judge12,
                judge_family=classifier.family,
                record=unit.record_key,
                image_sha256=record.image.sha256,
                class_index=index,
                rank=None if index is None else rank_of(probabilities, index),
                probability=None if index is None else round(float(probabilities[index]), 6),
                top=top_classes(probabilities, classifier),
            )
            store.write(_key(judge, unit, record), dump(verdict))
            written += 1
        progress.step(len(part))
    return written


def _own_index(judge: Judge, classifier: Classifier, unit: Unit) -> int | None:
    index = same_class(unit.class_index, unit.label, unit.task.model, judge.model, judge.map)
    if index is not None and not 0 <= index < classifier.classes:
        raise InputError(f"its map sends {unit.label!r} to class {index}, expected 0 to {classifier.classes - 1}")
    return index

"""Finished units without the work: objects as a run would leave them, by the functions that runs make them with."""

import hashlib
import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from classmodels.gallery import write_gallery
from classmodels.image import MEDIA_TYPES, encode_animation
from classmodels.job.check import load_job
from classmodels.job.identity import digest, recipe_identity
from classmodels.job.plan import Plan, Unit, expand_plan
from classmodels.run.job import run_plan, write_plan
from classmodels.store import FileEntry, Record, Store
from classmodels.store.records import ModelEntry, Outcome, RecipeEntry, dump, file_name


def finish(job: Path, store: Store, *, side: int = 8, frames: int = 0, threads: int = 16) -> Plan:
    """Put all units of `job` into `store` as done, each with an image of noise, side x side; and its gallery.

    A side of 115 makes images of 40 kB. frames: of a film in which the noise comes up; 0 for none.
    """
    plan = expand_plan(load_job(str(job), []))
    summary = run_plan(plan)
    write_plan(summary, store)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda unit: _put(unit, store, side, frames), plan.units))
    write_gallery(store, summary)
    return plan


def _put(unit: Unit, store: Store, side: int, frames: int) -> None:
    noise = np.random.default_rng(list(unit.identity.encode())).integers(0, 256, (side, side, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG", compress_level=1)
    image = _file(unit, store, buffer.getvalue(), "png", side, 1)
    animation = None
    if frames:
        coming = [(noise * (t / (frames - 1))).astype(np.uint8) for t in range(frames)]
        animation = _file(unit, store, encode_animation(coming, "webp"), "webp", side, frames)
    task = unit.task
    identity = recipe_identity(task.recipe.recipe, task.seed)
    steps = task.recipe.recipe.steps
    record = Record(
        model=ModelEntry(
            name=task.model.spec.name,
            model12=task.model.model12,
            family=task.model.family,
            head="softmax",
            classes=1000,
            identity=task.model.identity,
        ),
        recipe=RecipeEntry(
            name=task.recipe.name,
            recipe12=task.recipe12,
            sha256=digest(identity),
            settings=task.recipe.recipe.model_dump(mode="json"),
            identity=identity,
        ),
        class_index=unit.class_index,
        label=unit.label,
        seed=task.seed,
        image=image,
        animation=animation,
        scores=tuple(float(step) / 3 for step in range(steps + 1)),
        outcome=Outcome(logit=steps / 3, probability=0.9, rank=1),
        numerics={"device": "cpu", "backend": "torch", "dtype": "float32"},
        package={"classmodels": "0.1.0"},
        timings={"seconds": 1.0, "host": "nobody"},
    )
    store.write(unit.record_key, dump(record))


def _file(unit: Unit, store: Store, data: bytes, suffix: str, side: int, frames: int) -> FileEntry:
    name = file_name(unit.class_index, unit.label, data, suffix)
    store.write(unit.task.prefix + name, data)
    return FileEntry(
        name=name,
        sha256=hashlib.sha256(data).hexdigest(),
        bytes=len(data),
        media_type=MEDIA_TYPES[suffix],
        width=side,
        height=side,
        frames=frames,
    )

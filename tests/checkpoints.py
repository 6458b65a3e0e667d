"""Finished nights without the work: a model's checkpoints in a store, with images that change as a test plans it.

Everything is written through the classes that runs write with. A class model here is a pattern of its own that drifts
with the checkpoint, and noise of its own for each seed, so that what is noise and what is a change is known.
"""

import base64
import hashlib
import io
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from classmodels.ascent.recipe import Optimizer, Recipe
from classmodels.image import encode_animation
from classmodels.job.identity import digest12
from classmodels.store import FileEntry, Record, RunPlan, Store, Verdict, open_store
from classmodels.store.nights import (
    Done,
    Noise,
    Undone,
    checkpoint_digest,
    done_key,
    noise_job,
)
from classmodels.store.records import (
    Features,
    JudgeEntry,
    ModelEntry,
    RecipeEntry,
    TopClass,
    dump,
    file_name,
    gallery_prefix,
    plan_key,
    record_name,
    unit_prefix,
    verdict_key,
)

BEGIN = datetime(2026, 1, 1, 3, tzinfo=UTC)
SETTINGS = Recipe(steps=64, optimizer=Optimizer(lr=0.06)).model_dump(mode="json")


class Checkpoints:
    """Writes checkpoints of the source `mine` into a folder, each with its units, verdicts, noise and index entry.

    planted: from which step on a class shows a bright block in its corner, by class.
    """

    def __init__(
        self,
        folder: Path | str,
        steps: Sequence[int] = (100, 200, 400),
        *,
        labels: Sequence[str] = ("ant", "bee", "crow", "dog", "eel", "fox"),
        planted: dict[int, int] | None = None,
        side: int = 24,
        films: bool = False,
        drift: float = 0.0,
        noise: float = 0.04,
        pairs: int = 6,
        job: str = "nightly",
        source: str = "mine",
        recipe: str = "quick",
    ) -> None:
        self.store: Store = open_store(str(folder))
        self.labels, self.planted, self.side, self.films = list(labels), planted or {}, side, films
        self.drift, self.noise, self.pairs = drift, noise, pairs
        self.job, self.source, self.recipe = job, source, recipe
        self.done: list[Done] = []
        for step in steps:
            self.add(step)

    def add(self, step: int, *, failed: Iterable[int] = (), algorithm: int = 1, **entry: Any) -> Done:
        """One more checkpoint, done."""
        model12 = digest12([self.source, step])
        recipe12, noise12 = (digest12([self.recipe, algorithm, seed]) for seed in (0, 1))
        run12 = digest12(["run", self.source, step, algorithm])
        before = self.done[-1] if self.done else None
        judges = [_judge(self.source, model12)]
        if before is not None and before.judge12 is not None:
            judges.append(JudgeEntry(name=self.source, model12=before.model12, judge12=before.judge12, family="net"))
        held_out = JudgeEntry(name="other", model12="0" * 12, judge12="0" * 12, family="vgg")
        gone = set(failed)
        classes = tuple(range(len(self.labels)))
        some = classes[: self.pairs]
        noise = Noise(run12=digest12([run12, "noise"]), recipe12=noise12, seed=1, classes=some) if some else None
        for seed, chosen in ((0, classes), (1, some)):
            name, run = (self.job, run12) if seed == 0 else (noise_job(self.job), digest12([run12, "noise"]))
            keys = [
                self._unit(step, model12, (recipe12, noise12)[seed], algorithm, seed, index, [*judges, held_out])
                for index in chosen
                if index not in gone
            ]
            plan = RunPlan(job=name, run12=run, records=tuple(keys), judges=(held_out,))
            self.store.write(plan_key(run), dump(plan))
            self.store.write(f"{gallery_prefix(name, run)}index.html", b"<!doctype html><title>gallery</title>")
        uri = f"s3://bucket/checkpoints/{self.source}/step_{step:06d}.pt"
        done = Done(
            job=self.job,
            source=self.source,
            uri=uri,
            source_id=f"{uri} {step}",
            sha256=hashlib.sha256(model12.encode()).hexdigest(),
            model12=model12,
            run12=run12,
            recipe=self.recipe,
            recipe12=recipe12,
            wanted12=digest12([self.recipe]),
            algorithm=algorithm,
            step=step,
            modified=BEGIN + timedelta(minutes=step),
            units=len(classes),
            classes=classes,
            failed=tuple(Undone(class_index=index, reason="its gradient is NaN") for index in gone),
            judge12=judges[0].judge12,
            noise=noise,
        ).model_copy(update=entry)
        self.store.write(key_of(done), dump(done))
        self.done.append(done)
        return done

    def picture(self, step: int, seed: int, index: int) -> NDArray[np.uint8]:
        """The image, uint8 [side, side, 3]."""

        values = (
            0.5 + 0.16 * _waves(self.side, 7, index) + self.drift * np.log(step) * 0.1 * _waves(self.side, 8, index)
        )
        values += self.noise * _waves(self.side, 9, step, seed, index)
        if index in self.planted and step >= self.planted[index]:
            block = self.side // 4
            values[-block:, -block:] = (1.0, 0.95, 0.1)
        return (np.clip(values, 0, 1) * 255).astype(np.uint8)

    def _unit(
        self,
        step: int,
        model12: str,
        recipe12: str,
        algorithm: int,
        seed: int,
        index: int,
        judges: list[JudgeEntry],
    ) -> str:
        folder = unit_prefix(self.source, model12, self.recipe, recipe12)
        key = folder + record_name(index)
        label = self.labels[index]
        pixels = self.picture(step, seed, index)
        image = self._file(folder, index, label, _png(pixels), "png")
        film = None
        if self.films:
            frames = [(127 + (pixels.astype(np.float64) - 127) * t / 7).astype(np.uint8) for t in range(8)]
            film = self._file(folder, index, label, encode_animation(frames, "webp"), "webp")
        draw = np.random.default_rng([step, seed, index]).normal()
        logit = 8 + 3 * np.log(step / 50) + 0.3 * draw
        identity = {"algorithm": algorithm, "seed": seed, "recipe": {"steps": 64}}
        record = Record(
            model=ModelEntry(
                name=self.source,
                model12=model12,
                family="net",
                head="softmax",
                classes=len(self.labels),
                identity={"source": {"factory": "nets:net"}},
            ),
            recipe=RecipeEntry(
                name=self.recipe, recipe12=recipe12, sha256=recipe12 + "0" * 52, settings=SETTINGS, identity=identity
            ),
            class_index=index,
            label=label,
            seed=seed,
            image=image,
            animation=film,
            scores=tuple(logit * t / 64 for t in range(65)),
            outcome={"logit": logit, "probability": 0.97 + 0.01 * np.tanh(draw), "rank": 1},  # type: ignore[arg-type]
            numerics={"device": "cpu", "backend": "cpp", "dtype": "float32"},
            package={"classmodels": "0.1.0"},
            timings={},
        )
        self.store.write(key, dump(record))
        shows = index in self.planted and step >= self.planted[index]
        for judge in judges:
            knows = judge.model12 != "0" * 12 or index % 3 != 2
            sees = not shows or judge.model12 == model12
            verdict = Verdict(
                judge=judge.name,
                judge12=judge.judge12,
                judge_family=judge.family,
                record=key,
                image_sha256=image.sha256,
                class_index=index if knows else None,
                rank=(1 if sees else 4) if knows else None,
                probability=((0.93 if sees else 0.04) + 0.01 * float(np.tanh(draw))) if knows else None,
                top=(TopClass(index=0, label=label if sees else "yellow patch", probability=0.9),),
                features=None if judge.model12 == "0" * 12 else _features(judge.model12, pixels),
            )
            self.store.write(verdict_key(judge.name, judge.model12, judge.judge12, key, image.sha256), dump(verdict))
        return key

    def _file(self, folder: str, index: int, label: str, data: bytes, suffix: str) -> FileEntry:
        name = file_name(index, label, data, suffix)
        self.store.write(folder + name, data)
        return FileEntry(
            name=name,
            sha256=hashlib.sha256(data).hexdigest(),
            bytes=len(data),
            media_type=f"image/{suffix}",
            width=self.side,
            height=self.side,
        )


@cache
def _waves(side: int, *key: int) -> NDArray[np.float64]:
    """Smooth noise that the key alone decides, float64 [side, side, 3]."""
    coarse = np.random.default_rng(list(key)).normal(size=(6, 6, 3)).astype(np.float32)
    image = [np.asarray(Image.fromarray(coarse[..., c]).resize((side, side), 3), np.float64) for c in range(3)]
    return np.stack(image, axis=-1)


def key_of(done: Done) -> str:
    """Where the index has an entry."""
    return done_key(done.job, checkpoint_digest(done.source_id), done.wanted12, done.algorithm)


def _judge(source: str, model12: str) -> JudgeEntry:
    return JudgeEntry(name=source, model12=model12, judge12=digest12([model12, "features"]), family="net")


def _png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _features(model12: str, pixels: NDArray[np.uint8]) -> Features:
    """What a network of random weights sees, that are drawn from its model12: a projection of the image."""
    side = pixels.shape[0]
    small = np.asarray(Image.fromarray(pixels).resize((8, 8), Image.Resampling.BOX), np.float64).ravel() / 255 - 0.5
    assert side >= 8
    values = _weights(model12) @ small
    scale = float(np.abs(values).max())
    packed = base64.b64encode((values / scale).astype("<f2").tobytes()).decode()
    return Features(layer="fc", scale=scale, values=packed)


@cache
def _weights(model12: str) -> NDArray[np.float64]:
    return np.random.default_rng(int(model12, 16)).normal(size=(32, 192))

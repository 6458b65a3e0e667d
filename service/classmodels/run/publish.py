"""A finished unit becomes objects for the store: image, animation, and last the record that says it is done.

`upload.py` writes them, while the ascent of other units goes on.
"""

import json
import math
import os
import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import version
from typing import Any

import numpy as np

from classmodels.image import MEDIA_TYPES, Pixels, encode_animation, encode_png, to_pixels
from classmodels.job.identity import digest, recipe_identity
from classmodels.job.plan import Unit
from classmodels.models.classifier import Classifier
from classmodels.run.batch import Summit
from classmodels.run.numerics import Choice
from classmodels.store import FileEntry, Record
from classmodels.store.records import ModelEntry, Outcome, RecipeEntry, dump, file_name


@dataclass(frozen=True)
class Publisher:
    """Knows the units of one task. animation: webp | gif | apng | none."""

    classifier: Classifier
    animation: str

    def objects(self, unit: Unit, summit: Summit, choice: Choice) -> dict[str, bytes]:
        """What to write for `unit`, by key and in this order: the record last, since its presence means done."""
        spec = self.classifier.input
        pixels = to_pixels(summit.x, spec.mean, spec.std)
        files = {"png": encode_png(pixels, provenance(unit))}
        if self.animation != "none":
            # An APNG has the suffix of its own kind, so that it is never mistaken for the image.
            files[self.animation] = encode_animation(summit.frames, self.animation)
        entries = {suffix: self._entry(unit, data, suffix, pixels) for suffix, data in files.items()}
        animation = entries.get(self.animation)
        record = self._record(
            unit,
            summit,
            choice,
            image=entries["png"],
            animation=animation and animation.model_copy(update={"frames": len(summit.frames)}),
        )
        objects = {unit.task.prefix + entries[suffix].name: data for suffix, data in files.items()}
        return objects | {unit.record_key: dump(record)}

    def _record(
        self, unit: Unit, summit: Summit, choice: Choice, image: FileEntry, animation: FileEntry | None
    ) -> Record:
        task = unit.task
        identity = recipe_identity(task.recipe.recipe, task.seed)
        return Record(
            model=ModelEntry(
                name=task.model.spec.name,
                model12=task.model.model12,
                family=task.model.family,
                head=self.classifier.head,
                classes=self.classifier.classes,
                licence=task.model.spec.licence,
                identity=task.model.identity,
                notes=self.classifier.notes,
            ),
            recipe=RecipeEntry(
                name=task.recipe.name,
                recipe12=task.recipe12,
                sha256=digest(identity),
                settings=task.recipe.recipe.model_dump(mode="json"),
                identity=identity,
            ),
            class_index=unit.class_index,
            label=self.classifier.label(unit.class_index),
            seed=task.seed,
            image=image,
            animation=animation,
            scores=tuple(_shortest(score) for score in summit.scores),
            outcome=Outcome(
                logit=summit.logit,
                probability=summit.probability if math.isfinite(summit.probability) else None,
                rank=summit.rank,
            ),
            numerics=choice.described,
            deterministic=not choice.nondeterministic,
            nondeterministic=choice.nondeterministic,
            package=package(),
            timings={
                "seconds": round(summit.seconds, 3),
                "finished": datetime.now(UTC).isoformat(timespec="seconds"),
                "host": socket.gethostname(),
            },
        )

    def _entry(self, unit: Unit, data: bytes, suffix: str, pixels: Pixels) -> FileEntry:
        height, width = pixels.shape[:2]
        return FileEntry(
            name=file_name(unit.class_index, self.classifier.label(unit.class_index), data, suffix),
            sha256=sha256(data).hexdigest(),
            bytes=len(data),
            media_type=MEDIA_TYPES[suffix],
            width=width,
            height=height,
        )


def provenance(unit: Unit) -> dict[str, str]:
    """What a PNG says of itself in its text chunks: enough to make it again. No names: they are no part of identity."""
    task = unit.task
    about: dict[str, Any] = {
        "model": task.model.identity,
        "recipe": recipe_identity(task.recipe.recipe, task.seed),
        "class": unit.class_index,
    }
    return {
        "Title": f"Class model of class {unit.class_index}",
        "Software": "classmodels",
        "Source": unit.identity,
        "classmodels": json.dumps(about, sort_keys=True),
    }


def package() -> dict[str, str]:
    """The version of this package, and the digest of the container image where the cluster tells it."""
    about = {"classmodels": version("classmodels")}
    if digest := os.environ.get("CLASSMODELS_IMAGE_DIGEST"):
        about["image"] = digest
    return about


def _shortest(score: np.float32) -> float:
    """The shortest decimal that is this float32 again."""
    return float(str(score))

"""A small store with a finished run in it, made through the same classes that real runs write with."""

import hashlib
import io
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from PIL import Image

from altered import resealed
from classmodels.ascent.recipe import Recipe
from classmodels.gallery.units import read_units
from classmodels.gallery.view import view_of
from classmodels.store import FileEntry, Record, RunPlan, Verdict, open_store
from classmodels.store.folder import FolderStore
from classmodels.store.records import (
    JudgeEntry,
    ModelEntry,
    RecipeEntry,
    TopClass,
    dump,
    file_name,
    plan_key,
    record_name,
    unit_prefix,
    verdict_key,
)

LABELS = {9: "ostrich", 251: "dalmatian", 543: "dumbbell", 951: "lemon", 968: "cup"}


def digest12(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()[:12]


class FinishedRun:
    """Writes records, images and verdicts of models x recipes x classes into a folder, and names them in `plan`."""

    def __init__(
        self,
        folder: Any,
        *,
        job: str = "figure-1",
        models: Sequence[tuple[str, str]] = (("lite0", "lite"),),
        recipes: Sequence[str] = ("natural",),
        classes: dict[int, str] | None = None,
        judges: Sequence[tuple[str, str]] = (("lite1", "lite"), ("vgg16", "vgg")),
        side: int = 32,
        settings: dict[str, dict[str, Any]] | None = None,
        notes: tuple[str, ...] = (),
        animation: str | None = "webp",
    ) -> None:
        self.store: FolderStore = open_store(str(folder))  # type: ignore[assignment]
        self.classes = LABELS if classes is None else classes
        self.judges = tuple(
            JudgeEntry(name="judge", model12=digest12(name), judge12=digest12(name), family=family).model_copy(
                update={"name": name}  # past the pattern of names: what escapes it must not harm a page
            )
            for name, family in judges
        )
        self.side = side
        self.notes = notes
        self.animation = animation
        self.keys: list[str] = []
        for model, family in models:
            for recipe in recipes:
                changed = (settings or {}).get(recipe, {})
                for index, label in self.classes.items():
                    self.keys.append(self.add(model, family, recipe, index, label, changed))
        self.plan = RunPlan(job="job", run12=digest12(job), records=tuple(self.keys), judges=self.judges)
        self.plan = self.plan.model_copy(update={"job": job})
        self.store.write(plan_key(self.plan.run12), dump(self.plan))

    def picture(self, seed: int) -> Image.Image:
        """Smooth coloured noise: compresses well and differs from unit to unit."""
        noise = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
        return Image.fromarray(noise).resize((self.side, self.side), Image.Resampling.BICUBIC)

    def add(self, model: str, family: str, recipe: str, index: int, label: str, changed: dict[str, Any]) -> str:
        """One finished unit; returns its record's key."""
        model12, recipe12 = digest12(model), digest12(recipe)
        folder = unit_prefix(model, model12, recipe, recipe12)
        seed = int(digest12(f"{model} {recipe} {index}"), 16)
        image = self.put(folder, index, label, self.picture(seed), "png", 1)
        film = self.put(folder, index, label, self.picture(seed), self.animation, 4) if self.animation else None
        steps = 256
        final = 12.0 + seed % 70 / 10
        expanded = Recipe.model_validate({"steps": steps, "optimizer": {"lr": 0.06}} | changed).model_dump(mode="json")
        record = Record(
            model=ModelEntry(
                name=model,
                model12=model12,
                family=family,
                head="softmax",
                classes=1000,
                licence="Apache-2.0",
                identity={
                    "checkpoint_sha256": hashlib.sha256(model.encode()).hexdigest(),
                    "input": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
                    "source": {"factory": "a:b"},
                },
                notes=self.notes,
            ),
            recipe=RecipeEntry(
                name=recipe, recipe12=recipe12, sha256=recipe12 + "0" * 52, settings=expanded, identity={"seed": 0}
            ),
            class_index=index,
            label=label,
            seed=0,
            image=image,
            animation=film,
            scores=tuple(final * (1 - math.exp(-t / 50)) + math.sin(t) / 3 for t in range(steps + 1)),
            outcome={"logit": final, "probability": 0.5 + seed % 49 / 100, "rank": 1},  # type: ignore[arg-type]
            numerics={"device": "cpu", "backend": "torch", "dtype": "float32", "batch": 8},
            package={"classmodels": "0.1.0"},
            timings={"seconds": 12.5, "host": "node-17"},
        )
        key = folder + record_name(index)
        self.store.write(key, dump(record))
        for position, judge in enumerate(self.judges):
            self.judge(judge, key, record, rank=1 if (index + position) % 3 else 4)
        return key

    def put(self, folder: str, index: int, label: str, picture: Image.Image, kind: str, frames: int) -> FileEntry:
        buffer = io.BytesIO()
        if frames == 1:
            picture.save(buffer, "PNG")
        else:
            blank = Image.new("RGB", picture.size, (124, 116, 104))
            film = [Image.blend(blank, picture, t / (frames - 1)) for t in range(frames)]
            film[0].save(buffer, kind.upper(), save_all=True, append_images=film[1:], duration=80, loop=0)
        data = buffer.getvalue()
        name = file_name(index, label, data, kind)
        self.store.write(folder + name, data)
        return FileEntry(
            name=name,
            sha256=hashlib.sha256(data).hexdigest(),
            bytes=len(data),
            media_type=f"image/{kind}",
            width=picture.width,
            height=picture.height,
            frames=frames,
        )

    def judge(self, judge: JudgeEntry, key: str, record: Record, rank: int | None, probability: float = 0.9) -> None:
        """`judge` ranks the unit's class `rank`-th; None: it does not know that class."""
        others = [TopClass(index=700 + i, label=f"other {i}", probability=0.2 / (i + 1)) for i in range(4)]
        it = TopClass(index=record.class_index, label=record.label, probability=probability if rank == 1 else 0.05)
        verdict = Verdict(
            judge=judge.name,
            judge12=judge.judge12,
            judge_family=judge.family,
            record=key,
            image_sha256=record.image.sha256,
            class_index=record.class_index if rank else None,
            rank=rank,
            probability=it.probability if rank else None,
            top=tuple([it, *others] if rank == 1 else [*others, it] if rank else others),
        )
        self.store.write(verdict_key(judge.name, judge.model12, judge.judge12, key, record.image.sha256), dump(verdict))

    def verdict_key(self, key: str, judge: int) -> str:
        record = Record.model_validate_json(self.store.read(key) or b"")
        entry = self.judges[judge]
        return verdict_key(entry.name, entry.model12, entry.judge12, key, record.image.sha256)

    def view(self, **changed: Any) -> dict[str, Any]:
        """The view of the plan, or of one with some fields changed, over what the store holds."""
        plan = self.plan.model_copy(update=changed)
        return view_of(read_units(self.store, plan), plan)

    def change(self, key: str, pattern: str, by: str) -> None:
        """Rewrite what an object says, as someone with access to the bucket could."""
        old = (self.store.read(key) or b"").decode()
        new = re.sub(pattern, lambda _: by, old)
        assert new != old
        self.store.write(key, resealed(new.encode()))


@pytest.fixture(scope="module", autouse=True)
def _no_fsync():
    """These stores need not outlive a power cut, and there are thousands of small files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory):
    """Makes finished runs, each in a folder of its own: finished_run(**how) -> FinishedRun."""
    return lambda **how: FinishedRun(tmp_path_factory.mktemp("store"), **how)


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """Chromium, of which a test expects complaints."""
    from chromium import Browser

    browser = Browser(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.driver.quit()


@pytest.fixture
def browser(started):
    """Chromium that has nothing to complain of."""
    yield started
    assert started.problems == []

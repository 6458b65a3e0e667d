"""What a plan will cost: units, objects, bytes, and device-hours where records in the store tell the speed."""

from dataclasses import dataclass

from classmodels.job.plan import Plan, by_task
from classmodels.store import Record, Store
from classmodels.store.believed import read_believed
from classmodels.store.records import parse

# Bytes for each byte of raw pixels, seen on class models of ImageNet networks at 224 pixels: PNG, and frame of film.
PNG_SHARE = 0.6
FRAME_SHARE = {"webp": 0.05, "gif": 0.4, "apng": 0.6, "none": 0.0}
RECORD_BYTES = 6_000
SAMPLE = 8


@dataclass(frozen=True)
class Estimate:
    """units: of the plan; missing: not done yet. objects, bytes and device_hours are those of the missing ones."""

    units: int
    missing: int
    objects: int
    bytes: int
    device_hours: float | None


def estimate(plan: Plan, store: Store) -> Estimate:
    """What is left to do of `plan`. device_hours is None where no unit of one of its models was ever timed here."""
    missing = objects = size = 0
    seconds: float | None = 0.0
    judges = len(plan.job.panel)
    animation = plan.job.job.animation
    for task, units in by_task(plan.units):
        present = set(store.list(task.prefix))
        left = sum(unit.record_key not in present for unit in units)
        if not left:
            continue
        missing += left
        objects += left * (2 + (animation.format != "none") + judges)
        spec = task.model.input
        raw = spec.size[0] * spec.size[1] * (3 if spec.channels >= 3 else 1)
        size += left * int(raw * (PNG_SHARE + FRAME_SHARE[animation.format] * animation.frames) + RECORD_BYTES)
        rate = seconds_per_step(f"units/{task.prefix.split('/')[1]}/", store)
        seconds = None if seconds is None or rate is None else seconds + left * task.recipe.recipe.steps * rate
    hours = None if seconds is None else seconds / 3600
    return Estimate(len(plan.units), missing, objects, size, hours)


def seconds_per_step(prefix: str, store: Store) -> float | None:
    """Median seconds of one step of one unit, over some of the records below `prefix`, under any recipe."""
    keys = [key for key in store.list(prefix) if key.endswith(".json")]
    rates = []
    for key in keys[:: max(1, len(keys) // SAMPLE)]:
        record = parse(Record, read_believed(store.read, key) or b"")
        if record is not None and isinstance(spent := record.timings.get("seconds"), (int, float)):
            rates.append(spent / max(len(record.scores) - 1, 1))
    return sorted(rates)[len(rates) // 2] if rates else None

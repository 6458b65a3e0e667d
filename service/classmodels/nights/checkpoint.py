"""One checkpoint's part of a night: its job, its noise, and the entries of the index once all of that is done.

A checkpoint may be rewritten, cut short or deleted while it is read. It is called broken only where the very bytes that
were listed were read whole and cannot be used; whatever else happens is told, and the next night looks again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from classmodels.errors import ClassmodelsError, InputError, ModelError, StoreError
from classmodels.job.check import CheckedJob, check_job
from classmodels.job.document import JobFileError
from classmodels.job.identity import ALGORITHM
from classmodels.job.plan import Plan, Task, Unit, by_task, expand_plan
from classmodels.models import checkpoints
from classmodels.models.classifier import load
from classmodels.models.remote.cache import DamagedError
from classmodels.models.remote.elsewhere import Elsewhere
from classmodels.models.resolve import ResolvedModel, check_source, local_checkpoint
from classmodels.nights.discover import Found, is_unchanged
from classmodels.nights.reconcile import Why, Work
from classmodels.nights.submit import Submit
from classmodels.nights.template import Template
from classmodels.run.job import run_job
from classmodels.run.keeper import INTERVAL
from classmodels.run.numerics import Machine
from classmodels.run.progress import Quiet
from classmodels.run.upload import Failure, Tally
from classmodels.s3 import connect
from classmodels.store import Store
from classmodels.store.nights import Broken, Done, Listing, Noise, Source, Undone, broken_key, done_key, source_key
from classmodels.store.records import dump, gallery_prefix, parse

End = Literal["done", "submitted", "broken", "deleted", "incomplete", "later"]


class LaterError(Exception):
    """This checkpoint cannot be done now, for a reason that may pass."""


@dataclass(frozen=True)
class Outcome:
    """How a night ended for one checkpoint. made: units that were ascended now; failed: those that failed, and judges.

    reason: why it is not done. run: what a submitted run is called. page: the key of its gallery's page.
    """

    found: Found
    why: Why
    end: End
    units: int = 0
    made: int = 0
    failed: tuple[Failure, ...] = ()
    reason: str | None = None
    run: str | None = None
    page: str | None = None


@dataclass
class Doing:
    """Does the jobs of single checkpoints. deleted: `<source>@<model12>` of what was deleted on purpose."""

    template: Template
    store: Store
    listing: Listing
    machine: Machine
    progress: Quiet
    deleted: frozenset[str] = frozenset()
    submit: Submit | None = None
    interval: float = INTERVAL

    def do(self, work: Work) -> Outcome:
        """Raises StoreError where results cannot be kept, InputError where the template is wrong."""
        found = work.found
        try:
            return self._do(work)
        except LaterError as error:
            return Outcome(found, work.why, "later", reason=str(error))

    def checked(self, source: str, uri: str, sha256: str | None) -> CheckedJob:
        """The job of a checkpoint, pinned to what it was when it was listed."""
        return check_job(self.template.job_for(source, _pinned(uri, sha256)), (), self.progress)

    def _do(self, work: Work) -> Outcome:
        found = work.found
        try:
            sha256 = self._learn(found)
            checked = self.checked(found.source, found.uri, sha256)
        except DamagedError as error:  # whoever wrote it noted another sha256: it arrived damaged where it is
            return self._broken(work, str(error))
        except JobFileError:
            if not self._is_unchanged(found):
                raise LaterError("it changed while it was read") from None
            raise
        plan = expand_plan(checked)
        model = checked.models[0]
        if f"{found.source}@{model.model12}" in self.deleted:
            self._note(found, sha256)
            return Outcome(found, work.why, "deleted", reason="it was deleted on purpose, and stays so")
        if not plan.units or _missing(plan, self.store):
            if found.checkpoint12 not in self.listing.sources and (reason := self._why_unusable(found, model)):
                return self._broken(work, reason)
            if self.submit is not None:
                return self._submitted(work, plan, sha256)
        return self._run(work, plan, sha256)

    def _learn(self, found: Found) -> str:
        """The sha256 of the checkpoint that was listed. Raises LaterError where it is no longer that, or not there."""
        if found.checkpoint12 in self.listing.sources:
            note = parse(Source, self.store.read(source_key(self.template.name, found.checkpoint12)) or b"")
            if note is not None and note.source_id == found.source_id:
                return note.sha256
        try:
            if found.uri.startswith("s3://"):
                sha256 = Elsewhere(self.template.settings, self.progress).open(found.uri).sha256
                assert sha256 is not None
            else:
                sha256 = checkpoints.sha256_of(Path(found.uri))
        except DamagedError:
            raise
        except (InputError, StoreError) as error:
            if isinstance(error, StoreError) and error.passing:
                raise
            raise LaterError(str(error)) from error
        if not self._is_unchanged(found):
            raise LaterError("it changed while it was read")
        return sha256

    def _is_unchanged(self, found: Found) -> bool:
        return is_unchanged(found.candidate, lambda: self._client)

    @cached_property
    def _client(self) -> Any:
        return connect(self.template.settings)

    def _why_unusable(self, found: Found, model: ResolvedModel) -> str | None:
        """Why the network cannot be had of this checkpoint, whose bytes were all there; None where it can be."""
        try:
            load(model)
        except ModelError as error:
            try:
                check_source(model)
                with local_checkpoint(model) as path:
                    whole = path is not None and checkpoints.sha256_of(path) == model.checkpoint_sha256
            except ClassmodelsError as failed:
                raise LaterError(str(failed)) from failed
            if whole and self._is_unchanged(found):
                return str(error)
            raise LaterError("it changed while it was read") from error
        return None

    def _broken(self, work: Work, reason: str) -> Outcome:
        found = work.found
        if not self._is_unchanged(found):
            raise LaterError("it changed while it was read")
        broken = Broken(
            source=found.source,
            uri=found.uri,
            source_id=found.source_id,
            reason=reason[:4096],
            step=found.step,
            epoch=found.epoch,
            time=found.time,
            modified=found.modified,
        )
        self.store.write(broken_key(self.template.name, found.checkpoint12), dump(broken))
        return Outcome(found, work.why, "broken", reason=reason)

    def _submitted(self, work: Work, plan: Plan, sha256: str) -> Outcome:
        assert self.submit is not None
        self._note(work.found, sha256)
        run = self.submit(plan)
        noise = self._noise(work.found, plan.job, sha256)
        if _missing(noise, self.store):
            self.submit(noise)
        return Outcome(work.found, work.why, "submitted", units=len(plan.units), run=run)

    def _note(self, found: Found, sha256: str) -> None:
        if found.checkpoint12 not in self.listing.sources:
            note = Source(uri=found.uri, source_id=found.source_id, sha256=sha256)
            self.store.write(source_key(self.template.name, found.checkpoint12), dump(note))

    def _noise(self, found: Found, checked: CheckedJob, sha256: str) -> Plan:
        classes = checked.classes[found.source]
        document = self.template.noise_for(found.source, _pinned(found.uri, sha256), classes)
        return expand_plan(check_job(document, (), self.progress))

    def _run(self, work: Work, plan: Plan, sha256: str) -> Outcome:
        """Do the job here, or find that it is done; then its noise; then say so in the index."""
        found, name = work.found, self.template.name
        tally = Tally()
        report = run_job(plan, self.store, self.machine, self.progress, tally, interval=self.interval)
        noise = self._noise(found, plan.job, sha256)
        # A checkpoint of which no unit could be done has no noise either.
        if report.done + report.already:
            run_job(noise, self.store, self.machine, self.progress, tally, interval=self.interval)
        outcome = Outcome(
            found,
            work.why,
            "done",
            units=len(plan.units),
            made=report.done,
            failed=tuple(tally.failures),
            page=gallery_prefix(name, plan.run12) + "index.html",
        )
        for_good = {failure.what: failure.reason for failure in tally.failures if failure.for_good}
        undone = [*_missing(plan, self.store), *(_missing(noise, self.store) if report.done + report.already else ())]
        left = [unit for unit in undone if str(unit) not in for_good]
        if left:
            if not self._is_unchanged(found):
                raise LaterError("it changed while it was read")
            reason = f"{len(left)} units are not done, and are tried again"
            return Outcome(found, work.why, "incomplete", len(plan.units), report.done, outcome.failed, reason)
        for (task, units), (other, shown) in zip(by_task(plan.units), by_task(noise.units), strict=True):
            entry = self._entry(
                found,
                plan,
                task,
                units,
                for_good,
                Noise(
                    run12=noise.run12,
                    recipe12=other.recipe12,
                    seed=other.seed,
                    classes=tuple(unit.class_index for unit in shown),
                ),
                sha256,
            )
            key, data = done_key(name, found.checkpoint12, entry.wanted12, ALGORITHM), dump(entry)
            if self.store.read(key) != data:
                self.store.write(key, data)
        if found.checkpoint12 in self.listing.sources:
            self.store.delete(source_key(name, found.checkpoint12))
        return outcome

    def _entry(
        self,
        found: Found,
        plan: Plan,
        task: Task,
        units: Sequence[Unit],
        for_good: dict[str, str],
        noise: Noise,
        sha256: str,
    ) -> Done:
        undone = [
            Undone(class_index=u.class_index, reason=for_good[str(u)][:4096]) for u in units if str(u) in for_good
        ]
        itself = [judge for judge in plan.job.panel if judge.model is task.model]
        return Done(
            job=self.template.name,
            source=found.source,
            uri=found.uri,
            source_id=found.source_id,
            sha256=sha256,
            model12=task.model.model12,
            run12=plan.run12,
            recipe=task.recipe.name,
            recipe12=task.recipe12,
            wanted12=self.template.wanted12[task.recipe.name],
            algorithm=ALGORITHM,
            step=found.step,
            epoch=found.epoch,
            time=found.time,
            modified=found.modified,
            units=len(units) - len(undone),
            classes=tuple(unit.class_index for unit in units),
            failed=tuple(undone),
            tags=found.tags,
            judge12=itself[0].judge12 if itself else None,
            noise=noise if len(undone) < len(units) else None,
        )


def _pinned(uri: str, sha256: str | None) -> str:
    return f"{uri}#sha256={sha256}" if sha256 and uri.startswith("s3://") else uri


def _missing(plan: Plan, store: Store) -> list[Unit]:
    """The units of `plan` that have no record; one listing for each recipe."""
    missing = []
    for task, units in by_task(plan.units):
        present = set(store.list(task.prefix))
        missing += [unit for unit in units if unit.record_key not in present]
    return missing

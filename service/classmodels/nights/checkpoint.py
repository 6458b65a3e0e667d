"""One checkpoint's part of a night: its job, its noise, and the entries of the index once all of that is done.

A checkpoint may be rewritten, cut short or deleted while it is read. It is called broken only where the very bytes that
were listed were read whole and cannot be used; whatever else happens is told, and the next night looks again.
"""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from classmodels.errors import ClassmodelsError, ClusterError, InputError, ModelError, StoreError, UnacceptableError
from classmodels.job.check import CheckedJob, check_job
from classmodels.job.document import JobFileError
from classmodels.job.plan import Plan, Unit, expand_plan
from classmodels.models import checkpoints
from classmodels.models.classifier import load
from classmodels.models.remote.cache import DamagedError
from classmodels.models.remote.elsewhere import Elsewhere
from classmodels.models.resolve import ResolvedModel, check_source, local_checkpoint
from classmodels.models.spec import FieldError
from classmodels.nights.discover import Found, is_unchanged
from classmodels.nights.entries import Failures, given_up, missing, write_entries
from classmodels.nights.outcome import BlockedError, End, LaterError, Outcome, UnreachableError
from classmodels.nights.reconcile import Work
from classmodels.nights.submit import Sent, Submit
from classmodels.nights.template import Template
from classmodels.run.job import Report, run_job
from classmodels.run.keeper import INTERVAL
from classmodels.run.numerics import Machine
from classmodels.run.progress import Quiet
from classmodels.run.upload import Tally
from classmodels.s3 import connect
from classmodels.store import Store
from classmodels.store.nights import Broken, Listing, Source, broken_key, source_key
from classmodels.store.records import dump, gallery_prefix, parse

TRIES = 3
"""So often a cluster is given the run of a checkpoint, where it forgets it undone."""


@dataclass
class Doing:
    """Does the jobs of single checkpoints. deleted: what was deleted on purpose, `<source>@<model12>` and run12s."""

    template: Template
    store: Store
    listing: Listing
    machine: Machine
    progress: Quiet
    deleted: frozenset[str] = frozenset()
    submit: Submit | None = None
    interval: float = INTERVAL
    _lost: ClusterError | None = field(default=None, init=False)
    """A cluster that did not answer is not asked again for each checkpoint."""

    def do(self, work: Work) -> Outcome:
        """Raises StoreError where results cannot be kept, InputError where the template is wrong."""
        try:
            return self._do(work)
        except LaterError as error:
            return Outcome(work.found, work.why, "later", reason=str(error))
        except BlockedError as error:
            return Outcome(work.found, work.why, "blocked", reason=str(error))
        except UnreachableError as error:
            return Outcome(work.found, work.why, "unreachable", reason=str(error))

    def checked(self, source: str, uri: str, sha256: str | None) -> CheckedJob:
        """The job of a checkpoint, pinned to what it was when it was listed."""
        return check_job(self.template.job_for(source, _pinned(uri, sha256)), (), self.progress)

    def _do(self, work: Work) -> Outcome:
        found = work.found
        try:
            note = self._learn(found)
            checked = self.checked(found.source, found.uri, note.sha256)
        except DamagedError as error:  # whoever wrote it noted another sha256: it arrived damaged where it is
            return self._broken(work, str(error))
        except JobFileError:
            if not self._is_unchanged(found):
                raise LaterError("it changed while it was read") from None
            raise
        plan = expand_plan(checked)
        model = checked.models[0]
        if {f"{found.source}@{model.model12}", plan.run12} & self.deleted:
            self._keep(found, note)
            return Outcome(found, work.why, "deleted", reason="it was deleted on purpose, and stays so")
        undone = not plan.units or missing(plan, self.store)
        if undone and found.checkpoint12 not in self.listing.sources and (reason := self._why_unusable(found, model)):
            return self._broken(work, reason)
        if not plan.units:
            raise BlockedError(checked.broken.get(found.source, "nothing tells which classes it has"))
        noise = self._noise(found, checked, note.sha256)
        hopeless: Failures = {}
        if self.submit is not None:
            hopeless = {**given_up(plan, self.store), **given_up(noise, self.store)}
            if left := [one for one in (plan, noise) if missing(one, self.store, hopeless)]:
                return self._submitted(work, left, note)
        return self._run(work, plan, noise, note, hopeless)

    def _learn(self, found: Found) -> Source:
        """What the checkpoint is that was listed. Raises what `do` tells where that cannot be known."""
        if found.checkpoint12 in self.listing.sources:
            key = source_key(self.template.name, found.checkpoint12)
            note = parse(Source, self.store.read(key) or b"")
            if note is not None and note.source_id == found.source_id:
                return note
        try:
            if found.uri.startswith("s3://"):
                sha256 = Elsewhere(self.template.settings, self.progress).open(found.uri).sha256
                assert sha256 is not None
            else:
                sha256 = checkpoints.sha256_of(Path(found.uri))
        except DamagedError:
            raise
        except (InputError, StoreError) as error:
            raise self._not_had(found, error) from error
        if not self._is_unchanged(found):
            raise LaterError("it changed while it was read")
        return Source(uri=found.uri, source_id=found.source_id, sha256=sha256)

    def _not_had(self, found: Found, error: ClassmodelsError) -> Exception:
        """What is to be told of a checkpoint that was listed and could not be read."""
        try:
            cause = error.__cause__ if isinstance(error, ModelError) else error
            if isinstance(cause, StoreError) and cause.passing:
                return UnreachableError(str(error))
            return BlockedError(str(error)) if self._is_unchanged(found) else LaterError(str(error))
        except StoreError as looked:
            return UnreachableError(str(error)) if looked.passing else BlockedError(str(error))

    def _is_unchanged(self, found: Found) -> bool:
        return is_unchanged(found.candidate, lambda: self._client)

    @cached_property
    def _client(self) -> Any:
        return connect(self.template.settings)

    def _why_unusable(self, found: Found, model: ResolvedModel) -> str | None:
        """Why the network cannot be had of this checkpoint, whose bytes were all there; None where it can be."""
        try:
            load(model)
        except (ModelError, FieldError) as error:
            if isinstance(error, FieldError) and error.field[:1] != ("select",):
                raise BlockedError(f"the template does not fit its network: {error}") from error
            try:
                check_source(model)
                with local_checkpoint(model) as path:
                    whole = path is not None and checkpoints.sha256_of(path) == model.checkpoint_sha256
            except ClassmodelsError as failed:
                raise self._not_had(found, failed) from failed
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
            tags=found.tags,
        )
        self.store.write(broken_key(self.template.name, found.checkpoint12), dump(broken))
        return Outcome(found, work.why, "broken", reason=reason)

    def _submitted(self, work: Work, plans: list[Plan], note: Source) -> Outcome:
        """Have the cluster do what is left of the job and of its noise, or learn how far it is."""
        self._keep(work.found, note)
        may_make = note.submitted < TRIES or work.why == "again"
        runs = [self._sent(plan, may_make) for plan in plans]
        if any(run.new for run in runs if run is not None):
            self._keep(work.found, note.model_copy(update={"submitted": note.submitted + 1}))
        units = len(plans[0].units)
        first, reason = next((run for run in runs if run is not None), None), None
        if None in runs:
            reason = (
                f"its run was submitted {TRIES} times, and each time the cluster forgot it undone: look at the logs in"
                f" runs/{plans[0].run12}/ for why; `nightly --refresh --submit` submits it once more"
            )
        for run in runs:
            if run is not None and run.failed is not None:
                reason = (
                    f"its run {run.name} has ended without all its results: {run.failed};"
                    f" `classmodels status {run.name}` tells why, `classmodels retry {run.name}` tries again"
                )
        end: End = "submitted" if reason is None else "incomplete"
        return Outcome(work.found, work.why, end, units=units, reason=reason, run=first.name if first else None)

    def _sent(self, plan: Plan, make: bool) -> Sent | None:
        assert self.submit is not None
        try:
            if self._lost is not None:
                raise self._lost
            return self.submit(plan, make)
        except UnacceptableError as error:
            raise BlockedError(str(error)) from error
        except ClusterError as error:
            if error.passing:
                self._lost = error
            raise UnreachableError(str(error)) from error
        except InputError as error:
            raise BlockedError(str(error)) from error

    def _keep(self, found: Found, note: Source) -> None:
        """Keep what was learned until the checkpoint is done."""
        key, data = source_key(self.template.name, found.checkpoint12), dump(note)
        if self.store.read(key) != data:
            self.store.write(key, data)

    def _noise(self, found: Found, checked: CheckedJob, sha256: str) -> Plan:
        classes = checked.classes[found.source]
        document = self.template.noise_for(found.source, _pinned(found.uri, sha256), classes)
        return expand_plan(check_job(document, (), self.progress))

    def _run(self, work: Work, plan: Plan, noise: Plan, note: Source, hopeless: Failures) -> Outcome:
        """Do the job here, or find that it is done; then its noise; then say so in the index.

        hopeless: units that are not tried here.
        """
        found, name = work.found, self.template.name
        tally, count = Tally(), len(plan.units)

        def do(plan: Plan) -> Report:
            def wanted(unit: Unit) -> bool:
                return unit.record_key not in hopeless

            return run_job(plan, self.store, self.machine, self.progress, tally, wanted, self.interval)

        report = do(plan)
        # A checkpoint of which no unit could be done has no noise either.
        has_noise = bool(report.done + report.already)
        if has_noise:
            do(noise)
        failed = (*hopeless.values(), *tally.failures)
        for_good = {one.record: one for one in failed if one.for_good and one.record is not None}
        left = [unit for one in (plan, noise)[: 1 + has_noise] for unit in missing(one, self.store, for_good)]
        waiting = [failure.what for failure in tally.failures if failure.passing and failure.record is None]
        if left or waiting:
            if not self._is_unchanged(found):
                raise LaterError("it changed while it was read")
            self._keep(found, note)
            reason = f"{len(left)} units are not done, and are tried again"
            if not left:
                reason = f"{', '.join(dict.fromkeys(waiting))}: could not be asked, and will be again"
            return Outcome(found, work.why, "incomplete", count, report.done, failed, reason)
        write_entries(self.template, found, plan, noise, note.sha256, for_good, self.store)
        if found.checkpoint12 in self.listing.sources:
            self.store.delete(source_key(name, found.checkpoint12))
        if found.checkpoint12 in self.listing.broken:
            self.store.delete(broken_key(name, found.checkpoint12))
        page = gallery_prefix(name, plan.run12) + "index.html"
        return Outcome(found, work.why, "done", count, report.done, failed, page=page)


def _pinned(uri: str, sha256: str | None) -> str:
    return f"{uri}#sha256={sha256}" if sha256 and uri.startswith("s3://") else uri

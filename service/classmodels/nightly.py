"""The CronJob's errand: one night over a prefix of checkpoints. `nights/` has what it does; this puts it in order."""

from dataclasses import dataclass, field
from typing import Any

from classmodels.nights.discover import Whole
from classmodels.nights.foresee import Foreseen, foresee
from classmodels.nights.names import Names
from classmodels.nights.night import Look, look, run_night
from classmodels.nights.reconcile import Bounds
from classmodels.nights.submit import Submit
from classmodels.nights.tell import post, summary_of, write_summary
from classmodels.nights.template import Template
from classmodels.run.keeper import INTERVAL
from classmodels.run.numerics import Machine
from classmodels.run.progress import Quiet
from classmodels.store import Store
from classmodels.store.nights import shown_key
from classmodels.store.patient import PatientStore
from classmodels.store.records import dump


@dataclass(frozen=True)
class Nightly:
    """Which checkpoints: where they lie, how their names are read, when they are whole, how many of them."""

    template: Template
    checkpoints: str
    pattern: str | None = None
    whole: Whole = field(default_factory=Whole)
    bounds: Bounds = field(default_factory=Bounds)

    def look(self, store: Store) -> Look:
        """What there is to do. Raises StoreError, InputError."""
        names = Names(self.pattern, list(self.template.sources))
        return look(self.template, self.checkpoints, names, self.whole, self.bounds, store)

    def foresee(self, store: Store) -> list[Foreseen]:
        """What a night would do now."""
        return foresee(self.template, self.look(store), store)

    def run(
        self,
        store: Store,
        machine: Machine,
        progress: Quiet,
        submit: Submit | None = None,
        webhook: str | None = None,
        interval: float = INTERVAL,
    ) -> dict[str, Any]:
        """One night; returns its summary. Raises StoreError, and InputError where the template is wrong."""
        night = run_night(self.template, self.look(store), store, machine, progress, submit, interval)
        summary, reached = summary_of(self.template.name, night), PatientStore(store)
        if night.news:
            summary["summary"] = write_summary(reached, self.template.name, night, summary)[1]
            if webhook is not None:
                post(webhook, summary)
        if night.keep is not None:
            reached.write(shown_key(self.template.name), dump(night.keep))
        return summary

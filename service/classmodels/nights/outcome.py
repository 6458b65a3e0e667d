"""How a night ended for one checkpoint, and the ways in which one cannot be done that are not its own fault."""

from dataclasses import dataclass
from typing import Literal

from classmodels.nights.discover import Found
from classmodels.nights.reconcile import Why
from classmodels.run.upload import Failure
from classmodels.store.nights import Broken, Done

End = Literal["done", "submitted", "broken", "deleted", "incomplete", "blocked", "unreachable", "later"]

_CODES = {"broken": 3, "incomplete": 3, "blocked": 3, "unreachable": 4}


class LaterError(Exception):
    """This checkpoint is another by now, or is being written: the next night finds it as it is then."""


class BlockedError(Exception):
    """This checkpoint cannot be done until somebody mends what is told; each night looks again."""


class UnreachableError(Exception):
    """Storage or the cluster failed in passing."""


@dataclass(frozen=True)
class Outcome:
    """How a night ended for one checkpoint. made: units that were ascended now; failed: those that failed, and judges.

    found: the checkpoint, or what the index says of one that an earlier night did and never told of. reason: why it is
    not done. run: what a submitted run is called. page: the key of its gallery's page.
    """

    found: Found | Done | Broken
    why: Why | Literal["earlier"]
    end: End
    units: int = 0
    made: int = 0
    failed: tuple[Failure, ...] = ()
    reason: str | None = None
    run: str | None = None
    page: str | None = None

    @property
    def exit_code(self) -> int:
        """4 where another try in a while may help; 3 where something is for people to look at."""
        return max(_CODES.get(self.end, 0), 3 if self.failed else 0)

"""The errors that reach people, each with the exit code its command ends with.

A message is one or a few sentences: what was found, what was expected, what to do. Anything raised that is
not one of these is a defect of this package and keeps its traceback.
"""


class ClassmodelsError(Exception):
    """Base of all errors meant for people. `exit_code` is the status a command ends with."""

    exit_code = 1
    prefix = "classmodels: "
    """What a command prints before the message; nothing where the message itself begins with a place in a file."""


class InputError(ClassmodelsError):
    """The job file, an argument or the user's own code is wrong (exit code 2)."""

    exit_code = 2


class ModelError(ClassmodelsError):
    """A checkpoint or network cannot be used: truncated, hostile, of another shape (exit code 3: its units fail)."""

    exit_code = 3


class FetchError(ModelError):
    """A checkpoint elsewhere cannot be had now; at another time, or from another machine, it may."""


class MachineError(ClassmodelsError):
    """This machine cannot do the work, such as for want of a GPU; another one may (exit code 4)."""

    exit_code = 4


class StoreError(ClassmodelsError):
    """Storage cannot be read or written (exit code 4).

    passing: whether the same may well succeed in a while, as with a server that restarts. full: whether there is no
    room, so that something smaller may succeed.
    """

    exit_code = 4

    def __init__(self, message: str, *, passing: bool = False, full: bool = False) -> None:
        super().__init__(message)
        self.passing, self.full = passing, full


class DamagedError(StoreError):
    """One object's bytes are not those that were written, however often they are asked for; others may well be."""


class ClusterError(ClassmodelsError):
    """The cluster cannot be reached, or does not do what it is asked (exit code 4).

    passing: as with `StoreError`. status: the HTTP status of its answer, 0 where there was none; reason: what
    Kubernetes calls it, such as AlreadyExists. retry_after: seconds that the server asks to be left alone.
    """

    exit_code = 4

    def __init__(
        self, message: str, *, passing: bool = False, status: int = 0, reason: str = "", retry_after: float = 0.0
    ) -> None:
        super().__init__(message)
        self.passing, self.status, self.reason, self.retry_after = passing, status, reason, retry_after


class UnacceptableError(ClusterError):
    """The API server does not accept an object as the job and the site's defaults have it (exit code 2)."""

    exit_code = 2

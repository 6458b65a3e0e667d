"""What a pod of a cluster runs: one completion index's share of a job, told as events. `classmodels worker` calls it.

The parts: `run/inputs.py` brings what the job names, `run/gpu.py` looks at the device, `run/share.py` does the work,
`run/events.py` is what is told of it and `run/shipping.py` keeps that.
"""

import contextlib
import os
import platform
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import torch

from classmodels import __version__
from classmodels.errors import ClassmodelsError, InputError, MachineError
from classmodels.job.check import CheckedJob, load_job, well_formed
from classmodels.job.document import read
from classmodels.job.plan import Plan, expand_plan
from classmodels.models.remote.elsewhere import RemoteFile
from classmodels.models.user_code import first_line
from classmodels.run.event_log import EventLog
from classmodels.run.events import End, Interrupted, Page, Start
from classmodels.run.gpu import choose_worker_machine
from classmodels.run.inputs import with_inputs
from classmodels.run.interrupt import undisturbed
from classmodels.run.keeper import INTERVAL
from classmodels.run.numerics import Machine, cpu_name
from classmodels.run.share import Ended, Share, do_share
from classmodels.run.shipping import Shipping, log_key, pod_name
from classmodels.run.told import Told
from classmodels.run.upload import Tally
from classmodels.s3 import S3Settings
from classmodels.store import RunPlan, Store, open_store
from classmodels.store.believed import read_believed
from classmodels.store.records import parse, plan_key

LAST_WRITE, LAST_WRITE_INTERRUPTED = 10.0, 2.0
"""Seconds that the end of the log is given to get into the store. Some clusters give but 15 s to end after SIGTERM."""


@dataclass(frozen=True)
class Options:
    """What a worker is started with. run12: the run that it must be, if it is known."""

    job: Path
    index: int
    shards: int
    run12: str | None = None
    require_cuda: bool = False
    device: str = "auto"
    backend: str = "auto"
    interval: float = INTERVAL


def work(options: Options, stdout: TextIO) -> int:
    """Do a share; its exit code, 0, 3 or 4. Events go to `stdout`, and what anybody else prints to stderr.

    Raises what ends the work before that, an error for people or KeyboardInterrupt, once it is told as an event.
    """
    shipping = Shipping(options.index)
    events = EventLog(options.index, stdout, shipping.keep)
    told, tally, began = Told(events), Tally(), time.monotonic()
    with contextlib.redirect_stdout(sys.stderr), events.hearing_warnings():
        verdicts, code, reason, patience = 0, 1, None, LAST_WRITE
        try:
            ended = _work(options, events, shipping, told, tally)
            verdicts, code = ended.verdicts, ended.exit_code
            reason = ended.failures[0].reason if ended.failures else None
        except KeyboardInterrupt:
            code, patience = 130, LAST_WRITE_INTERRUPTED
            done = tally.done + tally.already
            events.tell(Interrupted, done=done, left=None if told.units is None else told.units - done)
            raise
        except ClassmodelsError as error:
            code, reason = error.exit_code, str(error)
            raise
        except Exception as error:
            reason = first_line(error)
            raise
        finally:
            with undisturbed():
                events.tell(
                    End,
                    exit_code=code,
                    reason=reason,
                    done=tally.done,
                    already=tally.already,
                    failed=len(tally.failures),
                    verdicts=verdicts,
                    seconds=round(time.monotonic() - began, 3),
                )
                shipping.close(patience)
    return code


def _work(options: Options, events: EventLog, shipping: Shipping, told: Told, tally: Tally) -> Ended:
    if options.run12 is not None and not re.fullmatch("[0-9a-f]{12}", options.run12):
        raise InputError(f"--run {options.run12!r}: expected 12 hex digits, as `plan` tells them")
    if not 0 <= options.index < options.shards:
        raise InputError(f"--index {options.index}: expected 0 to {options.shards - 1}, as there are {options.shards}")
    machine, note = choose_worker_machine(options.device, options.backend, options.require_cuda)
    job = well_formed(read(options.job))
    store = open_store(job.output, S3Settings(**job.storage.model_dump()))
    if options.run12 is not None:
        shipping.begin(store, log_key(options.run12, options.index))
    with with_inputs(options.job, job, store, options.run12, told) as file:
        plan = expand_plan(load_without_checkpoints(file, told))
        check_run(plan, options.run12, store)
        if not shipping.begun:
            shipping.begin(store, log_key(plan.run12, options.index))
        share = Share(plan, options.index, options.shards)
        told.share(share.units, tally)
        events.tell(Start, **_about(share, machine), note=note)
        ended = do_share(share, store, machine, told, tally, options.interval)
        if ended.page is not None:
            events.tell(Page, page=store.locate(ended.page))
    return ended


def load_without_checkpoints(file: Path, told: Told) -> CheckedJob:
    """The job in `file`, without the weights of models that this share may not need, if the plan can be made so."""
    checked = load_job(file, listener=told, download=False)
    known = all(
        model.checkpoint.sha256 is not None for model in checked.models if isinstance(model.checkpoint, RemoteFile)
    )
    return checked if known and not checked.uncounted else load_job(file, listener=told)


def check_run(plan: Plan, expected: str | None, store: Store) -> None:
    """Raises InputError where `plan` is not that of the run `expected`, and says what is different, if it is known."""
    if expected in (None, plan.run12):
        return
    if plan.job.broken:
        model, reason = next(iter(plan.job.broken.items()))
        raise MachineError(f"the plan of run {expected} cannot be made on this machine: model {model}: {reason}")
    summary = parse(RunPlan, read_believed(store.read, plan_key(str(expected))) or b"")
    raise InputError(
        f"the job in this container comes to the run {plan.run12}, expected {expected}{_difference(plan, summary)}:"
        " look for another version of classmodels or of a network's package in the image, a checkpoint or labels that"
        " changed since the job was submitted, or another job file; then submit it again"
    )


def _difference(plan: Plan, summary: RunPlan | None) -> str:
    """The first model under a recipe that only one of both has."""
    if summary is None:
        return ""
    here = dict.fromkeys(unit.record_key.rpartition("/")[0].removeprefix("units/") for unit in plan.units)
    there = dict.fromkeys(key.rpartition("/")[0].removeprefix("units/") for key in summary.records)
    mine = next((one for one in here if one not in there), None)
    theirs = next((one for one in there if one not in here), None)
    if mine and theirs:
        return f" (here is {mine}, where that has {theirs})"
    return ""


def _about(share: Share, machine: Machine) -> dict[str, object]:
    """What the start event says."""
    versions = {"classmodels": __version__, "python": platform.python_version(), "torch": torch.__version__}
    name = cpu_name()
    if machine.device.type == "cuda":
        name = torch.cuda.get_device_name(machine.device)
        versions["cuda"] = str(torch.version.cuda)
    return {
        "job": share.plan.job.job.name,
        "run": share.plan.run12,
        "shards": share.shards,
        "units": len(share.units),
        "versions": versions,
        "image": os.environ.get("CLASSMODELS_IMAGE_DIGEST"),
        "pod": pod_name(),
        "device": str(machine.device),
        "device_name": name,
        "backend": machine.backend,
    }

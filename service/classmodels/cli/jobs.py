"""The commands on a job file: run, validate, plan, schema, fetch; and info."""

import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from classmodels.cli.shared import (
    BACKEND,
    DEVICE,
    JOB,
    JSON,
    ONLY,
    OUTPUT,
    SET,
    STATE_INTERVAL,
    load,
    print_json,
    report_failures,
    store_of,
    tell_notes,
)

if TYPE_CHECKING:
    from classmodels.nights.foresee import Each
    from classmodels.store import Store


@click.command()
@JOB
@SET
@OUTPUT
@ONLY
@JSON
@DEVICE
@BACKEND
@STATE_INTERVAL
def run(
    job: str,
    overrides: Sequence[str],
    output: str | None,
    only: Sequence[str],
    as_json: bool,
    device: str,
    backend: str,
    state_interval: float,
) -> None:
    """Do the whole JOB here: ascend every unit, have the panel judge, write the gallery.

    What is done already is left alone. Ctrl-C keeps what is finished and saves what is under way; the same command
    goes on from there.
    """
    from rich.console import Console

    from classmodels.job.plan import expand_plan, selector
    from classmodels.run.job import run_job
    from classmodels.run.numerics import choose_machine
    from classmodels.run.progress import listener
    from classmodels.run.upload import Tally

    machine = choose_machine(device, backend)
    progress = listener(Console(stderr=True))
    with progress:
        plan = expand_plan(load(job, overrides, progress))
    wanted = selector(only, plan.units)
    store = store_of(plan.job, output)
    tally = Tally()
    try:
        with progress:
            report = run_job(plan, store, machine, progress, tally, wanted, state_interval)
    except KeyboardInterrupt:
        left = len([unit for unit in plan.units if wanted(unit)]) - tally.done - tally.already
        click.echo(
            f"interrupted: {tally.done + tally.already} units are done and kept, {left} are left;"
            " the same command goes on from there",
            err=True,
        )
        raise
    finally:
        report_failures(tally.failures)
    page = store.locate(report.page)
    if as_json:
        print_json(
            {
                "run": report.run12,
                "units": report.units,
                "done": report.done,
                "already": report.already,
                "verdicts": report.verdicts,
                "failed": [{"what": failure.what, "reason": failure.reason} for failure in report.failures],
                "page": page,
                "seconds": round(report.seconds, 3),
            }
        )
    elif report.done or report.verdicts or report.failures:
        click.echo(
            f"{report.done} units done, {report.already} were done already, {len(report.failures)} failed,"
            f" {report.verdicts} verdicts given, in {report.seconds:.0f} s"
        )
        click.echo(page)
    else:
        click.echo(f"nothing to do: all {report.already} units are done")
        click.echo(page)
    sys.exit(report.exit_code)


@click.command()
@JOB
@SET
@JSON
def validate(job: str, overrides: Sequence[str], as_json: bool) -> None:
    """Check JOB: every problem at once, each as file:line:column. Exit code 2 where there are any.

    Checkpoints elsewhere are looked for, not downloaded.
    """
    from classmodels.errors import InputError
    from classmodels.job.document import JobFileError, Problem

    try:
        checked = load(job, overrides, download=False)
    except InputError as error:
        if not as_json:
            raise
        found = error.problems if isinstance(error, JobFileError) else [Problem(0, 0, job, str(error))]
        problems = [{"line": p.line, "column": p.column, "where": p.where, "message": p.message} for p in found]
        print_json({"valid": False, "problems": problems})
        sys.exit(error.exit_code)
    if as_json:
        print_json({"valid": True, "problems": []})
    else:
        tell_notes(checked)
        more = f", and those of {', '.join(checked.uncounted)}" if checked.uncounted else ""
        click.echo(
            f"{job} is valid: {len(checked.models)} models, {len(checked.recipes)} recipes,"
            f" {sum(map(len, checked.classes.values())) * len(checked.recipes)} units{more}"
        )


@click.command()
@JOB
@SET
@OUTPUT
@JSON
@click.option("--estimate", "with_estimate", is_flag=True, help="Also what is left to do, its bytes and device-hours.")
def plan(job: str, overrides: Sequence[str], output: str | None, as_json: bool, with_estimate: bool) -> None:
    """List the units of JOB in order, and the shard each belongs to."""
    from dataclasses import asdict

    from rich.console import Console

    from classmodels.job.plan import expand_plan
    from classmodels.run.estimate import estimate
    from classmodels.run.progress import listener

    with listener(Console(stderr=True)) as progress:
        planned = expand_plan(load(job, overrides, progress))
    shards = planned.job.job.cluster.shards or 1
    cost = estimate(planned, store_of(planned.job, output)) if with_estimate else None
    each = _each_checkpoint(job, store_of(planned.job, output)) if with_estimate and not overrides else []
    rows = [
        {
            "shard": shard,
            "model": unit.task.model.spec.name,
            "model12": unit.task.model.model12,
            "recipe": unit.task.recipe.name,
            "recipe12": unit.task.recipe12,
            "class": unit.class_index,
            "label": unit.label,
            "record": unit.record_key,
        }
        for shard in range(shards)
        for unit in planned.shard(shard, shards)
    ]
    if as_json:
        about = {"run": planned.run12, "shards": shards, "units": rows, "estimate": cost and asdict(cost)}
        print_json(about | ({"each_checkpoint": [asdict(one) for one in each]} if each else {}))
        return
    for row in rows:
        click.echo(
            f"{row['shard']:>4}  {row['model']}@{row['model12']}  {row['recipe']}@{row['recipe12']}"
            f"  {row['class']:>4}  {row['label']}"
        )
    click.echo(f"run {planned.run12}: {len(rows)} units in {shards} shards")
    if cost:
        hours = "unknown: nothing was timed here yet" if cost.device_hours is None else f"{cost.device_hours:.3g}"
        click.echo(
            f"left to do: {cost.missing} units, {cost.objects} objects, about {cost.bytes / 1e6:.1f} MB;"
            f" device-hours {hours}"
        )
    for one in each:
        hours = "unknown: nothing was timed here yet" if one.device_hours is None else f"{one.device_hours:.3g}"
        click.echo(
            f"as a template of `nightly`, each checkpoint of {one.model}: {one.units} units, {one.objects} objects,"
            f" about {one.bytes / 1e6:.1f} MB; device-hours {hours}"
        )


def _each_checkpoint(job: str, store: "Store") -> "list[Each]":
    """What each checkpoint costs if JOB is a template of `nightly`: none of its models has a checkpoint."""
    from classmodels.errors import InputError
    from classmodels.nights.foresee import each_checkpoint
    from classmodels.nights.template import read_template

    try:
        template = read_template(job)
    except InputError:
        return []
    return each_checkpoint(template, store)


@click.command()
@click.option("--events", is_flag=True, help="Of a line that `worker` prints, instead.")
def schema(events: bool) -> None:
    """Print the JSON Schema of a job file, for editors and other programs."""
    if events:
        from classmodels.run.events import json_schema
    else:
        from classmodels.job.schema import json_schema

    print_json(json_schema())


@click.command()
@JOB
@click.argument("dest", metavar="DEST", type=click.Path(file_okay=False))
@SET
@JSON
def fetch(job: str, dest: str, overrides: Sequence[str], as_json: bool) -> None:
    """Mirror in the folder DEST what JOB needs from elsewhere, for machines without a route out.

    Checkpoints and labels at s3:// and https:// addresses, and weights known by name. Prints how to use the mirror
    there; again: fetches only what changed.
    """
    from dataclasses import asdict

    from rich.console import Console

    from classmodels.run.fetch import fetch_job
    from classmodels.run.progress import listener

    with listener(Console(stderr=True)) as progress:
        mirror = fetch_job(job, dest, overrides, progress)
    if as_json:
        print_json(asdict(mirror) | {"root": str(mirror.root)})
        return
    for file in mirror.files:
        click.echo(f"{file.model}: {file.what}{f' (sha256 {file.sha256[:12]})' if file.sha256 else ''}")
    if mirror.beside:
        click.echo(f"bring along with {job}: {', '.join(mirror.beside)}")
    if mirror.packages:
        click.echo(f"install there: {', '.join(mirror.packages)}")
    click.echo(f"on a machine that has {mirror.root} (or a copy: change the paths), no network is needed after")
    for name, value in mirror.environment.items():
        click.echo(f"  export {name}={shlex.quote(value)}")


@click.command()
@JSON
def info(as_json: bool) -> None:
    """Versions, devices, backends, and why one is missing."""
    from classmodels.run.info import collect

    about = collect()
    if as_json:
        print_json(about)
        return
    for part, facts in about.items():
        click.echo(part)
        for name, value in facts.items():
            click.echo(f"  {name:<14} {value}")

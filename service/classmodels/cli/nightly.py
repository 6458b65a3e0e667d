"""The command `nightly`."""

import sys
from collections.abc import Callable
from typing import Any

import click

from classmodels.cli.shared import JSON, print_json


@click.command()
@click.argument("template", metavar="TEMPLATE", type=click.Path(dir_okay=False))
@click.option("--checkpoints", required=True, metavar="PREFIX", help="A folder or s3://bucket/prefix of checkpoints.")
@click.option(
    "--pattern",
    metavar="REGEX",
    help="What a checkpoint's path below PREFIX is as a whole, with groups (?P<model>) (?P<step>) (?P<epoch>)"
    " (?P<time>). Without it: as training tools usually name them.",
)
@click.option("--ready", metavar="SUFFIX", help="Whole is what has a marker: <checkpoint>SUFFIX, or SUFFIX beside it.")
@click.option(
    "--settled", default="10m", show_default=True, metavar="AGE", help="Without --ready: not written to for so long."
)
@click.option("--since", metavar="DATE|AGE", help="None older: 2026-01-31, 30d.")
@click.option("--keep-last", type=click.IntRange(1), metavar="N", help="Only the N newest of each model.")
@click.option("--max-new", type=click.IntRange(1), metavar="N", help="Do at most N this night, the newest first.")
@click.option("--refresh", is_flag=True, help="Also what is done already, such as by an older version.")
@click.option("--submit", is_flag=True, help="Have a Kubernetes cluster do it; a later night gathers what is done.")
@click.option("--output", metavar="WHERE", help="A folder or s3://bucket/prefix, instead of the template's output.")
@click.option(
    "--webhook", envvar="CLASSMODELS_WEBHOOK", show_envvar=True, metavar="URL", help="Where to post the summary."
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--dry-run", is_flag=True, help="Only tell what would be done, and what it would cost.")
@JSON
def nightly(
    template: str,
    checkpoints: str,
    pattern: str | None,
    ready: str | None,
    settled: str,
    since: str | None,
    keep_last: int | None,
    max_new: int | None,
    refresh: bool,
    submit: bool,
    output: str | None,
    webhook: str | None,
    device: str,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Make galleries of the checkpoints under PREFIX that are new, and compare them with those before.

    TEMPLATE is a job file whose ascended models have no checkpoint. Run it as often as you like: what is done is left
    alone, and what was cut off is completed. Exit code 3 where a checkpoint is broken or something failed.
    """
    from datetime import UTC, datetime

    from rich.console import Console

    from classmodels.nightly import Nightly
    from classmodels.nights.discover import Whole
    from classmodels.nights.reconcile import Bounds, age, moment
    from classmodels.nights.submit import cluster
    from classmodels.nights.tell import check_webhook
    from classmodels.nights.template import read_template
    from classmodels.run.numerics import choose_machine
    from classmodels.run.progress import listener
    from classmodels.store import open_store

    read = read_template(template)
    earliest = None if since is None else moment("--since", since, datetime.now(UTC))
    night = Nightly(
        read,
        checkpoints,
        pattern,
        Whole(ready, age("--settled", settled)),
        Bounds(earliest, keep_last, max_new, refresh),
    )
    if webhook:
        check_webhook(webhook)
    where = output or read.job.output
    store = open_store(where, read.settings)
    if dry_run:
        _tell_plan(night.foresee(store), as_json)
        return
    to, sweep = cluster(where, read.job.cluster.namespace) if submit else (None, None)
    with listener(Console(stderr=True)) as progress:
        summary = night.run(store, choose_machine(device, "auto"), progress, to, webhook or None)
        if sweep is not None:
            _sweep(sweep)
    if as_json:
        print_json(summary)
    else:
        _tell(summary, store.locate)
    sys.exit(summary["exit_code"])


def _sweep(sweep: Callable[[], list[str]]) -> None:
    """Tidying up that fails fails no night."""
    from classmodels.errors import ClusterError

    try:
        for name in sweep():
            click.echo(f"removed the ConfigMap {name}, which an old run left behind", err=True)
    except ClusterError as error:
        click.echo(f"what old runs left behind on the cluster stays: {error}", err=True)


def _tell(summary: dict[str, Any], locate: Any) -> None:
    for one in summary["checkpoints"]:
        if one["end"] in ("broken", "blocked", "incomplete", "unreachable") or one["failed"]:
            reasons = [one["reason"]] if one["reason"] else []
            reasons += [f"{failure['what']}: {failure['reason']}" for failure in one["failed"][:5]]
            click.echo(f"{one['end']}: {one['uri']}: {'; '.join(reasons)}", err=True)
    for one in summary["passed"]:
        click.echo(f"passed over: {one['uri']}: {one['reason']}", err=True)
    for one in summary["failed"]:
        click.echo(f"failed: {one['what']}: {one['reason']}", err=True)
    wait = f"; {summary['waiting']} are not whole yet" if summary["waiting"] else ""
    if not summary["checkpoints"]:
        click.echo(f"nothing new{wait}")
        if "summary" in summary:
            click.echo(locate(summary["summary"]))
        return
    ends: dict[str, int] = {}
    for one in summary["checkpoints"]:
        ends[one["end"]] = ends.get(one["end"], 0) + 1
    counts = ", ".join(f"{count} {end}" for end, count in ends.items())
    made = sum(one["made"] for one in summary["checkpoints"])
    click.echo(f"checkpoints: {counts}; {made} class models made in {summary['seconds']:.0f} s{wait}")
    if "summary" in summary:
        click.echo(locate(summary["summary"]))


def _tell_plan(foreseen: list[Any], as_json: bool) -> None:
    rows = [
        {
            "uri": one.work.found.uri,
            "model": one.work.found.source,
            "step": one.work.found.step,
            "epoch": one.work.found.epoch,
            "why": one.work.why,
            "units": one.units,
            "device_hours": one.device_hours,
        }
        for one in foreseen
    ]
    if as_json:
        print_json({"checkpoints": rows})
        return
    for row in rows:
        units = "units unknown until it is read" if row["units"] is None else f"{row['units']} units"
        hours = "unknown: nothing was timed yet" if row["device_hours"] is None else f"{row['device_hours']:.3g}"
        click.echo(f"{row['why']:<6}  {row['model']}  {row['uri']}  {units}; device-hours {hours}")
    click.echo(f"{len(rows)} checkpoints would be done" if rows else "nothing new")

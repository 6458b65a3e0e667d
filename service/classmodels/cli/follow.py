"""The commands that look at runs on a cluster: status, logs. `list` without SRC is in `results.py`."""

import sys
from typing import TYPE_CHECKING

import click

from classmodels.cli.shared import CONTEXT, JSON, NAMESPACE, OUTPUT, RUN, print_json

if TYPE_CHECKING:
    from classmodels.cluster.target import Target


@click.command()
@RUN
@OUTPUT
@CONTEXT
@NAMESPACE
@click.option("--watch", "watching", is_flag=True, help="Until it is over; the exit code is that of its result.")
@JSON
def status(
    run: str | None, output: str | None, context: str | None, namespace: str | None, watching: bool, as_json: bool
) -> None:
    """How RUN goes: units done, score, time left, restarts, why it waits.

    RUN is a Job's name, a run's digest, a job's name or its file; the only run there is if it is left out. With
    --watch it is followed: exit code 0 complete, 3 some units failed, 2 the job was refused, 130 cancelled. With
    --output a run that the cluster has forgotten is looked for in its bucket.
    """
    from dataclasses import asdict

    from classmodels.cluster.shown import lines
    from classmodels.cluster.status import Observer
    from classmodels.cluster.target import find, forgotten

    target = find(run, context, namespace, output)
    if target.attempt is None:
        found = forgotten(target)
        if as_json:
            print_json(asdict(found))
        else:
            click.echo(str(found))
        sys.exit(found.exit_code if watching else 0)
    if watching:
        sys.exit(watch_run(target, as_json))
    seen = Observer(target.cluster, target.results()).look(target.attempt)
    if as_json:
        print_json(asdict(seen))
    else:
        click.echo("\n".join(lines(seen)))


@click.command()
@RUN
@OUTPUT
@CONTEXT
@NAMESPACE
@click.option("--index", type=click.IntRange(0), metavar="N", help="Only of this shard.")
@click.option("--follow", "-f", "following", is_flag=True, help="Go on as the workers do, until the run is over.")
@click.option("--since", metavar="AGE", help="Only what is younger: 45s, 10m, 2h, 1d.")
@JSON
def logs(
    run: str | None,
    output: str | None,
    context: str | None,
    namespace: str | None,
    index: int | None,
    following: bool,
    since: str | None,
    as_json: bool,
) -> None:
    """What the workers of RUN say: from its pods while they are there, else from the bucket.

    RUN is a Job's name, a run's digest, a job's name or its file; the only run there is if it is left out. With --json
    the lines are as the workers told them; `classmodels schema --events` describes them.
    """
    from classmodels.cluster.lines import readable
    from classmodels.cluster.logs import since as seconds
    from classmodels.cluster.logs import told
    from classmodels.cluster.target import find

    age = None if since is None else seconds(since)
    said = False
    for source, line in told(find(run, context, namespace, output), index, age, following):
        said = True
        click.echo(line if as_json else f"{source.index:>4} {readable(line)}")
    if not said:
        click.echo("no worker has said anything (yet); `classmodels status` tells why", err=True)


def watch_run(target: "Target", as_json: bool) -> int:
    """Follow the run until it is over; its exit code."""
    from classmodels.cluster.shown import ended
    from classmodels.cluster.status import Observer
    from classmodels.cluster.watch import screen, watch

    attempt = target.require_attempt()
    try:
        with screen(as_json, click.echo) as shown:
            code, last = watch(attempt, target.cluster, Observer(target.cluster, target.results()), shown)
    except KeyboardInterrupt:
        at = " ".join([attempt.name, *target.cluster.place])
        click.echo(f"the run goes on: classmodels status {at} --watch, or classmodels cancel {at}", err=True)
        raise
    if not as_json:
        click.echo("\n".join(ended(attempt, last, target.cluster.place)))
    return code

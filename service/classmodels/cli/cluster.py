"""The commands that make and end runs on a cluster: render, submit, retry, cancel."""

import json
import shlex
import sys
from collections.abc import Sequence

import click

from classmodels.cli.shared import CONTEXT, JOB, JSON, NAMESPACE, OUTPUT, RUN, SET, load, print_json, tell_notes


@click.command()
@JOB
@SET
@OUTPUT
@JSON
@click.option(
    "--site",
    metavar="FILE",
    multiple=True,
    type=click.Path(dir_okay=False),
    help="The site's defaults: fields of a job's `cluster`, as YAML. Of several the last is the strongest.",
)
def render(job: str, overrides: Sequence[str], output: str | None, as_json: bool, site: Sequence[str]) -> None:
    """Print the Kubernetes objects that run JOB, for `kubectl apply -f -`. No cluster is asked, nothing is uploaded."""
    from rich.console import Console

    from classmodels.cluster.manifest import to_yaml
    from classmodels.cluster.render import render as render_plan
    from classmodels.cluster.site import read_site_file
    from classmodels.job.plan import expand_plan
    from classmodels.run.progress import listener

    defaults = [read_site_file(file) for file in site]
    with listener(Console(stderr=True)) as progress:
        plan = expand_plan(load(job, overrides, progress))
    rendered = render_plan(plan, output or plan.job.job.output, defaults)
    tell_notes(plan.job)
    objects = [rendered.objects.config_map, rendered.objects.job]
    if as_json:
        print_json({"apiVersion": "v1", "kind": "List", "items": objects})
    else:
        click.echo(to_yaml(*objects), nl=False)
    for violation in rendered.violations:
        click.echo(f"restricted Pod Security would refuse the pods: {violation}", err=True)
    if rendered.packed.files:
        click.echo(
            f"the job has local inputs, {rendered.packed}, which its workers look for at its output:"
            f" classmodels submit {shlex.quote(job)} --upload-only puts them there",
            err=True,
        )


@click.command()
@JOB
@SET
@OUTPUT
@CONTEXT
@NAMESPACE
@click.option("--dry-run", is_flag=True, help="Check all, by the cluster too if it can be reached; make nothing.")
@click.option("--upload-only", is_flag=True, help="Only upload what the job names beside its file; for `render`.")
@click.option("--watch", "watching", is_flag=True, help="Follow the run; the exit code is that of its result.")
@JSON
def submit(
    job: str,
    overrides: Sequence[str],
    output: str | None,
    context: str | None,
    namespace: str | None,
    dry_run: bool,
    upload_only: bool,
    watching: bool,
    as_json: bool,
) -> None:
    """Run JOB on a Kubernetes cluster, its results in a bucket.

    What the job names beside its file travels with it. The same job again is the same run: it is attached to, and a
    submission that was cut off goes on.
    """
    from rich.console import Console

    from classmodels.cli.follow import watch_run
    from classmodels.cluster.connect import connect
    from classmodels.cluster.render import bucket_of
    from classmodels.cluster.shown import submission
    from classmodels.cluster.site import NAMESPACE as DEFAULT
    from classmodels.cluster.submit import prepare, try_out, upload_inputs
    from classmodels.cluster.submit import submit as submit_plan
    from classmodels.cluster.target import find
    from classmodels.errors import ClusterError
    from classmodels.job.plan import expand_plan
    from classmodels.results.progress import meter
    from classmodels.run.progress import listener

    if namespace:
        overrides = [*overrides, f"cluster.namespace={namespace}"]
    with listener(Console(stderr=True)) as progress:
        plan = expand_plan(load(job, overrides, progress))
    where = bucket_of(output or plan.job.job.output)  # a slip that no cluster need be asked for
    tell_notes(plan.job)
    if upload_only:
        rendered = prepare(plan, where, None)
        if not dry_run:
            with meter() as told:
                upload_inputs(plan, rendered, where, told)
        what = "would be" if dry_run else "are"
        click.echo(f"{rendered.packed} {what} at {where.rstrip('/')}/runs/{plan.run12}/inputs")
        return
    cluster = None
    try:
        cluster = connect(context, plan.job.job.cluster.namespace, DEFAULT)
        rendered = prepare(plan, where, cluster)
    except ClusterError as error:
        if not dry_run or error.status:
            raise
        click.echo(f"not checked by a cluster: {error}", err=True)
        cluster, rendered = None, prepare(plan, where, None)
    for violation in rendered.violations:
        click.echo(f"restricted Pod Security would refuse the pods: {violation}", err=True)
    if dry_run:
        done = try_out(plan, rendered, where, cluster)
    else:
        assert cluster is not None
        with meter() as told:
            done = submit_plan(plan, rendered, where, cluster, told)
    for warning in cluster.warnings if cluster else ():
        click.echo(f"the cluster warns: {warning}", err=True)
    if as_json and watching:
        click.echo(json.dumps(done.summary, ensure_ascii=False))  # a line like those that follow
    elif as_json:
        print_json(done.summary)
    else:
        click.echo("\n".join(submission(done, cluster.place if cluster else ())))
    if watching and done.attempt is not None and not dry_run:
        sys.exit(watch_run(find(done.name, context, done.namespace, None), as_json))
    sys.exit(done.exit_code)


@click.command()
@RUN
@OUTPUT
@CONTEXT
@NAMESPACE
@JSON
def retry(run: str | None, output: str | None, context: str | None, namespace: str | None, as_json: bool) -> None:
    """Try again what failed of RUN, which is over: a new Job, as the last one was. What is done is not done again.

    RUN is a Job's name, a run's digest, a job's name or its file; the only run there is if it is left out.
    """
    from classmodels.cluster.steer import retry as retry_run
    from classmodels.cluster.target import find

    target = find(run, context, namespace, output)
    attempt, is_new = retry_run(target)
    if as_json:
        print_json({"name": attempt.name, "run12": attempt.run12, "attempt": attempt.number, "new": is_new})
        return
    at = f" {shlex.join(target.cluster.place)}".rstrip()
    click.echo(f"{'submitted' if is_new else 'submitted, which had been cut off:'} {attempt.name}")
    click.echo(f"  classmodels status {attempt.name}{at} --watch")


@click.command()
@RUN
@CONTEXT
@NAMESPACE
@JSON
def cancel(run: str | None, context: str | None, namespace: str | None, as_json: bool) -> None:
    """End RUN and remove it from the cluster. What is done stays in the bucket; submitting the job again goes on.

    RUN is a Job's name, a run's digest, a job's name or its file; the only run there is if it is left out.
    """
    from classmodels.cluster.shown import cancellation
    from classmodels.cluster.steer import cancel as cancel_run
    from classmodels.cluster.target import find

    target = find(run, context, namespace, None)
    done = cancel_run(target)
    if as_json:
        print_json({"run12": done.run12, "jobs": [name for name, _ in done.jobs], "config_maps": done.config_maps})
    else:
        click.echo("\n".join(cancellation(done, target.output)))

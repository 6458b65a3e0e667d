"""The commands on a cluster's runs: render."""

import shlex
from collections.abc import Sequence

import click

from classmodels.cli.shared import JOB, JSON, OUTPUT, SET, load, print_json


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
    objects = [rendered.objects.config_map, rendered.objects.job]
    if as_json:
        print_json({"apiVersion": "v1", "kind": "List", "items": objects})
    else:
        click.echo(to_yaml(*objects), nl=False)
    for violation in rendered.violations:
        click.echo(f"restricted Pod Security would refuse the pods: {violation}", err=True)
    if files := rendered.packed.files:
        click.echo(
            f"the job has {len(files)} files with it, {sum(size for *_, size in files) / 1e6:.1f} MB, which its workers"
            f" look for at its output: classmodels submit {shlex.quote(job)} --upload-only puts them there",
            err=True,
        )

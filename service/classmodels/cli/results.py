"""The commands on finished results, in a folder or a bucket: list, pull, verify, compare, export, prune, gallery."""

import sys
from collections.abc import Sequence

import click

from classmodels.cli.shared import CONTEXT, JSON, NAMESPACE, ONLY, SOURCE, print_json


@click.command("list")
@click.argument("source", metavar="[SRC]", required=False)
@CONTEXT
@NAMESPACE
@JSON
def list_(source: str | None, context: str | None, namespace: str | None, as_json: bool) -> None:
    """What galleries and units SRC holds, a folder or s3://bucket/prefix; without SRC the runs on the cluster."""
    from dataclasses import asdict

    from classmodels.results.holdings import holdings, lines
    from classmodels.results.place import open_place

    if source is None:
        _list_runs(context, namespace, as_json)
        return
    if context or namespace:
        raise click.UsageError("--context and --namespace go with a list of runs, which is one without SRC")
    found = holdings(open_place(source))
    if as_json:
        print_json(asdict(found))
    else:
        click.echo("\n".join(lines(found)))


def _list_runs(context: str | None, namespace: str | None, as_json: bool) -> None:
    from datetime import UTC, datetime

    from classmodels.cluster.connect import connect
    from classmodels.cluster.runs import runs
    from classmodels.cluster.shown import summaries, table
    from classmodels.cluster.site import NAMESPACE as DEFAULT

    cluster = connect(context, namespace, DEFAULT)
    found = runs(cluster)
    if as_json:
        print_json({"namespace": cluster.namespace, "runs": summaries(found)})
    elif found:
        click.echo("\n".join(table(found, datetime.now(UTC))))
    else:
        click.echo(f"no runs in the namespace {cluster.namespace} at {cluster.server}")


@click.command()
@SOURCE
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False))
@ONLY
@click.option("--dry-run", is_flag=True, help="Only tell how much would come.")
@JSON
def pull(source: str, folder: str, only: Sequence[str], dry_run: bool, as_json: bool) -> None:
    """Bring SRC into the folder DIR: only what is missing or differs, checked by sha256.

    SRC is a folder or s3://bucket/prefix, or a gallery in it: s3://bucket/prefix/galleries/figure-1. The pages in DIR
    open from the disk. Cut off, the same command goes on from there.
    """
    from dataclasses import asdict

    from classmodels.results.place import open_place
    from classmodels.results.progress import counted, megabytes, meter
    from classmodels.results.pull import pull as pull_place
    from classmodels.store.only import Only

    patterns = Only(only)
    try:
        with meter() as told:
            report = pull_place(open_place(source), folder, patterns, told, dry_run=dry_run)
    except KeyboardInterrupt:
        click.echo("interrupted: what has come is kept; the same command goes on from there", err=True)
        raise
    for key, reason in report.failed.items():
        click.echo(f"failed: {key}: {reason}", err=True)
    if as_json:
        print_json(asdict(report) | {"dry_run": dry_run})
    elif report.objects or report.failed or dry_run:
        what = "would come" if dry_run else "came"
        click.echo(
            f"{counted(report.units, 'unit')} {what} ({counted(report.objects, 'object')}, {megabytes(report.bytes)}),"
            f" {report.current} were here already, {len(report.failed)} failed"
        )
    else:
        click.echo(f"nothing to do: all {counted(report.current, 'unit')} are here")
    if not as_json and report.pages:
        click.echo("\n".join(report.pages))
    sys.exit(3 if report.failed else 0)


@click.command()
@SOURCE
@JSON
def verify(source: str, as_json: bool) -> None:
    """Recheck every object of SRC against its record: exit code 1 and a list where something differs."""
    from dataclasses import asdict

    from classmodels.results.place import open_place
    from classmodels.results.progress import counted, megabytes, meter
    from classmodels.results.verify import verify as verify_place

    with meter() as told:
        report = verify_place(open_place(source), told)
    if as_json:
        print_json(asdict(report))
    else:
        for one in report.differences:
            click.echo(f"{one.key}: {one.found}; {one.advice}")
        unfinished = f"; not done yet: {counted(report.unfinished, 'unit')}" if report.unfinished else ""
        differences, objects = counted(len(report.differences), "difference"), counted(report.objects, "object")
        click.echo(f"{differences} in {objects} ({megabytes(report.bytes)}){unfinished}")
    sys.exit(1 if report.differences else 0)


@click.command()
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option(
    "--output", metavar="WHERE", default="./compare", help="A folder or s3://bucket/prefix. [default: ./compare]"
)
@JSON
def compare(a: str, b: str, output: str, as_json: bool) -> None:
    """Compare B with the older A class by class, the most changed first: a page of both, with their pictures.

    A and B are galleries, such as ./galleries/galleries/figure-1/<run>, or the units of a model under a recipe, such as
    s3://bucket/prefix/units/<model>@<id>/<recipe>@<id>. Changed is what is more than another seed would do, where there
    are units of another seed to tell that.
    """
    from classmodels.results.compare import compare as compare_places
    from classmodels.results.compare import lines
    from classmodels.results.place import open_place
    from classmodels.results.progress import meter
    from classmodels.store import open_store

    with meter() as told:
        found = compare_places(open_place(a), open_place(b), open_store(output), told)
    if as_json:
        print_json({"comparisons": found})
    else:
        click.echo("\n".join(line for one in found for line in lines(one)))


@click.command()
@SOURCE
@click.argument("page", metavar="PAGE.html", type=click.Path(dir_okay=False))
@JSON
def export(source: str, page: str, as_json: bool) -> None:
    """Write one gallery of SRC as a single file: pictures inlined and made smaller, to be sent or put behind a link."""
    from dataclasses import asdict

    from classmodels.results.export import export as export_gallery
    from classmodels.results.place import open_place
    from classmodels.results.progress import counted, megabytes

    done = export_gallery(open_place(source), page)
    if as_json:
        print_json(asdict(done))
    else:
        missing = f", {done.missing} are not there" if done.missing else ""
        click.echo(
            f"{done.job} {done.run12}: {counted(done.images, 'image')}, {counted(done.films, 'film')}{missing},"
            f" {megabytes(done.bytes)}"
        )
        click.echo(done.page)


@click.command()
@SOURCE
@click.option(
    "--older-than", metavar="AGE", help="Delete galleries to which nothing was added for so long: 30d, 12h, 8w."
)
@click.option(
    "--keep-last", type=click.IntRange(0), help="Keep so many galleries of each job, whatever their age. [default: 1]"
)
@click.option("--dry-run", is_flag=True, help="Only tell what would be deleted.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@JSON
def prune(source: str, older_than: str | None, keep_last: int | None, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Delete galleries of SRC by age and count, with the units that no other gallery shows.

    What is deleted leaves a tombstone, so that a nightly run does not make it again. See first: --dry-run.
    """
    from classmodels.results.place import open_place
    from classmodels.results.prune import carry_out, choose, lines

    doomed = choose(open_place(source), older_than, keep_last)
    if not as_json:
        click.echo("\n".join(lines(doomed)))
    if (doomed.galleries or doomed.unfinished) and not dry_run:
        if not yes and not sys.stdin.isatty():
            raise click.UsageError("this deletes for good: look with --dry-run, then say --yes")
        if not yes:
            click.confirm("Delete?", abort=True, err=True)
        for job in carry_out(doomed):
            click.echo(f"{job} was begun meanwhile and may lack units that it found done: run it again", err=True)
    if as_json:
        print_json(doomed.summary | {"dry_run": dry_run})


@click.command()
@SOURCE
@JSON
def gallery(source: str, as_json: bool) -> None:
    """Rebuild the pages of every run in SRC, a folder or s3://bucket/prefix, from its records and verdicts."""
    from classmodels.gallery.rebuild import rebuild
    from classmodels.results.place import open_place

    place = open_place(source)
    pages = [place.store.locate(key) for key in rebuild(place.store, place.inside)]
    if as_json:
        print_json({"pages": pages})
    else:
        click.echo("\n".join(pages))

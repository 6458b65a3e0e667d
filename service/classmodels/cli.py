"""The commands: parse arguments, call what does the work, print what it says. No logic of its own.

Heavy imports stand inside the commands, so that `--help` answers at once.
"""

import json
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import click

from classmodels import __version__
from classmodels.errors import ClassmodelsError

if TYPE_CHECKING:
    from classmodels.job.check import CheckedJob
    from classmodels.models.remote.base import Listener
    from classmodels.store import Store

JOB = click.argument("job", metavar="JOB", type=click.Path(dir_okay=False))
SET = click.option("--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Change a field, e.g. seed=1.")
OUTPUT = click.option(
    "--output", metavar="WHERE", help="A folder or s3://bucket/prefix for the results, instead of the job's output."
)
ONLY = click.option(
    "--only", multiple=True, metavar="MODEL/RECIPE/CLASS", help="Only these units; * matches any part, e.g. */l2/9."
)
SOURCE = click.argument("source", metavar="SRC")
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="classmodels")
def cli() -> None:
    """See what each class means to an image classifier.

    For every class of a network, classmodels finds the image that the network itself scores highest (Simonyan et
    al. 2013) and gathers these class models in a gallery. Start with: classmodels run jobs/figure-1.yaml
    """


@cli.command()
@JOB
@SET
@OUTPUT
@ONLY
@JSON
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option(
    "--backend",
    type=click.Choice(["auto", "cuda", "cpp", "torch"]),
    default="auto",
    show_default=True,
    help="What computes the steps; a backend that is named and missing is an error.",
)
@click.option(
    "--state-interval",
    type=click.FloatRange(min=0),
    default=20.0,
    show_default=True,
    envvar="CLASSMODELS_STATE_INTERVAL",
    show_envvar=True,
    metavar="SECONDS",
    help="How often the batch under way is saved, so that a killed run goes on from there.",
)
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
        plan = expand_plan(_load(job, overrides, progress))
    wanted = selector(only, plan.units)
    store = _store(plan.job, output)
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
        _report_failures(tally.failures)
    page = store.locate(report.page)
    if as_json:
        _print_json(
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


@cli.command()
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
        checked = _load(job, overrides, download=False)
    except InputError as error:
        if not as_json:
            raise
        found = error.problems if isinstance(error, JobFileError) else [Problem(0, 0, job, str(error))]
        problems = [{"line": p.line, "column": p.column, "where": p.where, "message": p.message} for p in found]
        _print_json({"valid": False, "problems": problems})
        sys.exit(error.exit_code)
    if as_json:
        _print_json({"valid": True, "problems": []})
    else:
        more = f", and those of {', '.join(checked.uncounted)}" if checked.uncounted else ""
        click.echo(
            f"{job} is valid: {len(checked.models)} models, {len(checked.recipes)} recipes,"
            f" {sum(map(len, checked.classes.values())) * len(checked.recipes)} units{more}"
        )


@cli.command()
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
        planned = expand_plan(_load(job, overrides, progress))
    shards = planned.job.job.cluster.shards or 1
    cost = estimate(planned, _store(planned.job, output)) if with_estimate else None
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
        _print_json({"run": planned.run12, "shards": shards, "units": rows, "estimate": cost and asdict(cost)})
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


@cli.command()
def schema() -> None:
    """Print the JSON Schema of a job file, for editors and other programs."""
    from classmodels.job.schema import json_schema

    _print_json(json_schema())


@cli.command("list")
@SOURCE
@JSON
def list_(source: str, as_json: bool) -> None:
    """What galleries and units SRC holds, a folder or s3://bucket/prefix."""
    from dataclasses import asdict

    from classmodels.results.holdings import holdings, lines
    from classmodels.results.place import open_place

    found = holdings(open_place(source))
    if as_json:
        _print_json(asdict(found))
    else:
        click.echo("\n".join(lines(found)))


@cli.command()
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
    from classmodels.results.progress import megabytes, meter
    from classmodels.results.pull import pull as pull_place
    from classmodels.store.only import Only

    patterns = Only(only)
    with meter() as told:
        report = pull_place(open_place(source), folder, patterns, told, dry_run=dry_run)
    for key, reason in report.failed.items():
        click.echo(f"failed: {key}: {reason}", err=True)
    if as_json:
        _print_json(asdict(report) | {"dry_run": dry_run})
    elif report.objects or report.failed or dry_run:
        what = "would come" if dry_run else "came"
        click.echo(
            f"{report.units} units {what} ({report.objects} objects, {megabytes(report.bytes)}),"
            f" {report.current} were here already, {len(report.failed)} failed"
        )
    else:
        click.echo(f"nothing to do: all {report.current} units are here")
    if not as_json and report.pages:
        click.echo("\n".join(report.pages))
    sys.exit(3 if report.failed else 0)


@cli.command()
@SOURCE
@JSON
def verify(source: str, as_json: bool) -> None:
    """Recheck every object of SRC against its record: exit code 1 and a list where something differs."""
    from dataclasses import asdict

    from classmodels.results.place import open_place
    from classmodels.results.progress import megabytes, meter
    from classmodels.results.verify import verify as verify_place

    with meter() as told:
        report = verify_place(open_place(source), told)
    if as_json:
        _print_json(asdict(report))
    else:
        for one in report.differences:
            click.echo(f"{one.key}: {one.found}; {one.advice}")
        unfinished = f", {report.unfinished} units are not done yet" if report.unfinished else ""
        click.echo(
            f"{len(report.differences)} differences in {report.objects} objects ({megabytes(report.bytes)}){unfinished}"
        )
    sys.exit(1 if report.differences else 0)


@cli.command()
@SOURCE
@click.argument("page", metavar="PAGE.html", type=click.Path(dir_okay=False))
@JSON
def export(source: str, page: str, as_json: bool) -> None:
    """Write one gallery of SRC as a single file: pictures inlined and made smaller, to be sent or put behind a link."""
    from dataclasses import asdict

    from classmodels.results.export import export as export_gallery
    from classmodels.results.place import open_place
    from classmodels.results.progress import megabytes

    done = export_gallery(open_place(source), page)
    if as_json:
        _print_json(asdict(done))
    else:
        missing = f", {done.missing} are not there" if done.missing else ""
        click.echo(
            f"{done.job} {done.run12}: {done.images} images, {done.films} films{missing}, {megabytes(done.bytes)}"
        )
        click.echo(done.page)


@cli.command()
@SOURCE
@click.option("--older-than", metavar="AGE", help="Delete galleries begun longer ago than this: 30d, 12h, 8w.")
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
        carry_out(doomed)
    if as_json:
        _print_json(doomed.summary | {"dry_run": dry_run})


@cli.command()
@SOURCE
@JSON
def gallery(source: str, as_json: bool) -> None:
    """Rebuild the pages of every run in SRC, a folder or s3://bucket/prefix, from its records and verdicts."""
    from classmodels.gallery.rebuild import rebuild
    from classmodels.results.place import open_place

    place = open_place(source)
    pages = [place.store.locate(key) for key in rebuild(place.store, place.inside)]
    if as_json:
        _print_json({"pages": pages})
    else:
        click.echo("\n".join(pages))


@cli.command()
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
        _print_json(asdict(mirror) | {"root": str(mirror.root)})
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


@cli.command()
@JSON
def info(as_json: bool) -> None:
    """Versions, devices, backends, and why one is missing."""
    from classmodels.run.info import collect

    about = collect()
    if as_json:
        _print_json(about)
        return
    for part, facts in about.items():
        click.echo(part)
        for name, value in facts.items():
            click.echo(f"  {name:<14} {value}")


def _load(
    job: str, overrides: Sequence[str], progress: "Listener | None" = None, download: bool = True
) -> "CheckedJob":
    from classmodels.job.check import load_job

    return load_job(job, overrides, progress, download)


def _store(checked: "CheckedJob", output: str | None) -> "Store":
    """Where the results of a job go; `output` instead of what the job says."""
    from classmodels.s3 import S3Settings
    from classmodels.store import open_store

    return open_store(output or checked.job.output, S3Settings(**checked.job.storage.model_dump()))


def _report_failures(failures: Sequence[Any], shown: int = 20) -> None:
    """Failures by reason: one line for a thousand units that failed for the same one."""
    by_reason: dict[str, list[str]] = {}
    for failure in failures:
        by_reason.setdefault(failure.reason, []).append(failure.what)
    for reason, what in list(by_reason.items())[:shown]:
        others = f" and {len(what) - 1} more" if len(what) > 1 else ""
        click.echo(f"failed: {what[0]}{others}: {reason}", err=True)


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def _guarded(command: Callable[[], Any]) -> int:
    """Run `command`; every error meant for people becomes its message and exit code, an interrupt becomes 130."""
    try:
        command()
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except ClassmodelsError as error:
        click.echo(f"{error.prefix}{error}", err=True)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return 130
    return 0


def main() -> NoReturn:
    """The console script."""
    # A polite kill ends like Ctrl-C: what is done is kept and said.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(_guarded(lambda: cli.main(standalone_mode=False)))


if __name__ == "__main__":
    main()

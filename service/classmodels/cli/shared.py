"""What several commands share: options, loading a job, finding its store, printing."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

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
DEVICE = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
BACKEND = click.option(
    "--backend",
    type=click.Choice(["auto", "cuda", "cpp", "torch"]),
    default="auto",
    show_default=True,
    help="What computes the steps; a backend that is named and missing is an error.",
)
STATE_INTERVAL = click.option(
    "--state-interval",
    type=click.FloatRange(min=0),
    default=20.0,
    show_default=True,
    envvar="CLASSMODELS_STATE_INTERVAL",
    show_envvar=True,
    metavar="SECONDS",
    help="How often the batch under way is saved, so that a killed run goes on from there.",
)
RUN = click.argument("run", metavar="[RUN]", required=False)
CONTEXT = click.option("--context", metavar="NAME", help="Of the kube config, instead of its current one.")
NAMESPACE = click.option("--namespace", "-n", metavar="NAME", help="Instead of the job's, or the context's.")
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")


def load(job: str, overrides: Sequence[str], progress: "Listener | None" = None, download: bool = True) -> "CheckedJob":
    from classmodels.job.check import load_job

    return load_job(job, overrides, progress, download)


def tell_notes(checked: "CheckedJob") -> None:
    """What is no mistake in a job, and hardly meant: such as a network with random weights."""
    for model in checked.models:
        for note in model.notes:
            click.echo(f"{model.spec.name}: {note}", err=True)


def store_of(checked: "CheckedJob", output: str | None) -> "Store":
    """Where the results of a job go; `output` instead of what the job says."""
    from classmodels.s3 import S3Settings
    from classmodels.store import open_store

    return open_store(output or checked.job.output, S3Settings(**checked.job.storage.model_dump()))


def report_failures(failures: Sequence[Any], shown: int = 20) -> None:
    """Failures by reason: one line for a thousand units that failed for the same one."""
    by_reason: dict[str, list[str]] = {}
    for failure in failures:
        by_reason.setdefault(failure.reason, []).append(failure.what)
    for reason, what in list(by_reason.items())[:shown]:
        others = f" and {len(what) - 1} more" if len(what) > 1 else ""
        click.echo(f"failed: {what[0]}{others}: {reason}", err=True)


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))

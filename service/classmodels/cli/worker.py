"""The command that pods run: worker."""

import sys

import click

from classmodels.cli.shared import BACKEND, DEVICE, STATE_INTERVAL


@click.command()
@click.option(
    "--job",
    required=True,
    metavar="JOB",
    type=click.Path(dir_okay=False),
    help="The job file; if inputs.json lies beside it, what that lists is fetched from the bucket first.",
)
@click.option(
    "--index",
    required=True,
    type=click.IntRange(0),
    envvar="JOB_COMPLETION_INDEX",
    show_envvar=True,
    help="Which shard, from 0 on.",
)
@click.option("--shards", required=True, type=click.IntRange(1, 10_000), help="How many shards the plan has.")
@click.option("--run", "run12", metavar="RUN", help="The run that the job must come to; exit code 2 where it does not.")
@click.option("--require-cuda", is_flag=True, help="Exit code 4 where no GPU can be used, instead of using the CPU.")
@DEVICE
@BACKEND
@STATE_INTERVAL
def worker(
    job: str,
    index: int,
    shards: int,
    run12: str | None,
    require_cuda: bool,
    device: str,
    backend: str,
    state_interval: float,
) -> None:
    """Do one shard of a JOB: what a pod on a cluster runs, or a task of any other scheduler.

    Prints events, a JSON object on each line: `classmodels schema --events`. Exit codes: 0 done; 2 the job is wrong,
    nobody need try again; 3 some units failed, the others are done; 4 storage or this machine cannot be used, which
    another attempt may mend; 130 interrupted, with the state saved.
    """
    from pathlib import Path

    from classmodels.worker import Options, work

    options = Options(Path(job), index, shards, run12, require_cuda, device, backend, state_interval)
    sys.exit(work(options, sys.stdout))

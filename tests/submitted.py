"""A job as a cluster has it: packed, its inputs in the bucket, and what its ConfigMap holds in a folder."""

from dataclasses import dataclass
from pathlib import Path

from classmodels.cluster.inputs import Packed, pack, upload
from classmodels.job.check import load_job
from classmodels.job.plan import Plan, expand_plan
from classmodels.results.progress import Silent
from classmodels.store import Store, open_store


@dataclass(frozen=True)
class Submitted:
    """job: the job file in the folder of the ConfigMap. sent: how many files were uploaded."""

    job: Path
    plan: Plan
    packed: Packed
    store: Store
    sent: int

    @property
    def run12(self) -> str:
        return self.plan.run12

    def worker(self, index: int, shards: int) -> list[str]:
        """The arguments of a worker's container."""
        options = {"--job": self.job, "--index": index, "--shards": shards, "--run": self.run12}
        return ["worker", *(str(part) for option in options.items() for part in option)]


def submit(job: Path, output: str, config: Path) -> Submitted:
    """Submit `job` with its results to `output`; what the ConfigMap would hold goes to the folder `config`."""
    plan = expand_plan(load_job(job))
    packed, store = pack(plan, output), open_store(output)
    sent = upload(packed, store, plan.run12, Silent())
    config.mkdir(parents=True, exist_ok=True)
    (config / "job.yaml").write_text(packed.job_yaml)
    (config / "inputs.json").write_text(packed.inputs_json)
    return Submitted(config / "job.yaml", plan, packed, store, sent)

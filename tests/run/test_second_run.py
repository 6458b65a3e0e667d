"""What it costs to find that nothing is to do: requests by model and recipe, not by unit. Counted at boto3's own hooks.

`benchmarks/store.py` measures the same at full size: 1000 units, and 20 models of 1000 units each.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from classmodels.store import open_store
from classmodels.store import s3 as store_s3
from finished import finish

Command = Callable[..., Any]
MODELS, RECIPES, CLASSES = 2, 2, 60


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """How many requests of each method have been sent since the test began to count: `requests.clear()`."""
    counted: Counter[str] = Counter()
    connect = store_s3.connect

    def counting(settings: Any) -> Any:
        client = connect(settings)
        client.meta.events.register("before-send.s3", lambda request, **_: counted.update([request.method]))
        return client

    monkeypatch.setattr(store_s3, "connect", counting)
    return counted


@pytest.fixture
def many(tmp_path: Path, write_job: Callable[..., Path], bucket_uri: str) -> Path:
    """A job whose units are all done."""
    models = [
        {
            "name": f"tiny-{seed}",
            "source": {"factory": "nets:linear", "args": [CLASSES, 3, 8, seed]},
            "input": {"size": 8, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
        }
        for seed in range(MODELS)
    ]
    recipes = [{"name": f"quick-{steps}", "extends": "plain", "steps": steps} for steps in range(1, RECIPES + 1)]
    job = write_job(tmp_path, models=models, recipes=recipes, classes="all", output=bucket_uri)
    finish(job, open_store(bucket_uri))
    return job


def test_a_second_run_asks_a_few_times_for_each_model_and_recipe_and_writes_nothing(
    many: Path, run_command: Command, requests: Counter[str]
) -> None:
    ended = run_command("run", many)
    assert ended.code == 0
    assert ended.out.splitlines()[0] == f"nothing to do: all {MODELS * RECIPES * CLASSES} units are done"
    # A listing for each model and recipe; a look at the bucket, the plan, the states, the page's data and the pointer,
    # the page and its sheet.
    assert requests == {"GET": MODELS * RECIPES + 7}


def test_a_second_run_with_judges_lists_the_verdicts_on_its_own_units_alone(
    tmp_path: Path, write_job: Callable[..., Path], bucket_uri: str, run_command: Command, requests: Counter[str]
) -> None:
    job = write_job(tmp_path, output=bucket_uri, panel="all")
    assert run_command("run", job).code == 0
    store = open_store(bucket_uri)
    (judge,) = {key.split("/")[1] for key in store.list("verdicts/")}
    for number in range(30):
        store.write(f"verdicts/{judge}/elsewhere@{number:012x}/plain@000000000000/0000.000000000000.json", b"{}")
    requests.clear()
    assert run_command("run", job).out.startswith("nothing to do")
    assert requests == {"GET": 9}

"""A unit's image depends on its identity alone: not on its batch, its order, its shard, nor on what was done before."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from classmodels.job.check import load_job
from classmodels.job.plan import expand_plan
from classmodels.models.classifier import load
from classmodels.models.spec import InputSpec
from classmodels.models.torchvision_compat import import_torchvision
from classmodels.run.batch import Climb, ascend_all
from classmodels.run.job import run_job
from classmodels.run.numerics import choose, choose_machine
from classmodels.run.progress import Quiet
from classmodels.run.upload import Tally
from classmodels.store import open_store

RECIPE = {
    "name": "quick",
    "extends": "natural",
    "steps": 3,
    "precision": "fp32",
    "regularizers": {"tv": 0.05, "blur": {"sigma": 0.5, "every": 2}, "small_norm": {"percentile": 20, "every": 3}},
}


def images(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*.png") if "units" in path.parts}


def run(plan, folder: Path, units=None) -> dict[str, bytes]:
    wanted = set(units) if units is not None else None
    machine = choose_machine("cpu")
    run_job(
        plan,
        open_store(str(folder)),
        machine,
        Quiet(),
        Tally(),
        lambda unit: wanted is None or unit.record_key in wanted,
    )
    return images(folder)


@pytest.mark.parametrize("factory", ["linear", "conv"])
def test_a_unit_gives_the_same_bytes_alone_in_a_batch_in_another_order_and_in_another_shard(
    factory: str, tmp_path: Path, write_job: Callable[..., Path]
) -> None:
    model = {
        "name": "tiny",
        "source": {"factory": f"nets:{factory}"},
        "input": {"size": 8, "mean": [0.5] * 3, "std": [0.25] * 3},
    }
    job = write_job(tmp_path, models=[model], classes=[0, 1, 2, 3, 4], recipes=[RECIPE])
    plan = expand_plan(load_job(job))
    together = run(plan, tmp_path / "together")
    assert len(together) == 5
    backwards = expand_plan(load_job(job, ["classes=[4, 3, 2, 1, 0]"]))
    assert run(backwards, tmp_path / "backwards") == together
    alone: dict[str, bytes] = {}
    for unit in plan.units:
        alone |= run(plan, tmp_path / f"alone-{unit.class_index}", [unit.record_key])
    assert alone == together
    sharded: dict[str, bytes] = {}
    for index in range(2):
        keys = [unit.record_key for unit in plan.shard(index, 2)]
        sharded |= run(plan, tmp_path / f"shard-{index}", keys)
    assert sharded == together


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "vision_transformer", "vgg11"])
def test_real_architectures_give_the_same_bits_in_any_place_of_a_batch(name: str) -> None:
    from classmodels.job.recipes import recipe_of
    from classmodels.models.classifier import frozen, wrap

    size, models = 64, import_torchvision().models
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if name == "vision_transformer":
            network = models.VisionTransformer(size, 16, 2, 4, 64, 128, num_classes=6)
        else:
            network = models.get_model(name, weights=None, num_classes=6)
    recipe = recipe_of(RECIPE | {"steps": 2}).recipe
    machine = choose_machine("cpu")
    classifier = wrap(network, InputSpec(size=(size, size)))
    with frozen(network):
        choice = choose(classifier, recipe, machine)
        climbs = [Climb(target, f"unit/{target}") for target in range(3)]

        def ascend(order: list[int]) -> dict[int, bytes]:
            chosen = [climbs[index] for index in order]
            found: dict[int, bytes] = {}
            for _, summits in ascend_all(classifier, recipe, chosen, choice, machine):
                found |= {climb.target: s.x.tobytes() for climb, s in zip(chosen, summits, strict=True)}
            return found

        together = ascend([0, 1, 2])
        assert ascend([2, 0, 1]) == together
        assert ascend([1])[1] == together[1]


def test_out_of_memory_halves_the_batch_and_says_so_in_the_numerics(
    tmp_path: Path, write_job: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from classmodels.run import batch as batches

    real = batches.ascend_batch
    sizes = []

    def short_of_memory(classifier, recipe, climbs, choice, *rest):
        sizes.append(choice.batch)
        if choice.batch > 1:
            rest[2](3)  # a step of three units, lost with the batch
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
        return real(classifier, recipe, climbs, choice, *rest)

    monkeypatch.setattr(batches, "ascend_batch", short_of_memory)
    plan = expand_plan(load_job(write_job(tmp_path, classes=[0, 1])))
    classifier = load(plan.units[0].task.model)
    machine = choose_machine("cpu")
    recipe = plan.units[0].task.recipe.recipe
    climbs = [Climb(unit.class_index, unit.identity) for unit in plan.units]
    steps = []
    choice = choose(classifier, recipe, machine)
    done = list(ascend_all(classifier, recipe, climbs, choice, machine, on_step=steps.append))
    assert sizes == [4, 2, 1, 1]
    assert [used.described["batch"] for used, _ in done] == [1, 1]
    assert sum(steps) == 2 * recipe.steps  # what was lost is not counted


def test_another_error_of_the_network_is_not_taken_for_a_lack_of_memory() -> None:
    from classmodels.run.numerics import is_out_of_memory

    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_out_of_memory(RuntimeError("shapes do not match"))


def test_the_batch_shrinks_where_memory_is_small(
    tmp_path: Path, write_job: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from classmodels.run import numerics

    plan = expand_plan(load_job(write_job(tmp_path)))
    classifier, recipe = load(plan.units[0].task.model), plan.units[0].task.recipe.recipe
    machine = choose_machine("cpu")
    assert choose(classifier, recipe, machine).batch == numerics.LARGEST_BATCH["cpu"]
    monkeypatch.setattr(numerics, "total_memory", lambda: 1)
    assert choose(classifier, recipe, machine).batch == 1


def test_memory_counts_the_activations_and_not_the_weights() -> None:
    from classmodels.ascent.loop import Numerics
    from classmodels.models.classifier import frozen, wrap
    from classmodels.run.numerics import _bytes_per_image

    # A million weights, but only 8 x 8 x 3 inputs and 10 outputs to keep.
    network = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(192, 5000), torch.nn.ReLU(), torch.nn.Linear(5000, 10)
    )
    classifier = wrap(network, InputSpec(size=(8, 8)))
    with frozen(network):
        spent = _bytes_per_image(classifier, Numerics(), torch.device("cpu"))
    assert 5000 * 4 <= spent < 200_000

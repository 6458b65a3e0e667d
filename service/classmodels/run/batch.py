"""One batch: the units that ascend together, padded to a fixed size, and what came of each."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from classmodels.ascent.draws import initial_image, transform_maps
from classmodels.ascent.loop import Ascent
from classmodels.ascent.recipe import Recipe
from classmodels.ascent.space import Space
from classmodels.image import Pixels, to_pixels
from classmodels.models.classifier import Classifier
from classmodels.run.numerics import Choice, Machine, is_out_of_memory


@dataclass(frozen=True)
class Climb:
    """What the ascent needs to know of a unit: its class and what its randomness is drawn from."""

    target: int
    identity: str


@dataclass(frozen=True)
class Summit:
    """What came of a unit. x: float32 [C, H, W]. frames: uint8 [H, W, C] each. scores: float32 [steps + 1]."""

    x: NDArray[np.float32]
    frames: tuple[Pixels, ...]
    scores: NDArray[np.float32]
    logit: float
    probability: float
    rank: int
    failed: bool


def ascend_all(
    classifier: Classifier,
    recipe: Recipe,
    climbs: Sequence[Climb],
    choice: Choice,
    machine: Machine,
    frames: Sequence[int] = (),
    on_step: Callable[[int], None] = lambda images: None,
) -> Iterator[tuple[Choice, list[Summit]]]:
    """The units in batches, each with the numerics it was done with, in order.

    frames: after how many steps a frame is taken. on_step is told how many units took a step, or, negative, how many
    unit-steps were lost. Where memory runs out the batch starts over at half the size, under numerics that say so.
    """
    start = 0
    while start < len(climbs):
        part = climbs[start : start + choice.batch]
        taken = 0

        def count(images: int) -> None:
            nonlocal taken
            taken += images
            on_step(images)

        try:
            summits = ascend_batch(classifier, recipe, part, choice, machine, frames, count)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or choice.batch == 1:
                raise
            on_step(-taken)
            choice = choice.with_batch(choice.batch // 2)
            if machine.device.type == "cuda":
                torch.cuda.empty_cache()
            continue
        yield choice, summits
        start += len(part)


def ascend_batch(
    classifier: Classifier,
    recipe: Recipe,
    climbs: Sequence[Climb],
    choice: Choice,
    machine: Machine,
    frames: Sequence[int],
    on_step: Callable[[int], None],
) -> list[Summit]:
    """At most choice.batch units, ascended together; copies of the first fill the batch: the kernels stay the same."""
    device, spec = machine.device, classifier.input
    space = Space.of(spec.mean, spec.std, spec.size)
    padded = [*climbs, *[climbs[0]] * (choice.batch - len(climbs))]
    x = np.stack([initial_image(climb.identity, recipe.init, space.shape) for climb in padded])
    maps = None
    if recipe.transforms.active:
        drawn = [transform_maps(climb.identity, recipe.transforms, recipe.steps, spec.size) for climb in padded]
        maps = torch.from_numpy(np.stack(drawn, axis=1)).to(device)
    ascent = Ascent(
        classifier.logits,
        torch.tensor([climb.target for climb in padded], device=device),
        torch.from_numpy(x).to(device),
        maps,
        recipe,
        space.to(device),
        classifier.head,
        choice.loop,
    )
    wanted, film = set(frames), []
    for done in range(recipe.steps + 1):
        if done in wanted:
            film.append(to_pixels(_numpy(ascent.x), spec.mean, spec.std))
        if done < recipe.steps:
            ascent.step()
            on_step(len(climbs))
    final = ascent.finish()
    images, scores = _numpy(ascent.x), _numpy(ascent.scores)
    logit, probability, rank = final.logit.tolist(), final.probability.tolist(), final.rank.tolist()
    failed = ascent.failed.tolist()
    return [
        Summit(
            images[index],
            tuple(frame[index] for frame in film),
            scores[index],
            logit[index],
            probability[index],
            rank[index],
            failed[index],
        )
        for index in range(len(climbs))
    ]


def _numpy(tensor: torch.Tensor) -> NDArray[np.float32]:
    return np.asarray(tensor.cpu().numpy())

"""One batch: the units that ascend together, padded to a fixed size, and what came of each.

A batch that was interrupted goes on from its saved state, byte for byte as if nothing had happened: see `Saving`.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

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
from classmodels.run.state import State

log = logging.getLogger("classmodels")


@dataclass(frozen=True)
class Climb:
    """What the ascent needs to know of a unit: its class and what its randomness is drawn from."""

    target: int
    identity: str


@dataclass(frozen=True)
class Summit:
    """What came of a unit. x: float32 [C, H, W]. frames: uint8 [H, W, C] each. scores: float32 [steps + 1].

    seconds: its share of what the batch took, also before it was interrupted.
    """

    climb: Climb
    x: NDArray[np.float32]
    frames: tuple[Pixels, ...]
    scores: NDArray[np.float32]
    logit: float
    probability: float
    rank: int
    failed: bool
    seconds: float


class Saving(Protocol):
    """Who keeps the state of batches under way; `keeper.py` does, for runs with a store."""

    def resume(self, climbs: Sequence[Climb], choice: Choice) -> State | None:
        """The state of a batch with some of `climbs`, at most choice.batch, that is to go on; None to begin anew."""

    def between_steps(self, climbs: Sequence[Climb], choice: Choice, snapshot: Callable[[], State]) -> None:
        """Called after every step: the place to take a snapshot, or to interrupt the ascent."""


def ascend_all(
    classifier: Classifier,
    recipe: Recipe,
    climbs: Sequence[Climb],
    choice: Choice,
    machine: Machine,
    frames: Sequence[int] = (),
    on_step: Callable[[int], None] = lambda images: None,
    saving: Saving | None = None,
    on_score: Callable[[Callable[[], float]], None] = lambda mean: None,
) -> Iterator[tuple[Choice, list[Summit]]]:
    """The units in batches, each with the numerics it was done with: in order, but for those with a saved state.

    frames: after how many steps a frame is taken. on_step is told how many units took a step, or, negative, how many
    unit-steps were lost; on_score, after each step, how to learn the mean of the scores just seen, which has the host
    wait for the device. Where memory runs out the batch starts over at half the size, under numerics that say so.
    """
    left = list(climbs)
    while left:
        state = saving.resume(left, choice) if saving else None
        if state is not None:
            left.sort(key=lambda climb: climb.identity not in state.units)
        part = left[: choice.batch if state is None else sum(climb.identity in state.units for climb in left)]
        taken = 0

        def count(images: int) -> None:
            nonlocal taken
            taken += images
            on_step(images)

        try:
            summits = ascend_batch(classifier, recipe, part, choice, machine, frames, count, saving, state, on_score)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or choice.batch == 1:
                raise
            on_step(-taken)
            choice = choice.with_batch(choice.batch // 2)
            if machine.device.type == "cuda":
                torch.cuda.empty_cache()
            continue
        yield choice, summits
        del summits  # or they would take up room while the next batch ascends
        left = left[len(part) :]


def ascend_batch(
    classifier: Classifier,
    recipe: Recipe,
    climbs: Sequence[Climb],
    choice: Choice,
    machine: Machine,
    frames: Sequence[int],
    on_step: Callable[[int], None],
    saving: Saving | None,
    state: State | None,
    on_score: Callable[[Callable[[], float]], None],
) -> list[Summit]:
    """At most choice.batch units, ascended together; copies of the first fill the batch: the kernels stay the same.

    state: where they go on from; None to begin. A state that is none of such a batch is passed over with a warning.
    """
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
    film: dict[int, Pixels] = {}
    began = time.monotonic()
    if state is not None:
        try:
            film = _go_on(ascent, state.rows([climb.identity for climb in padded]), frames)
        except (ValueError, TypeError) as error:  # TypeError: numbers of a kind that torch does not know
            log.warning("a saved state is ignored: %s", error)
        else:
            began -= state.seconds
            on_step(len(climbs) * state.done)

    def snapshot() -> State:
        own = slice(len(climbs))
        tensors = {name: tensor.numpy()[own] for name, tensor in ascent.state().items()}
        pictures = {step: pixels[own] for step, pixels in film.items()}
        units = tuple(climb.identity for climb in climbs)
        return State(units, choice.described, ascent.done, time.monotonic() - began, tensors, pictures)

    for done in range(ascent.done, recipe.steps + 1):
        if done in frames:
            film[done] = to_pixels(_numpy(ascent.x), spec.mean, spec.std)
        if done < recipe.steps:
            ascent.step()
            on_step(len(climbs))
            on_score(lambda: ascent.scores[: len(climbs), ascent.done - 1].nanmean().item())
            if saving is not None:
                saving.between_steps(climbs, choice, snapshot)
    final = ascent.finish()
    images, scores = _numpy(ascent.x), _numpy(ascent.scores)
    logit, probability, rank = final.logit.tolist(), final.probability.tolist(), final.rank.tolist()
    failed = ascent.failed.tolist()
    seconds = (time.monotonic() - began) / len(climbs)
    return [
        Summit(
            climb,
            images[index],
            tuple(film[step][index] for step in frames),
            scores[index],
            logit[index],
            probability[index],
            rank[index],
            failed[index],
            seconds,
        )
        for index, climb in enumerate(climbs)
    ]


def _go_on(ascent: Ascent, state: State, frames: Sequence[int]) -> dict[int, Pixels]:
    """Put `ascent` where it was in `state`, and return the film up to there. Raises ValueError where it was no such."""
    film = {step: state.film.get(step) for step in frames if step < state.done}
    count, channels, height, width = ascent.x.shape
    for step, pixels in film.items():
        if pixels is None or pixels.shape != (count, height, width, channels) or pixels.dtype != np.uint8:
            raise ValueError(f"it has no frame of step {step} like those of this film")
    ascent.restore({name: torch.from_numpy(values) for name, values in state.tensors.items()}, state.done)
    return {step: pixels for step, pixels in film.items() if pixels is not None}


def _numpy(tensor: torch.Tensor) -> NDArray[np.float32]:
    return np.asarray(tensor.cpu().numpy())

"""The loop: a batch of images climbs, each towards its own class, none knowing of the others.

Reads as DESIGN's "One step": look through the transforms, ask the network, take the gradient back to the pixels,
precondition, step, filter. `run/` decides what is in a batch and what becomes of it.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from classmodels.ascent.objective import log_probabilities, objective, rank
from classmodels.ascent.preconditioner import Precondition
from classmodels.ascent.recipe import Recipe
from classmodels.ascent.space import Space
from classmodels.ops import filters
from classmodels.ops.affine import affine
from classmodels.ops.step import coefficients, step, workspace

FP16_SCALE = 1024.0


@dataclass(frozen=True)
class Numerics:
    """How the arithmetic is carried out: chosen by `run/`, no part of the mathematics.

    autocast: dtype of the network's own arithmetic, or None for float32. layout: memory format of what it is shown.
    backend: of the ops, see `ops/backend.py`.
    """

    autocast: torch.dtype | None = None
    layout: torch.memory_format = torch.contiguous_format
    backend: str = "torch"


@dataclass(frozen=True)
class Final:
    """The network's view of the finished images, untransformed: logit and probability float32, rank int64, [N] each."""

    logit: Tensor
    probability: Tensor
    rank: Tensor


class Ascent:
    """N images on their way up.

    x: float32 [N, C, H, W], the images now. scores: float32 [N, steps + 1], NaN where not yet known. failed: bool
    [N], the images whose gradient or score was not finite; they stay as they were. Call `step` recipe.steps
    times, then `finish`; between steps `state` and `restore` interrupt the climb and take it up again.

    logits: the classifier, x [N, C, H, W] to float [N, classes]. targets: int64 [N]. maps: float32
    [steps, N, 2, 3] (see `draws.transform_maps`), or None without transforms.
    """

    def __init__(
        self,
        logits: Callable[[Tensor], Tensor],
        targets: Tensor,
        x: Tensor,
        maps: Tensor | None,
        recipe: Recipe,
        space: Space,
        head: str = "softmax",
        numerics: Numerics = Numerics(),
    ) -> None:
        self.logits, self.targets, self.head = logits, targets, head
        self.recipe, self.numerics = recipe, numerics
        self.maps = maps
        optimizer, regularizers = recipe.optimizer, recipe.regularizers
        # Changed in place from here on. However x lies in memory, this is contiguous, and so is all that goes with it.
        self.x = x.clone(memory_format=torch.contiguous_format)
        adam = optimizer.kind == "adam"
        self.m = torch.zeros_like(self.x) if adam or optimizer.momentum else None
        self.v = torch.zeros_like(self.x) if adam else None
        # Total variation reads an element's neighbours: the new image goes to a second buffer, and they change places.
        self.spare = torch.empty_like(self.x)
        self.partial = workspace(self.x)
        self.worth = filters.workspace(self.x)
        rows = [self._coefficients(t) for t in range(1, recipe.steps + 1)]
        self.schedule = torch.tensor(rows, dtype=torch.float64).to(x.device, x.dtype)
        self.failed = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        self.scores = torch.full((len(x), recipe.steps + 1), math.nan, device=x.device)
        self.done = 0
        self.x0 = space.towards(regularizers.towards).to(x.dtype)
        low, high = space.box if recipe.clamp else (space.mean - math.inf, space.mean + math.inf)
        self.low, self.high = low.to(x.dtype), high.to(x.dtype)
        self.x.clamp_(self.low, self.high)
        self.precondition = (
            Precondition(recipe.preconditioner, space.shape, x.device, x.dtype)
            if recipe.preconditioner.active
            else None
        )

    def step(self) -> None:
        """One step of every image; column `done` of scores is what the network saw."""
        raw = self._gradient()
        g = raw if self.precondition is None else self.precondition(raw, self._progress())
        moved = step(
            self.x,
            g.contiguous(),
            self.m,
            self.v,
            self.failed,
            self.schedule[self.done : self.done + 1],
            norm=self.recipe.optimizer.normalize,
            x0=self.x0.flatten(),
            low=self.low.flatten(),
            high=self.high.flatten(),
            out=self.spare if self.recipe.regularizers.tv else None,
            partial=self.partial,
            backend=self.numerics.backend,
        )
        if moved is self.spare:
            self.x, self.spare = self.spare, self.x
        self.done += 1
        self._filter(raw)

    def state(self) -> dict[str, Tensor]:
        """Copies, in main memory, of all that steps change but for `done`; what `restore` needs to go on from here."""
        return {name: tensor.to("cpu", copy=True) for name, tensor in self._changing().items()}

    def restore(self, state: Mapping[str, Tensor], done: int) -> None:
        """Go on as the ascent did that gave `state` after `done` steps: what follows is the same to the bit.

        Raises ValueError, and changes nothing, where `state` is none of an ascent like this one.
        """
        own = self._changing()
        if not 0 <= done <= self.recipe.steps:
            raise ValueError(f"found {done} steps done, expected at most {self.recipe.steps}")
        if state.keys() != own.keys():
            raise ValueError(f"found {sorted(state)}, expected {sorted(own)}")
        for name, tensor in own.items():
            found = state[name]
            if (found.shape, found.dtype) != (tensor.shape, tensor.dtype):
                raise ValueError(
                    f"{name}: found {found.dtype} {list(found.shape)}, expected {tensor.dtype} {list(tensor.shape)}"
                )
        for name, tensor in own.items():
            tensor.copy_(state[name])
        self.done = done

    def _changing(self) -> dict[str, Tensor]:
        held = {"x": self.x, "m": self.m, "v": self.v, "scores": self.scores, "failed": self.failed}
        return {name: tensor for name, tensor in held.items() if tensor is not None}

    def finish(self) -> Final:
        """The last column of scores, and the network's view of the finished images."""
        with torch.no_grad():
            logits = self._logits(self.x)
        self._see(logits, self.recipe.steps)
        chosen = log_probabilities(logits, self.head).gather(1, self.targets.view(-1, 1)).squeeze(1)
        return Final(self.scores[:, -1], chosen.exp(), rank(logits, self.targets))

    def _coefficients(self, t: int) -> tuple[float, ...]:
        optimizer, regularizers = self.recipe.optimizer, self.recipe.regularizers
        first, second = optimizer.betas if optimizer.kind == "adam" else (optimizer.momentum, 0.0)
        return coefficients(
            t,
            lr=self.learning_rate(t - 1),
            momentum=first,
            beta2=second,
            l2=regularizers.l2,
            l1=regularizers.l1,
            tv=regularizers.tv,
        )

    def learning_rate(self, done: int) -> float:
        """lr of the step that follows `done` finished ones; `cosine` falls from lr towards 0."""
        optimizer = self.recipe.optimizer
        if optimizer.schedule == "constant":
            return optimizer.lr
        return optimizer.lr * 0.5 * (1 + math.cos(math.pi * done / self.recipe.steps))

    def _gradient(self) -> Tensor:
        x = self.x.detach().requires_grad_(True)
        seen = x
        if self.maps is not None:
            seen = affine(x, self.maps[self.done], self.numerics.layout, self.numerics.backend)
        logits = self._logits(seen)
        self._see(logits.detach(), self.done)
        value = objective(logits, self.targets, self.recipe.objective, self.head).sum()
        # Half precision has no numbers for the small gradients of deep layers: they travel enlarged.
        scale = FP16_SCALE if self.numerics.autocast is torch.float16 else 1.0
        (gradient,) = torch.autograd.grad(value * scale, x)
        return gradient / scale

    def _logits(self, x: Tensor) -> Tensor:
        dtype = self.numerics.autocast
        with torch.autocast(x.device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None):
            logits = self.logits(x.contiguous(memory_format=self.numerics.layout))
        return logits.to(x.dtype)

    def _see(self, logits: Tensor, column: int) -> None:
        scores = logits.gather(1, self.targets.view(-1, 1)).squeeze(1)
        # A score can be NaN while its gradient is finite: a broken bias. That unit fails too.
        self.failed |= ~torch.isfinite(scores)
        self.scores[:, column] = scores

    def _progress(self) -> float:
        return self.done / max(self.recipe.steps - 1, 1)

    def _filter(self, g: Tensor) -> None:
        """The periodic regularizers; an image that failed keeps its pixels."""
        regularizers = self.recipe.regularizers
        blur, norm, contribution = regularizers.blur, regularizers.small_norm, regularizers.small_contribution
        common: dict[str, Any] = {"failed": self.failed, "backend": self.numerics.backend}
        clip: dict[str, Any] = {"x0": self.x0.flatten(), "worth": self.worth} | common
        if blur.sigma and self.done % blur.every == 0:
            filters.gaussian_blur(self.x, blur.sigma, scratch=self.spare, **common)
        if norm.percentile and self.done % norm.every == 0:
            filters.clip_small_norm(self.x, norm.percentile, **clip)
        if contribution.percentile and self.done % contribution.every == 0:
            filters.clip_small_contribution(self.x, g.contiguous(), contribution.percentile, **clip)

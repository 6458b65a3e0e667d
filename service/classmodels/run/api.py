"""`classmodels.ascend`: class models of any module in memory, for notebooks and tests. No files, no store."""

import base64
import html
import operator
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from pydantic import ValidationError
from rich.console import Console
from torch import Tensor, nn

from classmodels.errors import InputError
from classmodels.image import encode_png, to_image, to_pixels
from classmodels.job.identity import digest12, recipe_identity, unit_identity
from classmodels.job.recipes import recipe_of
from classmodels.models.classifier import frozen, wrap
from classmodels.models.prepare import prepare
from classmodels.models.spec import InputSpec
from classmodels.run.batch import Climb, Summit, ascend_all
from classmodels.run.machine import memory_kept
from classmodels.run.numerics import choose, choose_machine
from classmodels.run.progress import Quiet, listener


@dataclass(frozen=True)
class ClassModels:
    """The class models of some classes, in the order asked for.

    images: PIL images. tensor: float32 [N, C, H, W], normalised. scores: float32 [N, steps + 1], the raw logit of what
    the network saw at each step, the last that of the finished image. failed: whether a unit met NaN or infinity.
    """

    classes: tuple[int, ...]
    images: list[Image.Image]
    tensor: Tensor
    scores: Tensor
    failed: tuple[bool, ...]
    numerics: dict[str, Any]

    def _repr_html_(self) -> str:
        """A row of images, for a notebook."""
        cells = []
        for index, image, score in zip(self.classes, self.images, self.scores[:, -1].tolist(), strict=True):
            pixels = np.asarray(image)
            data = encode_png(pixels if pixels.ndim == 3 else pixels[..., None], {})
            source = "data:image/png;base64," + base64.b64encode(data).decode()
            caption = html.escape(f"class {index}, logit {score:.1f}")
            cells.append(
                f'<figure style="margin:0 8px 8px 0"><img src="{source}" alt="{caption}">'
                f"<figcaption>{caption}</figcaption></figure>"
            )
        return f'<div style="display:flex;flex-wrap:wrap">{"".join(cells)}</div>'


def ascend(
    model: nn.Module,
    classes: int | Sequence[int],
    recipe: str | Mapping[str, Any] = "natural",
    *,
    input: InputSpec | Mapping[str, Any] | None = None,
    seed: int = 0,
    device: str = "auto",
    backend: str = "auto",
    progress: bool = True,
) -> ClassModels:
    """Class models of `classes` (indices) for any module that maps images [B, C, H, W] to scores [B, classes].

    recipe: a preset's name, or a mapping as in a job file. input: size, mean and std likewise; None is 224 pixels
    and ImageNet's mean and std. device: `auto` is where the module's weights are. The module's mode, requires_grad,
    device and weights are the same afterwards. Raises InputError for wrong arguments, ModelError where the network
    cannot be ascended; a class whose score is not finite is marked in `failed`, with a warning.
    """
    wanted, seed = _indices(classes), _whole("seed", seed)
    if not 0 <= seed < 2**63:
        raise InputError(f"seed: found {seed}, expected 0 to 2**63 - 1")
    named = recipe_of(recipe)
    spec = _input(input)
    tensors = [*model.parameters(), *model.buffers()] if isinstance(model, nn.Module) else []
    home = tensors[0].device if tensors else torch.device("cpu")
    threads = torch.get_num_threads()
    try:
        machine = choose_machine(str(home) if device == "auto" else device, backend)
        if machine.device != home and tensors:
            model.to(machine.device)
        classifier = wrap(model, spec)
        outside = [index for index in wanted if not 0 <= index < classifier.classes]
        if outside or not wanted:
            found = ", ".join(map(str, outside)) or "none"
            raise InputError(f"classes: found {found}, expected indices from 0 to {classifier.classes - 1}")
        recipe12 = digest12(recipe_identity(named.recipe, seed))
        climbs = [Climb(index, unit_identity(classifier.model12, recipe12, index)) for index in wanted]
        summits: list[Summit] = []
        console = Console(stderr=True)
        reporter = listener(console) if progress and (console.is_terminal or console.is_jupyter) else Quiet()
        with frozen(model), reporter, memory_kept():
            classifier = prepare(classifier)
            choice = choose(classifier, named.recipe, machine)
            reporter.begin(named.name, len(climbs), named.recipe.steps)
            for used, part in ascend_all(classifier, named.recipe, climbs, choice, machine, on_step=reporter.step):
                summits += part
                choice = used
    finally:
        torch.set_num_threads(threads)
        if any(tensor.device != home for tensor in tensors):
            model.to(home)
    failed = tuple(summit.failed for summit in summits)
    if any(failed):
        broken = ", ".join(str(index) for index, bad in zip(wanted, failed, strict=True) if bad)
        warnings.warn(f"classes {broken}: the score or its gradient is not finite", stacklevel=2)
    x = np.stack([summit.x for summit in summits])
    return ClassModels(
        classes=tuple(wanted),
        images=[to_image(pixels) for pixels in to_pixels(x, spec.mean, spec.std)],
        tensor=torch.from_numpy(x),
        scores=torch.from_numpy(np.stack([summit.scores for summit in summits])),
        failed=failed,
        numerics=choice.described,
    )


def _indices(classes: Any) -> list[int]:
    """`classes` as a list of whole numbers: one, or a sequence of them; NumPy's and torch's count as such."""
    if isinstance(classes, str | bytes) or not hasattr(classes, "__iter__") or getattr(classes, "ndim", 1) == 0:
        classes = [classes]
    return [_whole("classes", index) for index in classes]


def _whole(name: str, value: Any) -> int:
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)
    except TypeError as error:
        raise InputError(f"{name}: found {value!r:.60}, expected a whole number") from error


def _input(value: InputSpec | Mapping[str, Any] | None) -> InputSpec:
    if value is None or isinstance(value, InputSpec):
        return value or InputSpec()
    if not isinstance(value, Mapping):
        raise InputError(f"input: found {value!r:.60}, expected a mapping of size, mean and std")
    try:
        return InputSpec.model_validate(dict(value))
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"input: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error

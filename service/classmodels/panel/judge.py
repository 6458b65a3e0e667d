"""One judge: how a stored image is shown to it, how the unit's class is found among its own, what it answers.

The whole image is resized to the judge's input, bicubic and without a crop. Classes are matched by label or by an
explicit map, never by index: index 7 of two networks is as a rule not the same thing.
"""

import contextlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from classmodels.errors import InputError
from classmodels.image import Pixels, to_image
from classmodels.models.classifier import Classifier
from classmodels.models.labels import find_class
from classmodels.models.resolve import ResolvedModel
from classmodels.models.spec import InputSpec
from classmodels.panel.features import Penultimate
from classmodels.store.records import TopClass

BATCH = 8
"""Images judged together, always this many, so that a verdict does not depend on how many there were."""


def same_class(
    index: int, label: str, model: ResolvedModel, judge: ResolvedModel, mapping: Mapping[str, str | int]
) -> int | None:
    """The judge's own index of class `index`, labelled `label`, of `model`; None where it does not know that class.

    The same network, or the same list of labels, means the same index; so do two checkpoints of one model, which have
    one name, where it has no labels. Otherwise the label decides, after `mapping`.
    """
    if label in mapping:
        other = mapping[label]
        if isinstance(other, int):
            return other
        label = other
    elif model.model12 == judge.model12 or (model.labels is not None and model.labels == judge.labels):
        return index
    elif model.labels is None:
        return index if judge.labels is None and model.spec.name == judge.spec.name else None
    if judge.labels is None:
        return None
    try:
        return find_class(label, judge.labels)
    except InputError:
        return None


def prepare(pixels: Pixels, spec: InputSpec) -> NDArray[np.float32] | None:
    """Pixels uint8 [H, W, C] as the judge's input float32 [C', H', W'], normalised; None where C' is not 1 or 3."""
    if spec.channels not in (1, 3):
        return None
    picture = to_image(pixels).convert("L" if spec.channels == 1 else "RGB")
    height, width = spec.size
    resized = picture.resize((width, height), Image.Resampling.BICUBIC)
    values = np.asarray(resized, np.float32).reshape(height, width, spec.channels) / 255
    normalised = (values - np.asarray(spec.mean, np.float32)) / np.asarray(spec.std, np.float32)
    return np.ascontiguousarray(np.moveaxis(normalised, -1, 0))


def judge_images(
    judge: Classifier,
    images: Sequence[NDArray[np.float32]],
    device: torch.device,
    penultimate: Penultimate | None = None,
) -> NDArray[np.float64]:
    """The judge's probabilities, float64 [N, classes], for prepared images float32 [C, H, W] each.

    penultimate: is given the features of these images, in their order.
    """
    rows = []
    for start in range(0, len(images), BATCH):
        part = np.stack(images[start : start + BATCH])
        padded = np.concatenate((part, np.repeat(part[:1], BATCH - len(part), axis=0)))
        x = torch.from_numpy(padded).to(device).contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            with penultimate or contextlib.nullcontext():
                logits = judge.logits(x)
            rows.append(judge.probabilities(logits).double().cpu().numpy()[: len(part)])
            if penultimate is not None:
                penultimate.take(logits, len(part))
    return np.concatenate(rows)


def top_classes(probabilities: NDArray[np.float64], judge: Classifier, count: int = 5) -> tuple[TopClass, ...]:
    """The `count` most probable classes of one image, the lower index first among equals."""
    order = np.argsort(-probabilities, kind="stable")[:count]
    return tuple(
        TopClass(index=int(index), label=judge.label(int(index)), probability=round(float(probabilities[index]), 6))
        for index in order
    )


def rank_of(probabilities: NDArray[np.float64], index: int) -> int:
    """Place of class `index`, 1 = the most probable; ties count in its favour."""
    return int((probabilities > probabilities[index]).sum()) + 1

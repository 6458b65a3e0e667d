"""What benchmarks/loop.py compares: classmodels' loop, the network alone, torch-lucent, and the article's naive loop.

Each is a closure that does one iteration; `images` of them move by one step.
"""

import copy
import importlib
import itertools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from classmodels.ascent.draws import initial_image, transform_maps
from classmodels.ascent.loop import Ascent
from classmodels.ascent.recipe import Recipe
from classmodels.ascent.space import Space
from classmodels.job.recipes import recipe_of
from classmodels.models.classifier import Classifier
from classmodels.models.prepare import prepare
from classmodels.models.torchvision_compat import import_torchvision
from classmodels.ops.affine import affine
from classmodels.run.numerics import Choice, Machine, choose

PRESETS = ("plain", "l2", "l1", "natural")
STEPS = 100_000  # no ascent here is finished
DRAWN = 64  # steps whose transforms are drawn, and then used again


@dataclass
class Contestant:
    name: str
    iterate: Callable[[], Any]
    images: int


def contestants(classifier: Classifier, machine: Machine, batch: int | None) -> tuple[list[Contestant], Choice]:
    """All that can be had here. classifier: frozen, unprepared, on the machine's device, channels_last."""
    prepared = prepare(classifier)
    choice = choose(prepared, recipe_of("natural").recipe, machine)
    choice = choice if batch is None else choice.with_batch(batch)
    found = [Contestant("network", network_alone(prepared, choice, machine), choice.batch)]
    for preset in PRESETS:
        found.append(Contestant(preset, ascent_of(prepared, choice, machine, preset).step, choice.batch))
    found.append(Contestant("naive", naive(classifier), 1))
    if (lucent := import_lucent()) is not None:
        found.append(Contestant("torch-lucent", lucent_steps(lucent, classifier), LUCENT_STEPS))
    found += phases(prepared, choice, machine)
    return found, choice


def recipe_with_steps(preset: str) -> Recipe:
    return recipe_of({"extends": preset}).recipe.model_copy(update={"steps": STEPS})


def targets_of(classifier: Classifier, count: int, device: torch.device) -> Tensor:
    return torch.arange(count, device=device) * 7 % classifier.classes


def network_alone(classifier: Classifier, choice: Choice, machine: Machine) -> Callable[[], Any]:
    """(a) Forward and input gradient of the prepared network, as the loop runs it, and nothing else."""
    spec, dtype = classifier.input, choice.loop.autocast
    x = torch.randn(choice.batch, spec.channels, *spec.size, device=machine.device)
    x = x.contiguous(memory_format=choice.loop.layout).requires_grad_(True)
    targets = targets_of(classifier, choice.batch, machine.device).view(-1, 1)

    def iterate() -> Tensor:
        with torch.autocast(machine.device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None):
            logits = classifier.logits(x)
        return torch.autograd.grad(logits.gather(1, targets).sum(), x)[0]

    return iterate


def ascent_of(classifier: Classifier, choice: Choice, machine: Machine, preset: str) -> Ascent:
    recipe, spec, device = recipe_with_steps(preset), classifier.input, machine.device
    space = Space.of(spec.mean, spec.std, spec.size)
    names = [f"loop/{index}" for index in range(choice.batch)]
    maps = None
    if recipe.transforms.active:
        drawn = [transform_maps(name, recipe.transforms, DRAWN, spec.size) for name in names]
        maps = torch.from_numpy(np.stack(drawn, axis=1)).to(device)
        maps = maps.repeat(-(-STEPS // DRAWN), 1, 1, 1) if STEPS * maps[0].numel() < 1 << 24 else Again(maps)
    x = torch.from_numpy(np.stack([initial_image(name, recipe.init, space.shape) for name in names])).to(device)
    targets = targets_of(classifier, choice.batch, device)
    return Ascent(classifier.logits, targets, x, maps, recipe, space.to(device), classifier.head, choice.loop)


class Again:
    """A tensor whose first dimension begins anew where it ends."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    def __getitem__(self, index: int) -> Tensor:
        return self.tensor[index % len(self.tensor)]


def naive(classifier: Classifier) -> Callable[[], Any]:
    """(c) The article's loop as it is usually written: one image, a network that still wants gradients, float32."""
    net = copy.deepcopy(classifier.net).to(memory_format=torch.contiguous_format).requires_grad_(True)  # type: ignore[call-overload]
    device = next(net.parameters()).device
    x = torch.randn(1, classifier.input.channels, *classifier.input.size, device=device, requires_grad=True)

    def iterate() -> None:
        net.zero_grad()
        x.grad = None
        (net(x)[0, 9] - 0.01 * (x * x).sum()).backward()
        with torch.no_grad():
            x.add_(x.grad, alpha=5.0).clamp_(-2, 2)

    return iterate


LUCENT_STEPS = 3


def lucent_steps(lucent: ModuleType, classifier: Classifier) -> Callable[[], Any]:
    """(b) torch-lucent as its README uses it: one image, Fourier parameters, its standard transforms."""
    objective, size = f"labels:{9}", classifier.input.size[0]

    def iterate() -> None:
        # It leaves hooks on every module of the network that it is given, more each time.
        net = lucent_copy(classifier.net)
        parameters = lambda: lucent.param.image(size, fft=True, decorrelate=True)  # noqa: E731
        lucent.render.render_vis(
            net, objective, parameters, thresholds=(LUCENT_STEPS,), progress=False, show_image=False
        )

    return iterate


def lucent_copy(net: nn.Module) -> nn.Module:
    """`net` as it comes from its factory: its tensors are shared, but they want gradients."""
    made = copy.deepcopy(net, {id(tensor): tensor for tensor in itertools.chain(net.parameters(), net.buffers())})
    for module in made.modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is not None:
                module._parameters[name] = nn.Parameter(parameter.detach())
    return made


def import_lucent() -> ModuleType | None:
    """`lucent.optvis`, or None where it is not installed."""
    import_torchvision()
    try:
        importlib.import_module("IPython.display")
    except ImportError:  # it only shows pictures with it
        sys.modules["IPython"] = ModuleType("IPython")
        sys.modules["IPython.display"] = ModuleType("IPython.display")
        sys.modules["IPython"].display = sys.modules["IPython.display"]  # type: ignore[attr-defined]
    try:
        import lucent.optvis.param
        import lucent.optvis.render
    except ImportError as error:
        print(f"torch-lucent is not compared: {error}", flush=True)
        return None
    return lucent.optvis


def phases(classifier: Classifier, choice: Choice, machine: Machine) -> list[Contestant]:
    """The parts of a step of `natural` but for the network, each alone on tensors like those of the loop."""
    ascent = ascent_of(classifier, choice, machine, "natural")
    assert ascent.precondition is not None
    g = torch.randn_like(ascent.x)
    seen = g.contiguous(memory_format=choice.loop.layout)

    def transform() -> None:
        x = ascent.x.detach().requires_grad_(True)
        torch.autograd.grad(affine(x, ascent.maps[0], choice.loop.layout, choice.loop.backend), x, seen)

    # The network's part of the step is taken by a gradient that is there already.
    stepper = ascent_of(classifier, choice, machine, "natural")
    stepper._gradient = lambda: g  # type: ignore[method-assign]
    stepper.precondition = None
    moving = itertools.count()
    parts = {
        "transform": transform,
        "preconditioner": lambda: ascent.precondition(g, next(moving) % 97 / 97),
        "step": stepper.step,
    }
    return [Contestant(f"natural: {name}", part, choice.batch) for name, part in parts.items()]

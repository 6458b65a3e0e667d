"""A network ready to be ascended or to judge: raw logits in, nothing trained, nothing left to check.

`load` builds the classifier of a job, `wrap` one from any module in memory. Both run one probe: two noise images
forward and backward, so that a network of the wrong shape, size or kind is refused here with a sentence and not
in the middle of a batch. `ascent` and `panel` use only what `Classifier` shows.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from classmodels.errors import ClassmodelsError, InputError, ModelError
from classmodels.models import sources, weights
from classmodels.models.fit import fit, fit_transformers
from classmodels.models.outputs import describe_scores, extract
from classmodels.models.resolve import (
    ResolvedModel,
    check_checkpoint,
    check_source,
    digest_identity,
    digest_state,
    local_checkpoint,
)
from classmodels.models.spec import FieldError, InputSpec
from classmodels.models.user_code import first_line, importable

Head = Literal["softmax", "sigmoid", "binary"]


@dataclass
class Classifier:
    """A frozen network with its preprocessing, head and labels.

    classes counts what can be ascended: the network's outputs, or 2 for a binary head. labels is None where no
    names are known. resolved is None for a module that was wrapped in memory. deterministic is False where two runs
    on the same images gave scores that differ in any bit. folded: see `prepare.py`.
    """

    net: nn.Module
    name: str
    model12: str
    family: str
    head: Head
    output: str | int
    labels: tuple[str, ...] | None
    input: InputSpec
    classes: int
    notes: tuple[str, ...] = ()
    resolved: ResolvedModel | None = None
    deterministic: bool = True
    folded: bool = False

    def logits(self, x: Tensor) -> Tensor:
        """Raw scores, float32 [B, classes], of normalised images x, float32 [B, C, H, W].

        A binary head's one logit z becomes [-z, z], so that class 0 ascends its negative. Differentiable in x.
        Raises ModelError where the network returns anything but one row of scores for each image.
        """
        with _plain_script(self.net):
            returned = self.net(x)
        scores = extract(returned, self.output, x.shape[0]).float()
        if self.head == "binary":
            return torch.cat([-scores, scores], dim=1)
        return scores

    def probabilities(self, logits: Tensor) -> Tensor:
        """Probabilities [B, classes] of logits [B, classes]: softmax, or for sigmoid and binary each one's sigmoid."""
        return logits.softmax(dim=1) if self.head == "softmax" else logits.sigmoid()

    def label(self, index: int) -> str:
        """The name of class `index`, or `class <index>` where none is known."""
        return self.labels[index] if self.labels is not None else f"class {index}"

    def to(
        self, device: torch.device | str, memory_format: torch.memory_format = torch.contiguous_format
    ) -> "Classifier":
        """This classifier, its network moved in place to `device` and laid out in `memory_format`."""
        if isinstance(self.net, torch.fx.GraphModule):
            sources.move_program(self.net, torch.device(device))
        else:
            self.net.to(device=device)
            self.net.to(memory_format=memory_format)  # type: ignore[call-overload]
        return self


def load(resolved: ResolvedModel) -> Classifier:
    """Build the network on the CPU, load its weights, freeze it and probe it.

    Raises FieldError (a field of the job does not fit the network) or ModelError (the checkpoint or the network
    cannot be used, or is not the one that was resolved); both name the model.
    """
    spec = resolved.spec
    notes = list(resolved.notes)
    code_sha256 = check_source(resolved)
    with importable(resolved.code):  # a network may import more of its code when it first runs
        network = sources.build(spec, resolved.base, resolved.code, code_sha256)
        if resolved.checkpoint is not None:
            notes += _load_weights(network, resolved)
        elif not spec.source.program and digest_state(network) != resolved.checkpoint_sha256:
            raise ModelError(
                f"model {spec.name}: its source makes other weights each time it is called; save them and name the "
                "file in `checkpoint`"
            )
        _evaluating(network)
        for parameter in network.parameters():  # not network.requires_grad_: a ScriptModule refuses it
            parameter.requires_grad_(False)
        if not isinstance(network, torch.jit.ScriptModule | torch.fx.GraphModule):
            network.float()  # images are float32; a network saved in half precision would refuse them
        classifier = Classifier(
            net=network,
            name=spec.name,
            model12=resolved.model12,
            family=resolved.family,
            head=spec.head,
            output=spec.output,
            labels=resolved.labels,
            input=resolved.input,
            classes=0,
            notes=tuple(notes),
            resolved=resolved,
        )
        _probe(classifier, torch.device("cpu"), labels_are_given=spec.labels is not None)
    return classifier


def _load_weights(network: nn.Module, resolved: ResolvedModel) -> list[str]:
    spec = resolved.spec
    fitted = fit_transformers if spec.source.transformers else fit
    with local_checkpoint(resolved) as path:
        assert path is not None
        try:
            notes = weights.load_into(network, path, spec.select, spec.name, fitted, str(resolved.checkpoint))
        except ClassmodelsError:
            check_checkpoint(resolved, path)  # half written, it fails in some way of its own
            raise
        check_checkpoint(resolved, path)
    return notes


def wrap(
    net: nn.Module,
    input: InputSpec,
    head: Head = "softmax",
    output: str | int = "auto",
    labels: tuple[str, ...] | None = None,
    name: str | None = None,
) -> Classifier:
    """A classifier around any module in memory, on whatever device it is. The module itself is not changed.

    Ascend it within `frozen(net)`: that is what puts it into evaluation and takes its parameters out of the
    graph, and what restores both afterwards. Its identity is that of its class, weights, input and head.
    Raises InputError or ModelError as `load` does.
    """
    if not isinstance(net, nn.Module):
        raise InputError(f"expected a torch.nn.Module, found a {type(net).__name__}")
    kind = type(net)
    identity = {
        "checkpoint": digest_state(net),
        "source": {"kind": "module", "name": f"{kind.__module__}.{kind.__qualname__}"},
        "input": input.model_dump(mode="json"),
        "head": head,
        "output": output,
    }
    classifier = Classifier(
        net=net,
        name=name or kind.__name__.lower(),
        model12=digest_identity(identity),
        family=kind.__name__,
        head=head,
        output=output,
        labels=labels,
        input=input,
        classes=0,
    )
    tensors = [*net.parameters(), *net.buffers()]
    with frozen(net):
        _probe(classifier, tensors[0].device if tensors else torch.device("cpu"), labels_are_given=labels is not None)
    return classifier


@contextlib.contextmanager
def frozen(net: nn.Module) -> Iterator[nn.Module]:
    """Within this, `net` is in evaluation mode and no parameter requires grad; afterwards each is as it was."""
    training = [(module, module.training) for module in net.modules()]
    gradients = [(parameter, parameter.requires_grad) for parameter in net.parameters()]
    try:
        _evaluating(net)
        for parameter, _ in gradients:
            parameter.requires_grad_(False)
        yield net
    finally:
        for module, mode in training:
            module.training = mode
        for parameter, needed in gradients:
            parameter.requires_grad_(needed)


def _evaluating(net: nn.Module) -> None:
    # An exported program has no modes and says so; it runs as it was exported.
    with contextlib.suppress(NotImplementedError):
        net.eval()


def _plain_script(net: nn.Module) -> contextlib.AbstractContextManager[None]:
    # TorchScript rewrites a graph after its first runs, which changes the last bits: results would then depend on
    # how often the network has run before.
    if isinstance(net, torch.jit.ScriptModule):
        return torch.jit.optimized_execution(False)
    return contextlib.nullcontext()


def _probe(classifier: Classifier, device: torch.device, labels_are_given: bool) -> None:
    """Run two noise images through, forward (twice) and backward; set or complete what only the network tells."""
    height, width = classifier.input.size
    shape = (2, classifier.input.channels, height, width)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device)
    x = noise.requires_grad_(True)
    who = f"model {classifier.name}"
    head, classifier.head = classifier.head, "softmax"  # the network's own scores first, the head after
    try:
        # Twice, and with the same settings: a network may draw random numbers in evaluation too.
        with torch.enable_grad(), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            before = classifier.logits(x).detach()
            scores = classifier.logits(x)
    except InputError:
        raise
    except ModelError as error:
        raise ModelError(f"{who}: {error}") from error
    except Exception as error:
        raise ModelError(
            f"{who} fails on an input of {classifier.input.channels} channels and {height} x {width} pixels: "
            f"{first_line(error)}{_batch_hint(classifier.net)}"
        ) from error
    finally:
        classifier.head = head

    count = scores.shape[1]
    if head == "binary" and count != 1:
        raise FieldError(
            f"{who} returns {count} scores for an image: head binary expects 1; use softmax or sigmoid", "head"
        )
    classifier.classes = 2 if head == "binary" else count
    finite = torch.isfinite(scores.detach()).all(dim=0)
    if not finite.any():
        raise ModelError(f"{who}: every score of two noise images is NaN or infinite; its weights are unusable")
    notes = [*classifier.notes, *_check_gradient(who, scores[:, finite], x)]
    classifier.deterministic = torch.equal(before.view(torch.int32), scores.detach().view(torch.int32))
    if not classifier.deterministic:
        notes.append(
            "the network is not deterministic: the same images get other scores each time, so that its class models "
            "cannot be made again exactly"
        )
    if head == "softmax" and count == 1:
        notes.append("the network returns one score, whose softmax is always 1: use head: binary")
    looks = describe_scores(scores.detach()) if head == "softmax" else None
    if looks:
        notes.append(
            f"the network ends in a softmax: its scores are {looks}, not logits, and ascending them gives other images"
        )
    if labels_are_given and classifier.labels is not None and len(classifier.labels) != classifier.classes:
        raise FieldError(
            f"{who} has {classifier.classes} classes and {len(classifier.labels)} labels: expected as many", "labels"
        )
    if classifier.labels is not None and len(classifier.labels) != classifier.classes:
        notes.append(
            f"the source's {len(classifier.labels)} labels do not fit this network's {classifier.classes} classes and "
            "are not used"
        )
        classifier.labels = None
    if not finite.all():
        broken = (~finite).nonzero().flatten().tolist()
        named = ", ".join(f"{index} ({classifier.label(index)})" for index in broken[:10])
        more = f" and {len(broken) - 10} more" if len(broken) > 10 else ""
        notes.append(f"the scores of {len(broken)} classes are not finite: {named}{more}; these units will fail")
    classifier.notes = tuple(notes)


def _check_gradient(who: str, scores: Tensor, x: Tensor) -> list[str]:
    """Refuse a network whose gradient cannot reach x; note classes whose score is finite and whose gradient is not."""
    try:
        total = _gradient(scores.sum(), x)
    except RuntimeError as error:
        raise ModelError(f"{who} cannot be differentiated: {first_line(error)}") from error
    if total is None:
        raise ModelError(
            f"{who}: no gradient reaches the input, because the network detaches it or runs without gradients; "
            "class models need a differentiable network"
        )
    if torch.isfinite(total).all():
        return []
    # One class can spoil the sum: ask a few of them one by one.
    some = range(0, scores.shape[1], max(1, scores.shape[1] // 8))
    for index in some:
        alone = _gradient(scores[:, index].sum(), x)
        if alone is not None and torch.isfinite(alone).all():
            return ["the gradient of some classes is not finite for noise images; their units may fail"]
    raise ModelError(f"{who}: the gradient with respect to the input is NaN or infinite for noise images")


def _gradient(score: Tensor, x: Tensor) -> Tensor | None:
    if not score.requires_grad:
        return None
    (gradient,) = torch.autograd.grad(score, x, retain_graph=True, allow_unused=True)
    return gradient


def _batch_hint(net: nn.Module) -> str:
    if isinstance(net, torch.fx.GraphModule):
        return " (export it with a dynamic batch size)"
    return ""

"""A frozen network made ready to be run a few hundred times, and what is folded in it.

In evaluation a batch norm is a factor and a term for each channel, which the convolution before it can take over: one
pass over the activations less forward, and one less backward. So it is with zeros put around the images. `prepare`
does this to a trace of the network (`torch.fx`) that shares its tensors; the network itself stays as it is. What
cannot be traced, or gives other scores than before, is left alone.
"""

import copy
import operator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.fx.node import Argument

from classmodels.models.classifier import Classifier

M = TypeVar("M", bound=nn.Module)

TOLERANCE = 1e-3
"""Most that scores may differ by, of the largest, and ten times that their gradients, of its norm."""


def prepare(classifier: Classifier) -> Classifier:
    """`classifier` with a network of the same function that costs less; itself, where there is nothing to fold.

    The network must be frozen, and where it is going to be used. Changes neither it nor its tensors, which both share.
    """
    if not classifier.deterministic or isinstance(classifier.net, torch.jit.ScriptModule | fx.GraphModule):
        return classifier
    try:
        graph = _traced(classifier.net)
        if not _fold(graph):
            return classifier
        prepared = replace(classifier, net=graph, folded=True)
        far = _distance(classifier, prepared)
    except Exception:  # the user's code, run with what it was not written for; alone it has run before
        return classifier
    if far <= 1:
        return prepared
    note = f"batch norm is left unfolded: folded into the convolutions, the network differs by {far:.2g} of the allowed"
    return replace(classifier, notes=(*classifier.notes, note))


def _traced(net: nn.Module) -> fx.GraphModule:
    if net._forward_hooks or net._forward_pre_hooks or net._backward_hooks or net._backward_pre_hooks:
        raise ValueError("a trace would leave out the network's own hooks")
    # What forward() keeps in its module must not be kept in the user's: a copy, but for the tensors.
    shared = {id(tensor): tensor for tensor in (*net.parameters(), *net.buffers())}
    return fx.symbolic_trace(copy.deepcopy(net, shared))


@dataclass
class _Conv:
    """A convolution in a trace, as arguments of F.conv2d."""

    input: fx.Node
    weight: Tensor
    bias: Tensor | None
    stride: Any
    padding: Any
    dilation: Any
    groups: int

    @property
    def wide(self) -> bool:
        """Whether float32 is its fastest precision: strided and depthwise, its bf16 gradient on a CPU takes 6 times as
        long."""
        stride = self.stride if isinstance(self.stride, int) else max(self.stride)
        return self.weight.device.type == "cpu" and stride > 1 and self.groups == len(self.weight) > 1


def float32_conv2d(x: Tensor, *arguments: Any) -> Tensor:
    """F.conv2d in float32, whatever autocast says."""
    with torch.autocast(x.device.type, enabled=False):
        return F.conv2d(x.float(), *arguments)


def _fold(traced: fx.GraphModule) -> bool:
    """Fold, in place, whatever of `traced` can be; returns whether anything could."""
    changed = False
    for node in list(traced.graph.nodes):
        conv = _conv_of(traced, node)
        if conv is None:
            continue
        last = node
        if isinstance(conv.padding, tuple) and (padding := _padding_of(traced, conv.input)) is not None:
            down, across, source = padding
            conv.padding = (conv.padding[0] + down, conv.padding[1] + across)
            conv.input = source
        if len(node.users) == 1 and (norm := _norm_of(traced, user := next(iter(node.users)))) is not None:
            scale, shift = norm
            weight, bias = conv.weight.double(), 0 if conv.bias is None else conv.bias.double()
            conv.weight = (weight * scale.view(-1, 1, 1, 1)).to(conv.weight.dtype)
            conv.bias = (bias * scale + shift).to(conv.weight.dtype)
            last = user
        if last is node and conv.input is node.args[0] and not conv.wide:
            continue
        changed = True
        _put(traced, last, conv)
    if changed:
        traced.graph.eliminate_dead_code()
        traced.delete_all_unused_submodules()
        traced.recompile()
    return changed


def _put(traced: fx.GraphModule, place: fx.Node, conv: _Conv) -> None:
    """Have `conv` give what `place` gave."""
    graph = traced.graph
    with graph.inserting_before(place):
        values: list[Argument] = []
        for kind, tensor in (("weight", conv.weight), ("bias", conv.bias)):
            if tensor is None:
                values.append(None)
                continue
            name = f"folded_{place.name}_{kind}"
            if tensor.dim() == 4:
                tensor = tensor.contiguous(memory_format=torch.channels_last)
            traced.register_buffer(name, tensor.detach())
            values.append(graph.get_attr(name))
        arguments = (conv.input, *values, conv.stride, conv.padding, conv.dilation, conv.groups)
        place.replace_all_uses_with(graph.call_function(float32_conv2d if conv.wide else F.conv2d, arguments))


def _conv_of(traced: fx.GraphModule, node: fx.Node) -> _Conv | None:
    """The convolution that `node` is: a plain nn.Conv2d, or a call of F.conv2d with constant weights."""
    module = _plain(traced, node, nn.Conv2d)
    if module is not None:
        if module.padding_mode != "zeros" or len(node.args) != 1 or not isinstance(node.args[0], fx.Node):
            return None
        settings = (module.stride, module.padding, module.dilation, module.groups)
        return _Conv(node.args[0], module.weight, module.bias, *settings)
    found = _call(node, F.conv2d, input=None, weight=None, bias=None, stride=1, padding=0, dilation=1, groups=1)
    if found is None or not isinstance(found["input"], fx.Node):
        return None
    weight, bias = _constant(traced, found["weight"]), _constant(traced, found["bias"])
    if weight is None or (bias is None and found["bias"] is not None):
        return None
    padding = found["padding"]
    padding = (
        (padding, padding) if isinstance(padding, int) else padding if isinstance(padding, str) else tuple(padding)
    )
    return _Conv(found["input"], weight, bias, found["stride"], padding, found["dilation"], found["groups"])


def _norm_of(traced: fx.GraphModule, node: fx.Node) -> tuple[Tensor, Tensor] | None:
    """Factor and term, float64 [C] each, of the batch norm that `node` is."""
    norm = _plain(traced, node, nn.BatchNorm2d)
    weight: Tensor | None
    bias: Tensor | None
    if norm is not None:
        mean, var, weight, bias = norm.running_mean, norm.running_var, norm.weight, norm.bias
        training, eps = norm.training, norm.eps
    else:
        found = _call(node, F.batch_norm, input=None, running_mean=None, running_var=None, weight=None, bias=None,
                      training=False, momentum=0.1, eps=1e-5)  # fmt: skip
        if found is None:
            return None
        names = ("running_mean", "running_var", "weight", "bias")
        mean, var, weight, bias = (_constant(traced, found[name]) for name in names)
        if any(found[name] is not None and _constant(traced, found[name]) is None for name in names):
            return None
        training, eps = found["training"], found["eps"]
    if training or mean is None or var is None or not isinstance(eps, float):
        return None
    scale = (var.double() + eps).rsqrt()
    scale = scale if weight is None else scale * weight.double()
    shift = -mean.double() * scale
    return scale, shift if bias is None else shift + bias.double()


def _padding_of(traced: fx.GraphModule, node: fx.Node) -> tuple[int, int, fx.Node] | None:
    """Rows above and below, columns left and right, and what is padded, where `node` pads with zeros alike."""
    module = _plain(traced, node, nn.ZeroPad2d)
    if module is None or len(node.args) != 1 or not isinstance(node.args[0], fx.Node):
        return None
    left, right, top, bottom = module.padding
    return (top, left, node.args[0]) if left == right >= 0 and top == bottom >= 0 else None


def _plain(traced: fx.GraphModule, node: fx.Node, kind: type[M]) -> M | None:
    """The module that `node` calls, where it is of this very class and does nothing beside it."""
    if node.op != "call_module":
        return None
    module = traced.get_submodule(str(node.target))
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return module if type(module) is kind and not any(hooks) else None


def _call(node: fx.Node, function: Any, **defaults: Any) -> dict[str, Any] | None:
    """The arguments by name, where `node` is a call of `function`."""
    if node.op != "call_function" or node.target is not function:
        return None
    return defaults | dict(zip(defaults, node.args, strict=False)) | node.kwargs


def _constant(traced: fx.GraphModule, argument: Any) -> Tensor | None:
    """The tensor that `argument` always is."""
    if not isinstance(argument, fx.Node) or argument.op != "get_attr":
        return None
    tensor = operator.attrgetter(str(argument.target))(traced)
    return tensor if isinstance(tensor, Tensor) else None


def _distance(one: Classifier, other: Classifier) -> float:
    """How far the scores of two noise images, and a gradient of theirs, differ; 1 is what is allowed."""
    height, width = one.input.size
    tensor = next(one.net.parameters())
    noise = torch.randn(2, one.input.channels, height, width, generator=torch.Generator().manual_seed(0))
    seen = []
    for each in (one, other):
        x = noise.to(tensor.device).requires_grad_(True)
        with torch.enable_grad():
            scores = each.logits(x.contiguous(memory_format=torch.channels_last))
            (gradient,) = torch.autograd.grad(scores[:, scores.shape[1] // 2].sum(), x)
        seen.append((scores.detach(), gradient))
    (scores, gradient), (found, other_gradient) = seen
    far = (found - scores).abs().max() / (TOLERANCE * scores.abs().max())
    turned = (other_gradient - gradient).norm() / (10 * TOLERANCE * gradient.norm())
    return max(far.item(), turned.item())

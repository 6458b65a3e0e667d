"""What a judge sees before it decides: the input of its last classifying layer, its penultimate features.

Two images are close in a network's own feature space where the cosine between these is near 1, which is how `compare`
tells a change that the network would notice from one of mere pixels. A verdict carries them where the panel's member
says `features: true`.

The classifying layer is the last product with weights (a linear layer, a convolution, a matrix product) that gives one
value or one map for each class; where several do, such as a network of two heads, it is the one that gives the scores
themselves. Of its input, maps and tokens are averaged over their places. So a CNN gives its pooled channels, a ViT its
class token, and a linear classifier, which has no other features, its input.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from classmodels.models.classifier import Classifier
from classmodels.store.features import packed
from classmodels.store.records import LONGEST_FEATURES, Features

_PRODUCTS = {"linear": (0, 1), "conv1d": (0, 1), "conv2d": (0, 1), "conv3d": (0, 1), "matmul": (0, 1), "mm": (0, 1)} | {
    "addmm": (1, 2)
}
"""Functions that multiply by weights, and where among their arguments the input and the weights stand."""
_NOTHING = (
    "no layer with one output for each class was seen to run: it is inside TorchScript, or made of other operations"
)


class Penultimate(TorchFunctionMode):
    """While this is entered, remembers every product that may be the classifying one; `take` then says which it was.

    It sees calls of functions and not of modules: also those of exported programs and of networks that call
    `torch.nn.functional`. What runs inside TorchScript it cannot see.
    """

    def __init__(self, judge: Classifier) -> None:
        super().__init__()
        self._classes = 1 if judge.head == "binary" else judge.classes
        self._names = {value.data_ptr(): name for name, value in judge.net.named_parameters()}
        self._seen: list[tuple[str, Tensor, Tensor]] = []
        self.found: list[Features | str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        returned = func(*args, **(kwargs or {}))
        kind = str(getattr(func, "__name__", "")).split(".")[0]
        if kind in _PRODUCTS and isinstance(returned, Tensor) and len(args) > max(_PRODUCTS[kind]):
            x, weights = (args[place] for place in _PRODUCTS[kind])
            if isinstance(x, Tensor) and isinstance(weights, Tensor) and self._is_classifying(x, returned):
                self._seen.append((self._names.get(weights.data_ptr(), kind), x, returned))
        return returned

    def take(self, logits: Tensor, count: int) -> None:
        """Add to `found` the features of the first `count` images of the batch that gave `logits`, or why none."""
        seen, self._seen = [one for one in self._seen if one[1].shape[0] == logits.shape[0]], []
        if not seen:
            self.found += [_NOTHING] * count
            return
        scores = logits[:, -self._classes :]  # a binary head's logit is the second of its two
        named, x, _ = next((one for one in reversed(seen) if _gives(one[2], scores)), seen[-1])
        rows = _rows(x).double().cpu().numpy()[:count]
        self.found += [packed(row, named.removesuffix(".weight")) for row in rows]

    def _is_classifying(self, x: Tensor, returned: Tensor) -> bool:
        return x.ndim > 1 and returned.ndim > 1 and returned.shape[1 if returned.ndim > 3 else -1] == self._classes


def _gives(returned: Tensor, scores: Tensor) -> bool:
    return returned.numel() == scores.numel() and bool(torch.equal(returned.reshape(scores.shape).float(), scores))


def _rows(x: Tensor) -> Tensor:
    """[B, F] of maps [B, F, H, W], of tokens [B, T, F], or of what is [B, F] already."""
    x = x.float()
    if x.ndim == 3:
        x = x.mean(dim=1)
    elif x.ndim > 3:
        x = x.flatten(2).mean(dim=2)
    if x.shape[1] > LONGEST_FEATURES:
        x = functional.adaptive_avg_pool1d(x[:, None], LONGEST_FEATURES)[:, 0]
    return x

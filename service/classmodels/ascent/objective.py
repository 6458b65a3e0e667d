"""What is climbed: the raw class score (Simonyan et al. 2013, equation 1), or for contrast its log-probability."""

import torch
import torch.nn.functional as F
from torch import Tensor


def log_probabilities(logits: Tensor, head: str) -> Tensor:
    """log p of every class, [N, classes]: softmax over the classes, or each by itself for `sigmoid` and `binary`."""
    return F.log_softmax(logits, dim=1) if head == "softmax" else F.logsigmoid(logits)


def objective(logits: Tensor, targets: Tensor, kind: str, head: str) -> Tensor:
    """What each image's ascent maximises, [N]. logits: [N, classes]; targets: int64 [N]; kind: logit | log_prob."""
    values = logits if kind == "logit" else log_probabilities(logits, head)
    return values.gather(1, targets.view(-1, 1)).squeeze(1)


def rank(logits: Tensor, targets: Tensor) -> Tensor:
    """Place of each target among its image's classes, int64 [N], 1 = the top; ties count in the target's favour."""
    own = logits.gather(1, targets.view(-1, 1))
    return (logits > own).sum(dim=1) + torch.ones_like(targets)

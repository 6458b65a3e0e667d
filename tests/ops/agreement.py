"""The rule by which every backend is held to the reference: DESIGN's invariant 6.

The error, against the same arithmetic in float64, is at most twice that of PyTorch in float32 plus two units in the
last place of the largest value.
"""

import torch
from torch import Tensor

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def assert_agrees(found: Tensor, narrow: Tensor, exact: Tensor, what: str = "x") -> None:
    """found, narrow: a backend's and PyTorch's float32; exact: PyTorch's float64."""
    assert found.shape == exact.shape
    assert (torch.isnan(found) == torch.isnan(exact)).all()
    exact = exact.nan_to_num(posinf=torch.inf, neginf=-torch.inf)
    finite = torch.isfinite(exact)
    assert (found.double().nan_to_num(posinf=torch.inf, neginf=-torch.inf) == exact)[~finite].all()
    if not finite.any():
        return
    error = (found.double() - exact)[finite].abs().max().item()
    allowed = 2 * (narrow.double() - exact)[finite].abs().max().item()
    allowed += 2 * torch.finfo(torch.float32).eps * exact[finite].abs().max().item()
    assert error <= allowed, f"{what}: error {error:.3g}, allowed {allowed:.3g}"

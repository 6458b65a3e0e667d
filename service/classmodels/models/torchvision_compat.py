"""`import torchvision` where its compiled part cannot load: beside a CPU-only build of torch.

The published Linux wheel of torchvision is linked against CUDA, so beside a CPU-only torch its operators are
missing and the import stops at registering `nms`. Classifiers need none of these operators: declaring the two
schemas makes the import succeed. Every import of torchvision in this package goes through here.
"""

import logging
from types import ModuleType

_log = logging.getLogger(__name__)
_declared: list[object] = []  # a Library's operators vanish when it is collected


def import_torchvision() -> ModuleType:
    """The `torchvision` module; its `nms` and `qnms` are declared first, once, only if the import fails without."""
    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::" not in str(error) or _declared:
            raise
        import torch

        library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _declared.append(library)
        _log.info(
            "torchvision's compiled operators do not load beside this build of torch (%s); "
            "its classifiers work without them",
            torch.__version__,
        )
        import torchvision
    return torchvision

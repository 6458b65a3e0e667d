"""How a verdict holds features: as text. `panel/features.py` finds them in a network, `gallery/sides.py` compares."""

import base64
import math

import numpy as np
from numpy.typing import NDArray

from classmodels.store.records import LONGEST_FEATURES, Features


def packed(row: NDArray[np.float64], layer: str) -> Features | str:
    """One image's features as a verdict has them; a sentence where they cannot be had."""
    scale = float(np.abs(row).max(initial=0))
    if not math.isfinite(scale):
        return f"the features before {layer} are NaN or infinite"
    values = (row / (scale or 1.0)).astype("<f2").tobytes()
    return Features(layer=layer, scale=scale, values=base64.b64encode(values).decode())


def unpacked(features: Features) -> NDArray[np.float64] | None:
    """The values of `features`, float64 [F]; None where they are not what `packed` writes."""
    try:
        values = np.frombuffer(base64.b64decode(features.values, validate=True), "<f2").astype(np.float64)
    except ValueError:
        return None
    if not 0 < len(values) <= LONGEST_FEATURES or not np.isfinite(values).all():
        return None
    return values * features.scale

"""The recipes that ship. Each is written as a job file would write it; `plain` is what every other one starts from.

The README's table says what each is for; `benchmarks/` and `jobs/regularizers.yaml` show them side by side.
"""

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    # No regularizer but the box: saturated colours.
    "plain": {"steps": 128, "optimizer": {"lr": 0.05, "normalize": "rms", "momentum": 0.9}},
    "l2": {"extends": "plain", "regularizers": {"l2": 0.5}},
    "l1": {"extends": "plain", "regularizers": {"l1": 0.5, "towards": "black"}},
    "tv": {"extends": "plain", "regularizers": {"tv": 0.5}},
    "probability": {"extends": "l2", "objective": "log_prob"},
    "yosinski": {"extends": "plain"},
    "natural": {
        "extends": "plain",
        "steps": 256,
        "transforms": {"rotate": 15.0, "scale": [0.6, 1.2], "shift": 0.15},
        "preconditioner": {"spectral": [1.0, 0.6], "floor": 4.0, "color": True},
        "optimizer": {"lr": 0.06, "schedule": "cosine"},
        "regularizers": {"l2": 0.05},
    },
}

"""The recipes that ship. Each is written as a job file would write it; `plain` is what every other one starts from.

The README's table says what each is for; `jobs/regularizers.yaml` shows them side by side.
"""

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    # Nothing but the score and the box: saturated colours.
    "plain": {"steps": 128, "optimizer": {"lr": 15.0}},
    # The article's regularizers. A smaller lr, and for L2 one that falls, lets score and penalty settle; lr * l1 *
    # steps is well over the way from the mean to black.
    "l2": {"extends": "plain", "optimizer": {"lr": 5.0, "schedule": "cosine"}, "regularizers": {"l2": 0.01}},
    "l1": {"extends": "plain", "optimizer": {"lr": 5.0}, "regularizers": {"l1": 0.005, "towards": "black"}},
    # An explicit step of TV overshoots by about lr * tv where neighbours are nearly equal: lr falls to nothing.
    "tv": {"extends": "plain", "optimizer": {"lr": 5.0, "schedule": "cosine"}, "regularizers": {"tv": 0.004}},
    # The article's contrast: the class's probability instead of its score. Its gradient fades as the probability
    # nears 1, so that a pull as strong as that of `l2` would win.
    "probability": {
        "extends": "plain",
        "objective": "log_prob",
        "optimizer": {"lr": 5.0},
        "regularizers": {"l2": 0.002},
    },
    # Yosinski et al. 2015: blur every fourth step, pixels of small norm clipped. Their decay of 1e-4 a step is
    # 2 * lr * l2 here, their initial noise of 10 on 0..255 about 0.08 here.
    "yosinski": {
        "extends": "plain",
        "steps": 200,
        "init": {"scale": 0.08},
        "optimizer": {"lr": 5.0},
        "regularizers": {
            "l2": 1e-5,
            "blur": {"sigma": 0.7, "every": 4},
            "small_norm": {"percentile": 40.0, "every": 1},
        },
    },
    # Made to be looked at: the object at random places, sizes and angles, low frequencies and natural colours cheap.
    "natural": {
        "extends": "plain",
        "steps": 208,
        "transforms": {"rotate": 15.0, "scale": [0.6, 1.2], "shift": 0.15},
        "preconditioner": {"spectral": [0.95, 0.6], "floor": 3.0, "color": True, "focus": 0.8},
        "optimizer": {"lr": 0.07, "momentum": 0.9, "normalize": "rms", "schedule": "cosine"},
        "regularizers": {"l2": 0.02, "tv": 0.08},
    },
}

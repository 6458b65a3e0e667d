"""All randomness of a unit, drawn before the first step from its identity alone.

Philox 4x64 (Salmon et al. 2011) gives raw bits that are the same on every machine and in every version of NumPy;
the maps to uniform and normal numbers are this file's own, because NumPy's may change. So an image does not
depend on which units share its batch, nor on where a run was interrupted.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

from classmodels.ascent.recipe import Init, Transforms

Doubles = NDArray[np.float64]


def bits(identity: str, stream: str, count: int) -> NDArray[np.uint64]:
    """`count` raw 64-bit words of the stream `stream` of a unit's identity."""
    digest = hashlib.sha256(f"{identity}/{stream}".encode()).digest()
    return np.random.Philox(key=np.frombuffer(digest[:16], dtype="<u8")).random_raw(count)


def uniform(identity: str, stream: str, count: int) -> Doubles:
    """Numbers in [0, 1): the upper 53 bits of each word."""
    return (bits(identity, stream, count) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def normal(identity: str, stream: str, count: int) -> Doubles:
    """Standard normal numbers by the Box-Muller transform."""
    pairs = uniform(identity, stream, 2 * ((count + 1) // 2)).reshape(2, -1)
    radius = np.sqrt(-2.0 * np.log1p(-pairs[0]))
    angle = 2.0 * np.pi * pairs[1]
    return np.concatenate((radius * np.cos(angle), radius * np.sin(angle)))[:count]


def initial_image(identity: str, init: Init, shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """x before the first step, float32 [C, H, W]."""
    if init.kind == "zeros":
        return np.zeros(shape, dtype=np.float32)
    noise = normal(identity, "init", int(np.prod(shape))) * init.scale
    return noise.astype(np.float32).reshape(shape)


def transform_maps(identity: str, transforms: Transforms, steps: int, size: tuple[int, int]) -> NDArray[np.float32]:
    """The affine map of every step, float32 [steps, 2, 3], in pixels from the centre (see `ops.affine`).

    Output pixel to input place: first the shift and jitter are taken back, then the rotation, then scale and flip.
    """
    u = uniform(identity, "transforms", steps * 7).reshape(steps, 7)
    angle = np.deg2rad(transforms.rotate * (2 * u[:, 0] - 1))
    low, high = transforms.scale
    factor = low + (high - low) * u[:, 1]
    height, width = size
    span = 2 * transforms.jitter + 1
    right = transforms.shift * width * (2 * u[:, 2] - 1) + np.floor(span * u[:, 4]) - transforms.jitter
    down = transforms.shift * height * (2 * u[:, 3] - 1) + np.floor(span * u[:, 5]) - transforms.jitter
    mirror = np.where(transforms.flip & (u[:, 6] < 0.5), -1.0, 1.0)
    cos, sin = np.cos(angle) / factor, np.sin(angle) / factor
    linear = np.stack((mirror * cos, mirror * sin, -sin, cos), axis=1).reshape(steps, 2, 2)
    offset = -(linear @ np.stack((right, down), axis=1)[:, :, None])
    return np.concatenate((linear, offset), axis=2).astype(np.float32)

"""From x to pixels and files: 8-bit pixels, PNG with provenance, the animation of an ascent; and a PNG back to pixels.

One or three channels are shown as they are; of any other number the first three are shown, or the first if there are
only two, because a screen has no more.
"""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from classmodels.film import DURATION

Pixels = NDArray[np.uint8]

MEDIA_TYPES = {"png": "image/png", "webp": "image/webp", "gif": "image/gif", "apng": "image/apng"}


def to_pixels(x: NDArray[np.float32], mean: Sequence[float], std: Sequence[float]) -> Pixels:
    """x float32 [..., C, H, W], normalised, as uint8 [..., H, W, C]: mean + std * x, clipped to 0..1, rounded."""
    shape = (-1, 1, 1)
    pixels = x * np.asarray(std, np.float32).reshape(shape) + np.asarray(mean, np.float32).reshape(shape)
    return np.moveaxis(np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8), -3, -1)


def to_image(pixels: Pixels) -> Image.Image:
    """uint8 [H, W, C] as a picture: grey for one channel or two, RGB for three or more."""
    channels = pixels.shape[-1]
    if channels < 3:
        return Image.fromarray(np.ascontiguousarray(pixels[..., 0]))
    return Image.fromarray(np.ascontiguousarray(pixels[..., :3]))


def encode_png(pixels: Pixels, provenance: Mapping[str, str]) -> bytes:
    """A PNG of pixels uint8 [H, W, C], with `provenance` in text chunks; equal arguments give equal bytes."""
    chunks = PngImagePlugin.PngInfo()
    for key, value in provenance.items():
        chunks.add_itxt(key, value)
    buffer = io.BytesIO()
    to_image(pixels).save(buffer, "PNG", pnginfo=chunks, compress_level=9)
    return buffer.getvalue()


def decode_png(data: bytes) -> Pixels:
    """The pixels of a PNG, uint8 [H, W, C] with C 1 or 3. Raises ValueError where `data` is no such PNG."""
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            pixels = np.asarray(image.convert("L" if image.mode == "L" else "RGB"))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"not a readable PNG: {error}") from error
    return pixels if pixels.ndim == 3 else pixels[..., None]


def encode_animation(frames: Sequence[Pixels], kind: str) -> bytes:
    """An endless film of frames uint8 [H, W, C]; kind: webp | gif | apng."""
    pictures = [to_image(frame).convert("RGB") for frame in frames]
    durations = [DURATION // len(pictures)] * (len(pictures) - 1) + [DURATION]
    buffer = io.BytesIO()
    options: dict[str, object] = {"save_all": True, "append_images": pictures[1:], "duration": durations, "loop": 0}
    if kind == "webp":
        options |= {"quality": 75, "method": 2, "minimize_size": False}
    pictures[0].save(buffer, {"webp": "WEBP", "gif": "GIF", "apng": "PNG"}[kind], **options)
    return buffer.getvalue()

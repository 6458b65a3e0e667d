"""Pixels, PNG and animations, read back by Pillow as any other program would."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from classmodels.film import frame_steps
from classmodels.image import decode_png, encode_animation, encode_png, to_pixels


def noise(height=12, width=9, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def test_pixels_are_mean_plus_std_x_rounded_once():
    x = np.array([[[-10.0, -0.5, 0.0, 0.5, 10.0]]] * 2, dtype=np.float32)
    pixels = to_pixels(x, (0.5, 0.25), (0.2, 0.1))
    assert pixels.shape == (1, 5, 2)
    assert pixels[0, :, 0].tolist() == [0, 102, 128, 153, 255]
    assert pixels[0, :, 1].tolist() == [0, 51, 64, 76, 255]


def test_every_displayable_value_survives_the_way_to_x_and_back():
    values = np.arange(256, dtype=np.float32)
    x = ((values / 255 - 0.485) / 0.229).astype(np.float32).reshape(1, 1, 256)
    assert to_pixels(x, (0.485,), (0.229,)).reshape(-1).tolist() == list(range(256))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_png_holds_its_pixels_and_its_provenance(channels):
    pixels = noise(channels=channels)
    data = encode_png(pixels, {"Title": "Class model: Straße 鳥", "classmodels": '{"class": 9}'})
    assert (decode_png(data) == pixels).all()
    with Image.open(io.BytesIO(data)) as image:
        assert image.text == {"Title": "Class model: Straße 鳥", "classmodels": '{"class": 9}'}
    assert encode_png(pixels, {"Title": "Class model: Straße 鳥", "classmodels": '{"class": 9}'}) == data


def test_other_numbers_of_channels_show_what_a_screen_can():
    assert decode_png(encode_png(noise(channels=2), {})).shape[-1] == 1
    pixels = noise(channels=7)
    assert (decode_png(encode_png(pixels, {})) == pixels[..., :3]).all()


@pytest.mark.parametrize("data", [b"", b"GIF89a", encode_png(noise(), {})[:100]])
def test_what_is_no_png_is_refused(data):
    with pytest.raises(ValueError, match="not a readable PNG"):
        decode_png(data)


@pytest.mark.parametrize("kind", ["webp", "gif", "apng"])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_animation_has_its_frames_in_order_and_never_ends(kind, channels):
    frames = [np.full((16, 16, channels), level, np.uint8) for level in (0, 60, 120, 180, 240)]
    with Image.open(io.BytesIO(encode_animation(frames, kind))) as film:
        assert film.n_frames == 5
        assert film.info.get("loop", 0) == 0
        for index, level in enumerate((0, 60, 120, 180, 240)):
            film.seek(index)
            assert np.abs(np.asarray(film.convert("L"), int) - level).max() <= 8


@given(st.integers(2, 100), st.integers(1, 500))
@settings(max_examples=100, deadline=None)
def test_frames_are_spread_from_the_first_step_to_the_last(frames, steps):
    chosen = frame_steps(frames, steps)
    assert chosen[0] == 0
    assert chosen[-1] == steps
    assert len(chosen) == min(frames, steps + 1)
    gaps = np.diff(chosen)
    assert gaps.max() - gaps.min() <= 1

"""Randomness comes from a unit's identity alone, and its bits are fixed for good."""

import numpy as np

from classmodels.ascent.draws import bits, initial_image, normal, transform_maps, uniform
from classmodels.ascent.recipe import Init, Transforms


def philox4x64(counter, key, rounds=10):
    """Philox 4x64 as printed in Salmon et al. 2011, section 3.3; integers, so it is exact everywhere."""
    mask = 2**64 - 1
    c, k = list(counter), list(key)
    for _ in range(rounds):
        first, second = 0xD2E7470EE14C6C93 * c[0], 0xCA5A826395121157 * c[2]
        c = [(second >> 64) ^ c[1] ^ k[0], second & mask, (first >> 64) ^ c[3] ^ k[1], first & mask]
        k = [(k[0] + 0x9E3779B97F4A7C15) & mask, (k[1] + 0xBB67AE8584CAA73B) & mask]
    return c


def test_the_bits_are_philox_keyed_by_the_identity():
    import hashlib

    digest = hashlib.sha256(b"model/recipe/9/init").digest()
    key = (int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:16], "little"))
    expected = philox4x64((1, 0, 0, 0), key) + philox4x64((2, 0, 0, 0), key)
    assert bits("model/recipe/9", "init", 8).tolist() == expected


def test_a_shorter_draw_is_the_beginning_of_a_longer_one():
    assert (uniform("unit", "s", 10) == uniform("unit", "s", 1000)[:10]).all()


def test_other_identities_and_streams_are_other_numbers():
    draws = {tuple(uniform(identity, stream, 4)) for identity in ("a/b/1", "a/b/2", "a/c/1") for stream in ("x", "y")}
    assert len(draws) == 6


def test_uniform_fills_the_unit_interval_and_normal_has_unit_variance():
    u = uniform("unit", "s", 100_000)
    assert 0 <= u.min() < 1e-3
    assert 0.999 < u.max() < 1
    n = normal("unit", "s", 100_001)
    assert len(n) == 100_001
    assert abs(n.mean()) < 0.02
    assert abs(n.std() - 1) < 0.01
    assert abs(np.mean(n**4) - 3) < 0.15


def test_noise_starts_at_its_scale_and_zeros_at_zero():
    noise = initial_image("unit", Init(scale=0.5), (3, 64, 64))
    assert noise.dtype == np.float32
    assert abs(noise.std() - 0.5) < 0.01
    assert not initial_image("unit", Init(kind="zeros"), (3, 8, 8)).any()


def test_switching_one_transform_on_leaves_the_draws_of_the_others():
    plain = transform_maps("unit", Transforms(rotate=10), 50, (32, 32))
    both = transform_maps("unit", Transforms(rotate=10, flip=True), 50, (32, 32))
    assert np.allclose(np.abs(plain[:, :, :2]), np.abs(both[:, :, :2]))

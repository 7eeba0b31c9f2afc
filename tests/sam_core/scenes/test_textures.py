"""The texture bank of sam_core/scenes/textures.py."""

import numpy as np

from sam_core.scenes.textures import SIDE, texture_bank


def test_fields_fill_the_range_and_differ() -> None:
    bank = texture_bank(0)
    fields = np.concatenate([bank.natural, bank.pattern, bank.smooth, bank.folds])
    assert fields.dtype == np.uint8
    assert fields.shape[1:] == (SIDE, SIDE)
    spread = fields.reshape(len(fields), -1)
    assert (np.ptp(spread, axis=1) > 200).all()
    assert len({field.tobytes() for field in fields}) == len(fields)


def test_noise_is_standard() -> None:
    noise = texture_bank(0).noise / 32.0
    assert abs(noise.mean()) < 0.02
    assert abs(noise.std() - 1) < 0.02


def test_natural_fields_tile_without_seams() -> None:
    for field in texture_bank(0).natural.astype(float):
        inner = np.abs(np.diff(field, axis=1)).mean()
        seam = np.abs(field[:, 0] - field[:, -1]).mean()
        assert seam < 3 * inner + 4


def test_a_seed_makes_its_own_bank() -> None:
    again = texture_bank.__wrapped__(0)
    assert np.array_equal(again.natural, texture_bank(0).natural)
    assert not np.array_equal(texture_bank(1).natural, again.natural)

"""Families of sam_core/scenes/objects: every one draws, fits its frame, and is whole."""

import numpy as np
import pytest

from sam_core.scenes.layers import placed, render_layer
from sam_core.scenes.materials import MaterialShop
from sam_core.scenes.objects import ALL, Family, fitted, random_object


@pytest.mark.parametrize("family", sorted(set(ALL), key=lambda f: f.__name__), ids=lambda f: f.__name__)
def test_a_family_draws_fitted_objects(family: Family, shop: MaterialShop) -> None:
    for seed in range(8):
        parts = fitted(family(np.random.default_rng(seed), shop))
        outline = np.concatenate([c for part in parts if not part.mark for c in part.contours])
        assert np.isfinite(outline).all()
        assert np.ptp(outline, axis=0).max() == pytest.approx(2)
        assert outline[:, 1].max() == pytest.approx(1)
        assert not parts[0].mark
        layer = render_layer(placed(parts, 30 * np.eye(2), np.array([64.0, 64.0])), 128, np.array([0.0, 0.0, 1.0]))
        assert layer is not None
        assert layer.alpha.max() > 0.5
        assert layer.parts.max() <= layer.part_count == sum(not part.mark for part in parts)


def test_random_objects_come_from_the_families_given(rng: np.random.Generator, shop: MaterialShop) -> None:
    seen = []

    def family(rng: np.random.Generator, shop: MaterialShop) -> list:  # type: ignore[type-arg]
        seen.append(1)
        return ALL[0](rng, shop)

    random_object(rng, shop, (family,))
    assert seen == [1]

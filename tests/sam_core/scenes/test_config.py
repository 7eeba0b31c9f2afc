"""Refusals of sam_core/scenes/config.py."""

import pytest

from sam_core.scenes import SCENE_KINDS, SceneConfig


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 16}, "64 to 2048"),
        ({"kind_weights": (1.0,)}, "weights"),
        ({"kind_weights": (0.0,) * len(SCENE_KINDS)}, "not all zero"),
        ({"camouflage": 1.5}, "probability"),
        ({"grey": -0.1}, "probability"),
    ],
)
def test_refuses_values_out_of_range(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SceneConfig(**change)  # type: ignore[arg-type]


def test_smallest_label_grows_with_the_picture() -> None:
    assert [SceneConfig(size=s).smallest_label for s in (64, 128, 256, 384, 512)] == [1, 1, 4, 9, 16]

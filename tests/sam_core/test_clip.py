"""Which CLIP a model asks for."""

from dataclasses import replace
from pathlib import Path

import pytest

from sam_core.clip import clip_metadata, require_clip
from sam_core.clip_transformers import TransformersClip, load_clip
from sam_core.presets import vit_test, with_text
from tests.small_clip import SIZES, write_small_clip

CONFIG = with_text(vit_test(), SIZES.embedding)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> TransformersClip:
    return load_clip(write_small_clip(tmp_path_factory.mktemp("clips") / "one"))


def test_its_own_clip_and_a_model_that_names_none_are_accepted(clip: TransformersClip) -> None:
    require_clip(CONFIG, clip_metadata(clip.name, clip.sha256), clip)
    require_clip(CONFIG, {}, clip)


def test_a_model_without_text_prompts(clip: TransformersClip) -> None:
    with pytest.raises(ValueError, match="vit_test takes no text prompts; train one that does with --preset text"):
        require_clip(vit_test(), {}, clip)


def test_embeddings_of_another_width(clip: TransformersClip, tmp_path: Path) -> None:
    wide = load_clip(write_small_clip(tmp_path / "wide", sizes=replace(SIZES, embedding=12)))
    with pytest.raises(ValueError, match="takes embeddings of width 8, those of wide have 12"):
        require_clip(CONFIG, clip_metadata(clip.name, clip.sha256), wide)


def test_other_weights(clip: TransformersClip, tmp_path: Path) -> None:
    other = load_clip(write_small_clip(tmp_path / "two", seed=1))
    assert other.sha256 != clip.sha256
    with pytest.raises(ValueError, match=f"belongs to the CLIP one with the hash {clip.sha256[:12]}, not to two"):
        require_clip(CONFIG, clip_metadata(clip.name, clip.sha256), other)

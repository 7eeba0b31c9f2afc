"""The token of a text: where it goes, what is added to it, and models that take none."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sam_core.model.checkpoint import load_model, save_model
from sam_core.model.prompt_encoder import Prompts
from sam_core.model.sam import Sam
from sam_core.model.text_prompt import TextPrompt
from sam_core.predict import decode, encode
from sam_core.presets import SamConfig, vit_n, vit_test, with_text

WIDTH = 6
TEXT = torch.nn.functional.normalize(torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(0)), dim=-1)
POINT, LABEL = torch.full((2, 1, 2), 20.0), torch.ones(2, 1, dtype=torch.int64)
BOX = torch.tensor([[5.0, 5.0, 40.0, 40.0]]).expand(2, 4)


@pytest.fixture
def sam() -> Sam:
    return Sam(with_text(vit_test(), WIDTH)).eval()


def sparse(sam: Sam, prompts: Prompts) -> torch.Tensor:
    return sam.with_text(sam.prompt_encoder(prompts), prompts.text).sparse


@torch.no_grad()
def test_a_text_is_one_token_before_the_others(sam: Sam) -> None:
    assert sam.text_prompt is not None
    token, padding = sam.text_prompt(TEXT), sam.prompt_encoder.not_a_point_embed.weight
    clicked, boxed = sam.prompt_encoder(Prompts(POINT, LABEL)).sparse, sam.prompt_encoder(Prompts(boxes=BOX)).sparse
    alone = sparse(sam, Prompts(text=TEXT))
    assert alone.shape == (2, 2, 32)
    torch.testing.assert_close(alone, torch.cat([token, padding.expand(2, 1, -1)], 1))
    torch.testing.assert_close(sparse(sam, Prompts(POINT, LABEL, text=TEXT)), torch.cat([token, clicked], 1))
    torch.testing.assert_close(sparse(sam, Prompts(boxes=BOX, text=TEXT)), torch.cat([token, boxed], 1))
    both = Prompts(POINT, LABEL, BOX, text=TEXT)
    assert sparse(sam, both).shape == (2, 4, 32)  # no padding beside a box


def test_texts_decode_alone_and_with_others(sam: Sam) -> None:
    embedding = encode(sam, [torch.randint(0, 255, (50, 64, 3), dtype=torch.uint8).numpy()])
    for prompts in (
        Prompts(text=TEXT),
        Prompts(POINT, LABEL, text=TEXT),
        Prompts(boxes=BOX, text=TEXT),
        Prompts(mask_logits=torch.zeros(2, 1, 16, 16), text=TEXT),
    ):
        assert decode(sam, embedding, prompts).masks().shape == (2, 3, 50, 64)


def test_another_width_is_refused() -> None:
    with pytest.raises(ValueError, match=r"takes CLIP embeddings of width 6, not \[7\]"):
        TextPrompt(WIDTH, 8)(torch.zeros(1, 7))


def test_a_model_without_text_prompts_refuses_texts() -> None:
    plain = Sam(vit_test()).eval()
    embedding = encode(plain, [torch.zeros(64, 64, 3, dtype=torch.uint8).numpy()])
    with pytest.raises(ValueError, match="vit_test takes no text prompts; train one that does with --preset text"):
        decode(plain, embedding, Prompts(text=TEXT))


def test_texts_are_rows_of_numbers() -> None:
    with pytest.raises(ValueError, match="text of a prompt must have shape"):
        Prompts(text=TEXT[0])
    with pytest.raises(ValueError, match="mask logits and text embeddings of a prompt are floating-point"):
        Prompts(text=TEXT.long())
    with pytest.raises(ValueError, match="parts of the prompts differ in number"):
        Prompts(POINT, LABEL, text=TEXT[:1])


def test_models_without_text_prompts_are_written_as_ever() -> None:
    assert "text" not in vit_n().to_json()
    assert not any("text" in name for name in Sam(vit_test()).state_dict())


def test_a_model_with_text_prompts_comes_back_from_its_file(sam: Sam, tmp_path: Path) -> None:
    save_model(sam, tmp_path / "model.safetensors", {"clip_name": "small"})
    loaded = load_model(tmp_path / "model.safetensors")
    assert loaded.sam.config == sam.config
    assert loaded.metadata["clip_name"] == "small"
    assert loaded.sam.text_prompt is not None
    assert sam.text_prompt is not None
    torch.testing.assert_close(loaded.sam.text_prompt.projection.weight, sam.text_prompt.projection.weight)


@pytest.mark.parametrize("width", [-1, 1 << 20, 2.5])
def test_a_width_that_cannot_be_is_refused(width: int) -> None:
    with pytest.raises(ValueError, match="text_width is not in"):
        replace(vit_test(), text_width=width)
    assert SamConfig.from_json(with_text(vit_test(), 8).to_json()).text_width == 8

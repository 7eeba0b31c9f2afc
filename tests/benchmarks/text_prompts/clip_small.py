"""A small CLIP for experiments without downloads: a folder as `load_clip` reads, with new weights and a word tokenizer.

Sizes are for crops of a few dozen pixels and a vocabulary of some hundred words; the same classes as the large ones.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from sam_core.clip_transformers import TransformersClip, quietly

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_SPECIAL = ("[PAD]", "[UNK]", "[START]", "[END]")
_WORD = re.compile(r"[\w']+")


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallClipConfig:
    """image_size, patch_size: px. width: of both transformers. embedding: size of the shared space. context: tokens."""

    image_size: int = 40
    patch_size: int = 8
    width: int = 96
    heads: int = 4
    vision_layers: int = 3
    text_layers: int = 2
    embedding: int = 64
    context: int = 24


def vocabulary(texts: Iterable[str]) -> tuple[str, ...]:
    """The words of texts, lower case, each once, sorted."""
    return tuple(sorted({word for text in texts for word in _WORD.findall(text.lower())}))


def new_clip(config: SmallClipConfig, words: tuple[str, ...], *, seed: int = 0) -> TransformersClip:
    """A CLIP with random weights, in training mode; its hash is empty until it is saved and loaded."""
    from transformers import CLIPConfig, CLIPModel

    unknown = dict(zip(_SPECIAL, range(len(_SPECIAL)), strict=True))
    both = {"hidden_size": config.width, "intermediate_size": 4 * config.width, "num_attention_heads": config.heads}
    text = both | {
        "num_hidden_layers": config.text_layers,
        "max_position_embeddings": config.context,
        "vocab_size": len(_SPECIAL) + len(words),
        "pad_token_id": unknown["[PAD]"],
        "bos_token_id": unknown["[START]"],
        "eos_token_id": unknown["[END]"],
    }
    vision = both | {
        "num_hidden_layers": config.vision_layers,
        "image_size": config.image_size,
        "patch_size": config.patch_size,
    }
    torch.manual_seed(seed)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=config.embedding))
    return TransformersClip(model.train(), _tokenizer(words), name="new", sha256="", mean=(0.5,) * 3, std=(0.25,) * 3)


def save_clip(clip: TransformersClip, folder: Path) -> None:
    """Write a folder that `load_clip` reads; the weights last."""
    folder.mkdir(parents=True, exist_ok=True)
    clip.tokenizer.save_pretrained(folder)
    pixels = {"image_mean": clip.mean, "image_std": clip.std}
    (folder / "preprocessor_config.json").write_text(json.dumps(pixels))
    with quietly():
        clip.model.save_pretrained(folder)


def _tokenizer(words: tuple[str, ...]) -> PreTrainedTokenizerFast:
    from tokenizers import Regex, Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.normalizers import Lowercase
    from tokenizers.pre_tokenizers import Split
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    ids = {word: number for number, word in enumerate((*_SPECIAL, *words))}
    tokenizer = Tokenizer(WordLevel(ids, unk_token="[UNK]"))
    tokenizer.normalizer = Lowercase()
    tokenizer.pre_tokenizer = Split(Regex(_WORD.pattern), behavior="removed", invert=True)
    tokenizer.post_processor = TemplateProcessing(
        single="[START] $A [END]", special_tokens=[(mark, ids[mark]) for mark in ("[START]", "[END]")]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", bos_token="[START]", eos_token="[END]"
    )

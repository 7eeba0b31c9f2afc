"""CLIP out of a folder as the `transformers` library writes it: config.json, safetensors, tokenizer.

Any CLIP in that form works, the released ones as well as a small one trained here. Nothing is unpickled and nothing is
fetched. The library is an extra and is imported when a folder is opened.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sam_core.clip import TextEmbeddings

if TYPE_CHECKING:
    from transformers import CLIPModel, PreTrainedTokenizerBase

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
"""RGB in 0..1, where a folder does not say otherwise."""
BATCH = 256
"""Crops and texts that go through at once."""
_GET_ONE = (
    "get one on a machine that reaches the hub with `hf download openai/clip-vit-large-patch14 --local-dir FOLDER`"
)
_TOKENIZERS = ({"tokenizer.json"}, {"vocab.json", "merges.txt"})
_REWRITE = "from transformers import CLIPModel; CLIPModel.from_pretrained('.').save_pretrained('.')"


class ClipError(ValueError):
    """A folder that holds no CLIP that can be used."""


class TransformersClip:
    """A `Clip` around transformers' CLIPModel. Needs the model in evaluation mode, or trains with it otherwise."""

    def __init__(
        self,
        model: CLIPModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str,
        sha256: str,
        mean: Sequence[float] = CLIP_MEAN,
        std: Sequence[float] = CLIP_STD,
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.name, self.sha256 = name, sha256
        self.mean, self.std = tuple(mean), tuple(std)

    @property
    def width(self) -> int:
        """Size of an embedding."""
        return int(self.model.config.projection_dim)

    @property
    def context(self) -> int:
        """Most tokens of a text, its first and last mark among them."""
        return int(self.model.config.text_config.max_position_embeddings)

    @property
    def image_size(self) -> int:
        """Side of a crop, px."""
        return int(self.model.config.vision_config.image_size)

    @torch.no_grad()
    def embed_images(self, crops: Tensor, inside: Tensor | None = None) -> Tensor:
        """See `Clip.embed_images`. Raises ValueError for crops of another size."""
        self._require_size(crops, inside)
        pieces = range(0, len(crops), BATCH)
        cuts = [(crops[i : i + BATCH], None if inside is None else inside[i : i + BATCH]) for i in pieces]
        return torch.cat([self.image_vectors(*cut) for cut in cuts] or [crops.new_zeros(0, self.width)])

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> TextEmbeddings:
        """See `Clip.embed_texts`."""
        for text in texts:
            if not text.strip():
                raise ValueError("an empty text says nothing to look for")
        ids, truncated = self.tokens(texts)
        vectors = [self.text_vectors(ids[i : i + BATCH]) for i in range(0, len(ids), BATCH)]
        return TextEmbeddings(torch.cat(vectors or [torch.zeros(0, self.width)]), truncated)

    def image_vectors(self, crops: Tensor, inside: Tensor | None) -> Tensor:
        """One batch of `embed_images`; carries gradients."""
        vision = self.model.vision_model
        device = self.model.device
        mean, std = (torch.tensor(values, device=device).view(3, 1, 1) for values in (self.mean, self.std))
        pixels = (crops.to(device) - mean) / std
        hidden = vision.pre_layrnorm(vision.embeddings(pixels))
        *layers, last = vision.encoder.layers
        for layer in layers:
            hidden = layer(hidden, None)
        hidden = last(hidden, None if inside is None else self._only_inside(inside.to(device)))
        pooled = vision.post_layernorm(hidden[:, 0])
        return F.normalize(self.model.visual_projection(pooled), dim=-1)

    def text_vectors(self, ids: Tensor) -> Tensor:
        """One batch of tokens [N, T] -> [N, width]; carries gradients."""
        found = self.model.get_text_features(input_ids=ids.to(self.model.device))
        return F.normalize(found.pooler_output, dim=-1)

    def tokens(self, texts: Sequence[str]) -> tuple[Tensor, tuple[bool, ...]]:
        """Token ids int64 [N, T], padded to the longest text, and which texts were cut to the context."""
        if not texts:
            return torch.zeros(0, 1, dtype=torch.int64), ()
        whole = self.tokenizer(list(texts), truncation=False, padding=False, verbose=False)["input_ids"]
        # Beyond the context only the end mark, which the embedding is read from, is kept.
        cut = [ids if len(ids) <= self.context else [*ids[: self.context - 1], ids[-1]] for ids in whole]
        longest, padding = max(map(len, cut)), self.tokenizer.pad_token_id
        if padding is None:
            padding = whole[0][-1]  # the end mark, as of the released CLIPs; what follows the first one is not seen
        rows = [ids + [padding] * (longest - len(ids)) for ids in cut]
        return torch.tensor(rows), tuple(len(ids) > self.context for ids in whole)

    def _only_inside(self, inside: Tensor) -> Tensor:
        """What the last layer adds to its scores: [N, 1, 1, 1 + patches], 0 or -inf; the output itself is always 0."""
        patch = int(self.model.config.vision_config.patch_size)
        grid = self.image_size // patch
        seen = F.max_pool2d(inside[:, None].float(), patch)[..., :grid, :grid].flatten(1) > 0
        seen = seen | ~seen.any(1, keepdim=True)
        seen = F.pad(seen, (1, 0), value=True)
        tokens = seen.shape[1]
        scores = torch.zeros(seen.shape, device=seen.device).masked_fill(~seen, -torch.inf)
        return scores[:, None, None].expand(-1, 1, tokens, tokens)

    def _require_size(self, crops: Tensor, inside: Tensor | None) -> None:
        wanted = (3, self.image_size, self.image_size)
        if crops.shape[1:] != wanted:
            raise ValueError(f"crops for {self.name} have shape [N, {wanted}], not {list(crops.shape)}")
        if inside is not None and inside.shape != (len(crops), *wanted[1:]):
            raise ValueError(f"`inside` of {len(crops)} crops has shape {list(inside.shape)}")


def load_clip(folder: str | Path, *, device: torch.device | str = "cpu") -> TransformersClip:
    """The CLIP in a folder, in float32 and evaluation mode. Raises ClipError (one line) when there is none."""
    if str(folder).startswith("s3://"):
        raise ClipError(f"{folder}: a CLIP is read from disks; copy the folder to every machine that needs it")
    folder = Path(folder)
    weights = _weights(folder)
    model, tokenizer = _model_and_tokenizer(folder)
    pixels = _pixels(folder)
    return TransformersClip(
        model.to(device).eval(),
        tokenizer,
        name=folder.resolve().name,
        sha256=clip_sha256(weights),
        mean=pixels.get("image_mean", CLIP_MEAN),
        std=pixels.get("image_std", CLIP_STD),
    )


def _model_and_tokenizer(folder: Path) -> tuple[CLIPModel, PreTrainedTokenizerBase]:
    """What transformers reads in a folder, in float32. Raises ClipError when that is no whole CLIP."""
    try:
        from transformers import AutoTokenizer, CLIPModel
    except ModuleNotFoundError as error:
        raise ClipError(f"text prompts need {error.name}: pip install 'sam-data-engine[text]'") from error
    try:
        with quietly():
            model, found = CLIPModel.from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
                attn_implementation="sdpa",  # the default, in the place of kernels that a configuration may name
            )
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # whatever the library trips over
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ClipError(f"{folder}: this CLIP cannot be read: {reason}") from error
    if missing := sorted(found["missing_keys"]):  # for which the library draws numbers at random
        raise ClipError(
            f"{folder}: this CLIP lacks {len(missing)} of its weights, such as {missing[0]}; fetch it again"
        )
    if len(tokenizer) > (known := model.config.text_config.vocab_size):
        raise ClipError(
            f"{folder}: the tokenizer knows {len(tokenizer):,} tokens, the CLIP {known:,}; fetch both again"
        )
    return model, tokenizer


@contextmanager
def quietly() -> Iterator[None]:
    """The library's progress bars and reports are switched off inside: it loads and saves in a second."""
    from transformers.utils import logging

    shown, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if shown:
            logging.enable_progress_bar()


def clip_sha256(weights: Sequence[Path]) -> str:
    """SHA-256 of the weights, in hexadecimal: that of the file, or over those of several files in their order."""
    hashes = []
    for path in weights:
        with path.open("rb") as file:
            hashes.append(hashlib.file_digest(file, "sha256").hexdigest())
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def _weights(folder: Path) -> list[Path]:
    """The files that the library reads a CLIP from, whatever else lies in the folder. Raises ClipError saying what is
    missing and how to get it."""
    if not folder.is_dir():
        raise ClipError(f"there is no folder {folder} with a CLIP; {_GET_ONE}")
    kind = _json(folder / "config.json").get("model_type")
    if kind != "clip":
        raise ClipError(f"{folder} holds no CLIP: config.json {f'says {kind!r}' if kind else 'is missing'}; {_GET_ONE}")
    whole = folder / "model.safetensors"
    found = [whole] if whole.is_file() else sorted(folder.glob("model-*.safetensors"))
    if not found:
        pickled = list(folder.glob("*.bin"))
        way_out = f'*.bin is not read: write it anew there by `python -c "{_REWRITE}"`' if pickled else _GET_ONE
        raise ClipError(f"{folder} has no model.safetensors with the weights; {way_out}")
    there = {path.name for path in folder.iterdir()}
    if not any(files <= there for files in _TOKENIZERS):  # for which the library makes one that knows no word
        raise ClipError(f"{folder} has no tokenizer: tokenizer.json, or vocab.json and merges.txt; {_GET_ONE}")
    return found


def _pixels(folder: Path) -> dict[str, Any]:
    """What a folder says of mean and deviation: in a file of their own or, as newer versions of the library write a
    whole processor, in that one's."""
    whole = _json(folder / "processor_config.json").get("image_processor")
    return _json(folder / "preprocessor_config.json") or (whole if isinstance(whole, dict) else {})


def _json(path: Path) -> dict[str, Any]:
    """The object in a file; empty when there is no such file. Raises ClipError when it is no JSON object."""
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text())
    except ValueError as error:
        raise ClipError(f"{path} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise ClipError(f"{path} is no JSON object")
    return found

"""Prompts with a text, answered by torch: the graphs that browsers run take none."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from sam_core.answers import with_text_first
from sam_core.clip import Clip
from sam_core.honour import honour_clicks
from sam_core.model.sam import Sam
from sam_core.phrases import embed_phrases
from sam_core.predict import ImageEmbedding, Prompts, decode
from workflows.annotate.contract import Prompt
from workflows.annotate.decoder import Answer, as_logits
from workflows.text.clips import cut_off


class TextReader:
    """Answers prompts that have a text, one at a time."""

    def __init__(self, sam: Sam, clip: Clip) -> None:
        self._sam, self._clip = sam, clip

    def answer(self, embedding: ImageEmbedding, prompt: Prompt, mask: NDArray[np.bool_] | None = None) -> Answer:
        """All four outputs for a prompt in the original frame. Raises ValueError for an empty text."""
        assert prompt.text is not None, "a prompt without a text is for the Decoder"
        embedded = embed_phrases(self._clip, [prompt.text])
        frame = embedding.frames[0]
        clicks = torch.tensor([point[:2] for point in prompt.points], dtype=torch.float32)
        asked = Prompts(
            points=clicks[None] if prompt.points else None,
            labels=torch.tensor([[point[2] for point in prompt.points]]) if prompt.points else None,
            boxes=torch.tensor([prompt.box]) if prompt.box else None,
            mask_logits=None if mask is None else torch.from_numpy(as_logits(mask, frame)),
            text=embedded.vectors,
        )
        asked = with_text_first(self._sam, embedding, asked)
        drawn = (decode(self._sam, embedding, asked, multimask=several) for several in (False, True))
        said = [honour_clicks(masks, asked) for masks in drawn]
        logits, iou = (torch.cat([getattr(part, name) for part in said], 1)[0] for name in ("logits", "iou"))
        note = cut_off(prompt.text, self._clip.context) if embedded.truncated[0] else None
        return Answer(logits.numpy(), iou.numpy(), prompt.single, frame, note)

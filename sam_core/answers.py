"""Asking a model for masks the way it was asked in training, whatever the prompts are made of.

One prompt alone (a text, a click or a box) leaves doubt, so it gets three masks; several get the single output (paper,
section A). In training a text stands alone in the first round, and clicks come with the logits of the round before
(section D.5); so a text beside clicks or a box is asked alone first, and its most confident mask goes on as a prompt.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from sam_core.masks.batch import MaskBatch
from sam_core.model.sam import Sam
from sam_core.predict import ImageEmbedding, Prompts, decode


def answer(sam: Sam, embedding: ImageEmbedding, prompts: Prompts) -> MaskBatch:
    """Masks for N prompts in the original frame: three each for a single prompt, one for several together.

    Raises ValueError for prompts that do not fit the model.
    """
    asked = with_text_first(sam, embedding, prompts)
    return decode(sam, embedding, asked, multimask=is_single(asked))


@torch.no_grad()
def with_text_first(sam: Sam, embedding: ImageEmbedding, prompts: Prompts) -> Prompts:
    """The prompts, with the mask that the text alone gives where more than a text is there, and no mask yet."""
    if prompts.text is None or prompts.mask_logits is not None or is_single(prompts):
        return prompts
    first = decode(sam, embedding, Prompts(text=prompts.text), multimask=True)
    return replace(prompts, mask_logits=first.best().logits)


def is_single(prompts: Prompts) -> bool:
    """Whether each prompt is one text, one click or one box, and nothing else."""
    clicks = 0 if prompts.points is None else prompts.points.shape[1]
    others = sum(part is not None for part in (prompts.text, prompts.boxes, prompts.mask_logits))
    return clicks + others == 1

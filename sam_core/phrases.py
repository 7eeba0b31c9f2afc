"""Phrases to CLIP embeddings through prompt templates, averaged as CLIP's own zero-shot classifier does.

Radford et al. 2021, section 3.1.4: the embeddings of a phrase in several sentences are averaged, and the mean is
normalised.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F

from sam_core.clip import Clip, TextEmbeddings
from sam_core.templates import PLACE, PLAIN, require_templates


def embed_phrases(clip: Clip, phrases: Sequence[str], templates: Sequence[str] = PLAIN) -> TextEmbeddings:
    """One embedding per phrase, on the CPU: vectors of length 1; truncated where any of its sentences was cut off.

    Args:
        clip: what embeds texts.
        phrases: such as "a wheel".
        templates: sentences in which {} is the place of the phrase, such as "a photo of {}.".

    Raises:
        ValueError: no phrase, an empty one, one that is no text, no template, or one in which {} does not stand exactly
            once.
    """
    require_phrases(phrases)
    require_templates(templates)
    sentences = [template.replace(PLACE, phrase.strip()) for phrase in phrases for template in templates]
    each = clip.embed_texts(sentences)
    vectors = F.normalize(each.vectors.float().cpu().view(len(phrases), len(templates), -1).mean(1), dim=-1)
    count = len(templates)
    cut = tuple(any(each.truncated[start : start + count]) for start in range(0, len(sentences), count))
    return TextEmbeddings(vectors, cut)


def require_phrases(phrases: Sequence[str]) -> None:
    """Raise ValueError where there is nothing to embed, as a template would make a sentence of an empty phrase, or what
    is no text."""
    if not phrases or not all(phrase.strip() for phrase in phrases):
        raise ValueError("the text is empty: say what to segment, such as 'a wheel'")
    if strange := next((phrase for phrase in phrases if not _is_text(phrase)), None):
        raise ValueError(f"the text {strange!a} is not in UTF-8, as of a terminal that speaks another encoding")


def _is_text(phrase: str) -> bool:
    """Whether a phrase has characters alone, which bytes that Python could not read are not."""
    return phrase.encode("utf-8", "replace").decode() == phrase

"""Scenes of things that have names, and phrases that each mean one of them: ground truth for text prompts."""

from sam_core.scenes.captioned.phrases import Phrase, Wording, describe, words_of_all
from sam_core.scenes.captioned.scene import CaptionedScene, render_captioned
from sam_core.scenes.captioned.things import Look, Thing, held_out, looks

__all__ = [
    "CaptionedScene",
    "Look",
    "Phrase",
    "Thing",
    "Wording",
    "describe",
    "held_out",
    "looks",
    "render_captioned",
    "words_of_all",
]

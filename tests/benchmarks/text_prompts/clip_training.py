"""A small CLIP, trained on crops of scenes and phrases about them; stops and goes on anywhere."""

from __future__ import annotations

import io
import json
import math
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sam_core.clip_crops import CropBatch, crop, crop_batch, draw_crops
from sam_core.clip_transformers import TransformersClip
from sam_core.scenes.captioned import CaptionedScene, Phrase, Thing, describe, words_of_all
from sam_core.scenes.captioned.things import COLOURS, SHAPES, TEXTURES
from sam_core.training.schedule import LearningRate
from tests.benchmarks.text_prompts.clip_small import SmallClipConfig, new_clip, save_clip, vocabulary
from tests.benchmarks.text_prompts.contrastive import contrastive_loss, mean_gap, retrieval
from tests.benchmarks.text_prompts.data import CLIP_SEED, SIZE, training_scene

POOL, NEW_PER_STEP = 400, 4
"""Scenes at hand, and how many of them are replaced in each step."""
MOST_SCALE = 20.0
"""Cosines are multiplied by no more: larger factors pull pictures and texts apart."""
MEAN_GAP = 5.0
"""Weight of the distance between the means of pictures and of texts, in the closing steps."""
SAVE_EVERY = 100
UNSAID = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipTraining:
    """First `steps` with the contrastive loss alone, then `closing` ones that also draw the means of pictures and texts
    together; the learning rate falls to zero along a cosine in either. batch: pairs of crop and phrase."""

    steps: int = 2000
    closing: int = 300
    batch: int = 128
    learning_rate: float = 1.5e-3
    closing_rate: float = 4e-4
    weight_decay: float = 0.05
    clip: SmallClipConfig = field(default_factory=SmallClipConfig)

    @property
    def all_steps(self) -> int:
        return self.steps + self.closing

    def rate(self, step: int) -> float:
        """Learning rate of a 0-based step."""
        if step < self.steps:
            return LearningRate(base=self.learning_rate, warmup=100, iterations=self.steps).at(step)
        return LearningRate(base=self.closing_rate, warmup=10, iterations=self.closing).at(step - self.steps)


@dataclass(frozen=True, slots=True)
class Pairs:
    """N crops with a phrase each, and which phrases are true of which crops: bool [N, N], [crop, phrase]."""

    crops: CropBatch
    texts: tuple[str, ...]
    also: Tensor


class Scenes:
    """The scenes that step `s` draws from: numbers s * NEW_PER_STEP and the POOL - 1 after it."""

    def __init__(self) -> None:
        self._held: dict[int, CaptionedScene] = {}

    def at(self, step: int) -> list[CaptionedScene]:
        wanted = range(step * NEW_PER_STEP, step * NEW_PER_STEP + POOL)
        self._held = {n: self._held.get(n) or training_scene(CLIP_SEED, n) for n in wanted}
        return list(self._held.values())


def train_clip(folder: Path, work: Path, settings: ClipTraining, deadline: float) -> bool:
    """Train until the deadline (of `time.monotonic`) or the end; whether it is done and lies in the folder."""
    clip = new_clip(settings.clip, vocabulary(words_of_all()))
    optimizer = torch.optim.AdamW(
        clip.model.parameters(), lr=0.0, betas=(0.9, 0.98), weight_decay=settings.weight_decay
    )
    clip.model.logit_scale.data.fill_(math.log(10.0))
    state, curve_file = work / "clip.state", work / "clip_curve.json"
    step = _restore(state, clip, optimizer)
    curve = json.loads(curve_file.read_text()) if step else []
    scenes = Scenes()
    while step < settings.all_steps and time.monotonic() < deadline:
        pairs = draw_pairs(
            scenes.at(step), settings.batch, clip.image_size, np.random.default_rng([CLIP_SEED, 1, step])
        )
        for group in optimizer.param_groups:
            group["lr"] = settings.rate(step)
        loss, right = _step(clip, pairs, optimizer, gap=MEAN_GAP * (step >= settings.steps))
        step += 1
        if step % 20 == 0:
            curve.append({"step": step, "loss": loss, "retrieval": right})
        if step % SAVE_EVERY == 0:
            print(f"CLIP: step {step} of {settings.all_steps}, loss {loss:.3f}, right {right:.2f}", flush=True)
        if step % SAVE_EVERY == 0 or step == settings.all_steps or time.monotonic() >= deadline:
            curve_file.write_text(json.dumps(curve))
            _save(state, clip, optimizer, step)
    if step >= settings.all_steps and not (folder / "model.safetensors").exists():
        clip.model.eval()
        save_clip(clip, folder)
    return step >= settings.all_steps


def draw_pairs(scenes: list[CaptionedScene], count: int, size: int, rng: np.random.Generator) -> Pairs:
    """Crops of things drawn at random with a phrase each; a thing of which no phrase was found is passed over."""
    crops: list[tuple[NDArray[np.uint8], NDArray[np.bool_]]] = []
    phrases, things = [], []
    while len(crops) < count:
        scene = scenes[int(rng.integers(len(scenes)))]
        place = int(rng.integers(len(scene.things)))
        phrase = describe(scene.things, place, SIZE, rng)
        if phrase is not None and scene.masks[place].any():
            (draw,) = draw_crops(rng, 1)
            crops.append(crop(scene.image, scene.masks[place], draw, size))
            phrases.append(phrase)
            things.append(scene.things[place])
    return Pairs(crop_batch(crops), tuple(phrase.text for phrase in phrases), true_of(things, phrases))


def true_of(things: list[Thing], phrases: list[Phrase]) -> Tensor:
    """Bool [N, N], [thing, phrase]: all that a phrase says is so, and it says nothing but looks and size."""
    are = torch.tensor([_codes(t.look.shape, t.look.colour, t.look.texture, t.large) for t in things])
    said = [phrase.description for phrase in phrases]
    say = torch.tensor([_codes(d.shape, d.colour, d.texture, d.large) for d in said])
    more = torch.tensor([bool(d.place or d.relation) for d in said])
    return ((say == UNSAID) | (say == are[:, None])).all(-1) & ~more


def _codes(shape: str | None, colour: str | None, texture: str | None, large: bool | None) -> tuple[int, ...]:
    """Numbers of the words, UNSAID where there is none."""
    words = ((SHAPES, shape), (COLOURS, colour), (TEXTURES, texture), ((False, True), large))
    return tuple(UNSAID if word is None else known.index(word) for known, word in words)


def _step(clip: TransformersClip, pairs: Pairs, optimizer: torch.optim.Optimizer, *, gap: float) -> tuple[float, float]:
    """One step; its loss and the share of phrases whose nearest crop is right. gap: weight of the means' distance."""
    ids, _ = clip.tokens(pairs.texts)
    images, texts = clip.image_vectors(pairs.crops.pixels, pairs.crops.inside), clip.text_vectors(ids)
    scale = clip.model.logit_scale.exp().clamp(max=MOST_SCALE)
    loss = contrastive_loss(images, texts, scale, pairs.also) + gap * mean_gap(images, texts)
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(clip.model.parameters(), 1.0)
    optimizer.step()
    return loss.item(), retrieval(images, texts, pairs.also)


def _save(path: Path, clip: TransformersClip, optimizer: torch.optim.Optimizer, step: int) -> None:
    buffer = io.BytesIO()
    torch.save({"step": step, "model": clip.model.state_dict(), "optimizer": optimizer.state_dict()}, buffer)
    partial = path.with_suffix(".partial")
    partial.write_bytes(buffer.getvalue())
    partial.replace(path)


def _restore(path: Path, clip: TransformersClip, optimizer: torch.optim.Optimizer) -> int:
    if not path.exists():
        return 0
    saved = torch.load(path, weights_only=True)
    clip.model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    return int(saved["step"])

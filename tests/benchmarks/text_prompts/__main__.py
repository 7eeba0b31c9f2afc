"""Text prompts end to end, without downloads: scenes, a small CLIP, SAM trained on crops, measured on phrases.

    python -m tests.benchmarks.text_prompts --work DIR --minutes 6 --json tests/benchmarks/results/text_prompts.json

Neither CLIP nor SAM sees a scene with one of the combinations of shape, colour and texture that are kept apart (a
fifth), nor a phrase in one of the wordings that are kept apart; SAM sees no phrase at all, only embeddings of crops.
The exit status is 3 when the minutes were not enough: the same command goes on where this one stopped.

Targets: text to mask at least 50 mIoU on unseen combinations and above CLIP's choice among automatic masks; text with a
click at least 10 points above the click alone where clicks are ambiguous; text at most 8 points below the embedding of
the true mask's crop; less than 150 ms from a text's embedding to its mask on a CPU.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import tyro

from sam_core.clip_transformers import TransformersClip, load_clip
from sam_core.model.checkpoint import LoadedModel, load_model
from tests.benchmarks.record import environment_fields, write_json
from tests.benchmarks.text_prompts.clip_training import ClipTraining, train_clip
from tests.benchmarks.text_prompts.data import TEST_SETS, TestSet, write_test, write_training
from tests.benchmarks.text_prompts.figures import curve_from_gpu, latency_ms, targets, training_curve, ways
from tests.benchmarks.text_prompts.pictures import draw_curves, draw_examples
from tests.benchmarks.text_prompts.train_on_gpu import RECORD, WEIGHTS
from workflows.evaluate.commands import TextConfig
from workflows.evaluate.job import evaluate, here

DONE, NOT_DONE = 0, 3
PLACES = ("json", "work", "pictures", "trained")
"""Options that say where, not what."""
SHOWN_SET = TEST_SETS[1]
"""Whose first phrases are drawn: that of the targets."""
SECONDS_FOR_A_SET = 100.0
"""A test set is not begun when less is left."""
LEAST_AREA = 64
RIVAL = "vit_n"
"""Makes the automatic masks and answers clicks alone, as its training was for both."""


@dataclass(frozen=True, slots=True)
class Options:
    """Where to work and how much to do."""

    work: Path
    """Everything that is made lies here between commands."""
    json: Path | None = None
    """Record to write at the end."""
    pictures: Path | None = None
    """Folder for text.jpg and text_curve.png; the work folder when not given."""
    minutes: float | None = None
    """Stop after so many minutes."""
    scenes: int = 2500
    """That SAM is trained on."""
    test_scenes: int = 60
    """Of each test set."""
    clip_steps: int = 2000
    """Of CLIP's training."""
    iterations: int = 1500
    """Of SAM's training."""
    trained: Path | None = None
    """Folder that `train_on_gpu` wrote with this CLIP: SAM is taken from there instead of being trained."""
    threads: int = 2
    """CPU cores; threads wait for each other in vain where other work takes one of them."""
    others: str = ""
    """What else ran on the machine, for the record."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where things lie in the work folder."""

    work: Path

    @property
    def training(self) -> Path:
        return self.work / "scenes"

    @property
    def dataset(self) -> Path:
        return self.work / "data"

    @property
    def clip(self) -> Path:
        return self.work / "clip"

    def test(self, about: TestSet) -> Path:
        return self.work / about.name


def main() -> int:
    return run(tyro.cli(Options))


def run(options: Options) -> int:
    """Go on with the experiment in its folder; the exit status says whether it is done."""
    started = time.monotonic()
    deadline = started + 60 * options.minutes if options.minutes else float("inf")
    places = Places(options.work)
    options.work.mkdir(parents=True, exist_ok=True)
    write_data(options, places)
    torch.set_num_threads(options.threads)
    done = train_clip(places.clip, options.work, ClipTraining(steps=options.clip_steps), deadline)
    done = done and (options.trained is not None or train_sam(options, places, deadline))
    model = model_of(options, places) if done else None
    done = model is not None and measure(options, places, model, deadline)
    _count_seconds(options.work, time.monotonic() - started)
    if not done or model is None:
        print("stopped; the same command goes on", flush=True)
        return NOT_DONE
    finish(options, places, model)
    return DONE


def write_data(options: Options, places: Places) -> None:
    """Training and test scenes as files, unless they are there."""
    if not (places.training / "instances.json").exists():
        write_training(places.training, options.scenes)
    for about in TEST_SETS:
        if not (places.test(about) / "instances.json").exists():
            write_test(places.test(about), about, options.test_scenes)


def train_sam(options: Options, places: Places, deadline: float) -> bool:
    """The commands that a user would give; whether all of them ended before the deadline."""
    data, clip = str(places.dataset), str(places.clip)
    commands = {
        "import": ("import", str(places.training / "instances.json"), data),
        "crops": ("crops", data, "--clip", clip, "--min-area", str(LEAST_AREA)),
        "train": (
            *("train", f"{data}@annotations", "--preset", "text_nano", "--clip", clip, "--save-every", "50"),
            *("--threads", str(options.threads), "--iterations", str(options.iterations)),
        ),
    }
    return all(_sam_engine(places.work / f"{name}.done", words, deadline) for name, words in commands.items())


def model_of(options: Options, places: Places) -> Path:
    """The trained model."""
    if options.trained:
        return options.trained / WEIGHTS
    (end,) = places.dataset.glob("training/run=*/finished.json")
    return Path(json.loads(end.read_text())["weights"])


def measure(options: Options, places: Places, model: Path, deadline: float) -> bool:
    """`sam-engine evaluate text` on every test set; whether all of them are measured."""
    for about in TEST_SETS:
        path = places.work / f"{about.name}.figures.json"
        if path.exists():
            continue
        if deadline - time.monotonic() < SECONDS_FOR_A_SET:
            return False
        config = TextConfig(
            data=(f"{about.name}={places.test(about) / 'instances.json'}",),
            clip=str(places.clip),
            model=str(model),
            rival=RIVAL,
            out=str(places.work / "evaluations"),
            threads=options.threads,
            shard_size=10,
        )
        found = evaluate(config, pool=here)
        path.write_text(json.dumps([asdict(figure) for figure in found.figures]))
        print(f"{about.name}: measured, {len(found.errors)} errors", flush=True)
    return True


def finish(options: Options, places: Places, path: Path) -> None:
    """Pictures, and the record."""
    model, clip = load_model(path), load_clip(places.clip)
    curves = {
        "clip": json.loads((places.work / "clip_curve.json").read_text()),
        "sam": curve_from_gpu(options.trained) if options.trained else training_curve(places.dataset),
    }
    pictures = options.pictures or places.work
    pictures.mkdir(parents=True, exist_ok=True)
    draw_curves(pictures / "text_curve.png", curves)
    draw_examples(pictures / "text.jpg", model.sam, clip, places.test(SHOWN_SET))
    if options.json:
        write_json(options.json, record(options, places, model, clip, curves))


def record(
    options: Options, places: Places, model: LoadedModel, clip: TransformersClip, curves: dict[str, Any]
) -> dict[str, Any]:
    """What was measured: every way to a mask on every test set, the targets, the curves."""
    figures = {about.name: json.loads((places.work / f"{about.name}.figures.json").read_text()) for about in TEST_SETS}
    table = {name: ways(name, each) for name, each in figures.items()}
    speed = latency_ms(model.sam, clip, next((places.test(SHOWN_SET) / "images").glob("*.png")))
    return {
        "targets": targets(table, speed["text_to_mask"]),
        "latency_ms": speed,
        "sets": table,
        "curves": curves,
        "clip": {"sha256": clip.sha256, "parameters": sum(p.numel() for p in clip.model.parameters())},
        "model_sha256": model.sha256,
        "minutes": json.loads((places.work / "seconds.json").read_text()) / 60,
        "trained_on_gpu": json.loads((options.trained / RECORD).read_text()) if options.trained else None,
        "config": {name: str(value) for name, value in asdict(options).items() if name not in PLACES},
        **environment_fields(),
    }


def _sam_engine(done: Path, words: Sequence[str], deadline: float) -> bool:
    """Run the command unless it has ended before; interrupted at the deadline. Raises SystemExit when it fails."""
    if done.exists():
        return True
    if time.monotonic() > deadline:
        return False
    process = subprocess.Popen([sys.executable, "-m", "workflows.cli", *words])
    try:
        status = process.wait(None if deadline == float("inf") else deadline - time.monotonic())
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        process.wait()
        return False
    if status:
        raise SystemExit(f"sam-engine {words[0]} ended with status {status}")
    done.touch()
    return True


def _count_seconds(work: Path, seconds: float) -> None:
    """Add to the time that all commands on this folder have taken."""
    path = work / "seconds.json"
    before = json.loads(path.read_text()) if path.exists() else 0.0
    path.write_text(json.dumps(before + seconds))


if __name__ == "__main__":
    raise SystemExit(main())

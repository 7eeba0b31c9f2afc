"""Train the model in the box: `python -m workflows.train.nano OUT` on procedural scenes; run again to resume."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from sam_core.model.checkpoint import save_model
from sam_core.model.position_tables import resize_model_state
from sam_core.model.sam import Sam
from sam_core.presets import at_image_size, preset
from sam_core.scenes import SceneConfig
from sam_core.training.initialise import align_cross_attention
from sam_core.training.presets import TrainConfig, nano
from sam_core.training.sampling import MaskChoice
from workflows.train.loop import Progress, TrainState, train
from workflows.train.scenes import scene_batches

SAVE_EVERY = 50


def first_model(config: TrainConfig) -> Sam:
    """A model that has learned nothing yet, the same for the same seed."""
    torch.manual_seed(config.seed)
    model = Sam(at_image_size(preset(config.model), config.image_size))
    align_cross_attention(model)
    return model


def next_model(before: Sam, config: TrainConfig) -> Sam:
    """The model of the stage before, its position tables resized to this stage's input."""
    model = Sam(at_image_size(before.config, config.image_size))
    model.load_state_dict(resize_model_state(before.state_dict(), model.config))
    return model


def run_stage(model: Sam, config: TrainConfig, out: Path, *, workers: int) -> Sam:
    """Train one stage, resuming from and saving to `out/state.pt`, logging to `out/log.jsonl`; the averaged model."""
    out.mkdir(parents=True, exist_ok=True)
    state = TrainState.fresh(model, config)
    if (out / "state.pt").exists():
        state.load(out / "state.pt")
    scale = (config.image_size / 256) ** 2
    batches = scene_batches(
        SceneConfig(size=config.image_size),
        MaskChoice(config.masks_per_image, min_area=round(150 * scale), max_share=config.max_mask_share),
        images=config.images,
        first_step=state.step,
        last_step=config.learning_rate.iterations,
        seed=config.seed,
        workers=workers,
    )
    with (out / "log.jsonl").open("a") as log, sdpa_kernel(SDPBackend.MATH):

        def report(progress: Progress) -> None:
            print(json.dumps(asdict(progress)), file=log, flush=True)
            if progress.step % SAVE_EVERY == 0:
                state.save(out / "state.pt")

        train(state, batches, config, report)
    state.save(out / "state.pt")
    return state.average


def run(out: Path, stages: tuple[TrainConfig, ...], *, workers: int) -> Sam:
    """Train all stages; those already finished only hand on their weights."""
    model = first_model(stages[0])
    for number, config in enumerate(stages):
        model = model if number == 0 else next_model(model, config)
        model = run_stage(model, config, out / f"stage{number}", workers=workers)
    return model


def export(model: Sam, stages: tuple[TrainConfig, ...], path: Path) -> None:
    """Write the weights as they ship: half precision, with the configuration of every stage in the header."""
    save_model(model, path, {"training": json.dumps([asdict(stage) for stage in stages])}, dtype=torch.float16)


def main() -> None:
    """Parse the command line, train, and write `OUT/vit_n.safetensors`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = run(arguments.out, nano(), workers=arguments.workers)
    export(model, nano(), arguments.out / "vit_n.safetensors")


if __name__ == "__main__":
    main()

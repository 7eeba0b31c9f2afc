"""Train the model in the box: `python -m workflows.train.nano OUT` on procedural scenes; run again to resume."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from sam_core.model.sam import Sam
from sam_core.presets import at_image_size, preset
from sam_core.scenes import SceneConfig
from sam_core.training.initialise import align_cross_attention
from sam_core.training.presets import TrainConfig, nano
from sam_core.training.sampling import MaskChoice
from workflows.train.loop import Progress, TrainState, train
from workflows.train.scenes import scene_batches

SAVE_EVERY = 100


def run(out: Path, config: TrainConfig, *, workers: int) -> None:
    """Train until the schedule ends, saving `out/state.pt` on the way and logging to `out/log.jsonl`."""
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    model = Sam(at_image_size(preset(config.model), config.image_size))
    align_cross_attention(model)
    state = TrainState.fresh(model, config)
    if (out / "state.pt").exists():
        state.load(out / "state.pt")
    batches = scene_batches(
        SceneConfig(size=config.image_size),
        MaskChoice(config.masks_per_image, max_share=config.max_mask_share),
        images=config.images,
        first_step=state.step,
        last_step=config.learning_rate.iterations,
        seed=config.seed,
        workers=workers,
    )

    with (out / "log.jsonl").open("a") as log, sdpa_kernel(SDPBackend.MATH):

        def report(progress: Progress) -> None:
            log.write(json.dumps(asdict(progress)) + "\n")
            log.flush()
            if progress.step % SAVE_EVERY == 0:
                state.save(out / "state.pt")

        train(state, batches, config, report)
    state.save(out / "state.pt")


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--iterations", type=int)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    config = nano()
    if arguments.iterations:
        rate = replace(config.learning_rate, iterations=arguments.iterations)
        config = replace(config, learning_rate=rate)
    run(arguments.out, config, workers=arguments.workers)


if __name__ == "__main__":
    main()

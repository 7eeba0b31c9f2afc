"""Click to mask in Chromium: the decoder in ONNX Runtime Web, from the click until the mask is painted.

    python -m tests.benchmarks.browser_decoder [--clicks 40] [--json FILE]

Two models on one photograph of scikit-image: `vit_n`, and the full-size decoder (width 256, 64 x 64 positions) with
random weights behind a small encoder, since only the decoder is measured. Also 300 masks on 12 megapixels: how long a
frame takes while the picture is moved and zoomed.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from sam_core.model.checkpoint import save_model
from sam_core.model.sam import Sam
from sam_core.presets import ImageEncoderConfig, vit_b
from tests.benchmarks.record import environment_fields, write_json
from tests.workflows.annotate.browser import Person, chromium, sit_down
from tests.workflows.annotate.conftest import Running, body, mask_row
from workflows.annotate.assets import find_runtime
from workflows.annotate.commands import AnnotateConfig
from workflows.annotate.studio import open_studio
from workflows.cli import main as engine

TARGET_MS = {"vit_n": 35.0, "width_256": 80.0}
_FRAMES = """async () => {
  const viewport = document.getElementById("viewport");
  const times = [];
  let last = await new Promise(requestAnimationFrame);
  for (let i = 0; i < 120; i++) {
    const wheel = { deltaY: i % 40 < 20 ? -30 : 30, clientX: 500, clientY: 350, bubbles: true, cancelable: true };
    viewport.dispatchEvent(new WheelEvent("wheel", wheel));
    const now = await new Promise(requestAnimationFrame);
    times.push(now - last);
    last = now;
  }
  return times;
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clicks", type=int, default=40)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        record = measure(Path(folder), options.clicks)
    for name, ms in record["click_to_mask_ms"].items():
        print(f"{name:10} median {ms['median']:.1f} ms, 90 % {ms['p90']:.1f} (target {TARGET_MS[name]:.0f})")
    frame = record["frame_ms"]
    print(f"300 masks on 12 MP: median frame {frame['median']:.1f} ms, 95 % {frame['p95']:.1f}")
    if options.json:
        write_json(options.json, record | environment_fields())


def measure(folder: Path, clicks: int) -> dict[str, Any]:
    """All figures: milliseconds."""
    data = _data_set(folder)
    models = {"vit_n": "vit_n", "width_256": str(_full_size_decoder(folder))}
    with chromium() as browser:
        times = {}
        for name, model in models.items():
            server = Running(AnnotateConfig(dataset=data, model=model, images=_PHOTO), find_runtime)
            person = sit_down(browser, server.start(), "bench")
            times[name] = _click_times(person, clicks)
            server.stop()
        frames = _frame_times(browser, data)
        version = browser.version
    frame_ms = {"median": statistics.median(frames), "p95": float(np.percentile(frames, 95)), "frames": len(frames)}
    return {
        "click_to_mask_ms": {name: _summary(values) for name, values in times.items()},
        "frame_ms": frame_ms,
        "target_ms": TARGET_MS,
        "browser": f"Chromium {version}",
        "provider": "wasm",
    }


_PHOTO = "SELECT image_id FROM images WHERE width = 451"
_LARGE = "SELECT image_id FROM images WHERE width = 4000"


def _data_set(folder: Path) -> str:
    from skimage.data import chelsea

    (folder / "photos").mkdir()
    Image.fromarray(chelsea()).save(folder / "photos" / "cat.png")
    Image.fromarray(chelsea()).resize((4000, 3000)).save(folder / "photos" / "large.jpg")
    engine(["ingest", str(folder / "photos"), str(folder / "data")])
    return str(folder / "data")


def _full_size_decoder(folder: Path) -> Path:
    """The released decoder's shape behind an encoder of one block, random weights."""
    torch.manual_seed(0)
    config = vit_b()
    assert isinstance(config.image_encoder, ImageEncoderConfig)
    encoder = replace(config.image_encoder, depth=1, embed_dim=64, num_heads=2, global_attn_indexes=())
    save_model(Sam(replace(config, image_encoder=encoder)), folder / "wide.safetensors")
    return folder / "wide.safetensors"


def _click_times(person: Person, clicks: int) -> list[float]:
    """Milliseconds of single clicks at random places, the first ones left out as warm-up."""
    random = np.random.default_rng(0)
    times = []
    for _ in range(clicks + 5):
        person.click(*random.uniform(0.1, 0.9, 2))
        times.append(float(person.page.evaluate("() => annotate.lastClick")))
        person.press("Escape")
    return times[5:]


def _frame_times(browser: Any, data: str) -> list[float]:
    """Milliseconds between frames while 300 masks on 12 megapixels are zoomed."""
    config = AnnotateConfig(dataset=data, images=_LARGE, browser_decoder=False)
    studio = open_studio(config)
    image = next(iter(studio.images))
    from workflows.annotate.contract import Save

    masks = [mask_row(image, _disc(seed), mask_id=f"m{seed}") for seed in range(300)]
    studio.save("bench", 1, Save.model_validate(body(masks=masks)))
    server = Running(config, lambda: None)
    person = sit_down(browser, server.start(), "bench")
    frames = list(map(float, person.page.evaluate(_FRAMES)))
    server.stop()
    return frames


def _disc(seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    y, x = np.ogrid[:3000, :4000]
    return (y - random.uniform(100, 2900)) ** 2 + (x - random.uniform(100, 3900)) ** 2 < random.uniform(40, 400) ** 2


def _summary(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "p90": float(np.percentile(values, 90)), "clicks": len(values)}


if __name__ == "__main__":
    main()

"""Render workflows/rates.json, from which `sam-engine plan` forecasts, out of the recorded results.

python -m tests.benchmarks.rates
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sam_core.presets import PRESETS
from tests.benchmarks.flops import absorbed_decoder_macs, encoder_macs
from tests.benchmarks.record import RESULTS, ROOT, write_json
from workflows.rates import PEAK_TFLOPS

RATES = ROOT / "workflows" / "rates.json"
ENGINE = "scale_200k.json"


def document(results: Path = RESULTS) -> dict[str, Any]:
    """The rates that the records in a folder state."""
    paths = (path for path in sorted(results.glob("generator_*.json")) if not path.stem.endswith("_amx"))  # as few have
    generators = [(path.name, json.loads(path.read_text())) for path in paths]
    engine = json.loads((results / ENGINE).read_text())
    written = engine["bytes_written_per_image"]
    return {
        "work": {name: work(name) for name in PRESETS},
        "measured": [measured(name, record) for name, record in generators if record["model"]["weights"] == "trained"],
        "engine": {
            "bytes_per_image": sum(written.values()),
            "images_per_second": engine["whole"]["images_per_second"],
        },
        "engine_source": f"{ENGINE}, commit {engine['commit']}",
    }


def work(model: str) -> dict[str, int]:
    """Multiply-accumulates as `workflows.rates.Work` has them."""
    config = PRESETS[model]()
    decoder = absorbed_decoder_macs(config)
    return {"encode": encoder_macs(config.image_encoder), **{k: getattr(decoder, k) for k in ("share", "ask", "draw")}}


def measured(name: str, record: dict[str, Any]) -> dict[str, Any]:
    """One measured rate; on a CPU a worker has two cores and the clock is the wall's."""
    ours, device = record["ours"], device_of(record)
    return {
        "model": record["model"]["name"],
        "recipe": record["recipe"],
        "device": device,
        "seconds": ours["wall_seconds"],
        "masks": ours["masks"],
        "images": record["images"],
        "source": name,
        "commit": record["commit"],
        "machine": record["machine"],
    }


def device_of(record: dict[str, Any]) -> str:
    """`cpu`, or the GPU as `sam-engine plan` calls it; one that it does not know by the name that it gives itself."""
    if record["config"]["device"] == "cpu":
        return "cpu"
    named = record["gpu"].lower()
    return next((gpu for gpu in sorted(PEAK_TFLOPS, key=len, reverse=True) if gpu in named), named)


if __name__ == "__main__":
    write_json(RATES, document())

"""The whole data engine, unattended: simulated annotators, three rounds of stages 1 and 2, then stage 3.

    python -m tests.benchmarks.rounds --data FOLDER --json tests/benchmarks/results/rounds_bbbc038.json

Images at even places of the sorted names are annotated, those at odd places held out. With `--work FOLDER` and
`--minutes M` the engine stops after so many minutes, and the same command goes on where it stopped; the record is
written at the end. Targets: clicks to IoU 0.9 fall by 30 % from the first round to the last, masks per image and
held-out one-click mIoU rise each round, prefilled masks are right in 85 % at IoU 0.75, all of it in 60 minutes.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import tyro
import yaml

from sam_core.masks import rle
from schemas.ids import content_hash
from schemas.layout import snapshot_key
from schemas.parquet import from_parquet_bytes, to_parquet_bytes
from schemas.tables import SNAPSHOT
from tests.benchmarks.record import environment_fields, write_json
from workflows.report import write_report
from workflows.rounds.config import EngineConfig, parse_engine
from workflows.rounds.engine import Engine, Means, open_engine, run_rounds
from workflows.rounds.outcomes import Snapshot, from_details, to_details
from workflows.rounds.steps import STEPS
from workflows.sql import connect
from workflows.train.job import train

DONE, NOT_DONE = 0, 3


@dataclass(frozen=True, slots=True)
class Options:
    """What to run on and where to write."""

    data: Path
    """Folder with images/ and labels/, or with images/ and a COCO instances.json."""
    json: Path | None = None
    """Record to write."""
    work: Path | None = None
    """Where the data set lies between commands; a temporary folder when not given."""
    minutes: float | None = None
    """Begin no further step after so many minutes."""
    model: str = "vit_n"
    """What the first round begins with: a name or a checkpoint."""
    rounds: int = 3
    """Rounds of the assisted-manual and of the semi-automatic stage."""
    images: int = 14
    """Images that the annotators of each round get; coco128 has enough for 10."""
    seconds: float = 600.0
    """Working time on an image; the paper's first stage took 20 masks of 34 s each."""
    iterations: int = 70
    """Training steps of each round."""
    step_images: int = 4
    """Images of a training step, half of them procedural scenes."""
    workers: int = 2
    """Training processes of one core each, which do more than the threads of one process."""
    image_size: int = 384
    """Model input side, px: that of `vit_n`."""
    learning_rate: float | None = None
    """Base learning rate; the preset's when not given."""
    centre_share: float | None = None
    """Of first points deep inside their object; the preset's when not given."""
    chosen: float | None = None
    """Share of the mask loss for the mask that is shown; the preset's when not given."""
    bfloat16: bool | None = None
    """Products in bfloat16."""
    held_out: int = 24
    """Held-out images that a model is measured on."""
    recipe: str = "draft"
    """Of stage 3."""
    corrupt: int | None = None
    """Displace every mask of this round's snapshot before it is trained on, to see what the gate makes of it."""
    others: str = ""
    """What else ran on the machine, for the record."""


def main() -> int:
    options = tyro.cli(Options)
    if options.work:
        return run(options, options.work)
    with tempfile.TemporaryDirectory() as folder:
        return run(options, Path(folder))


def run(options: Options, work: Path) -> int:
    """Go on with the engine in a folder; the exit status says whether it is done."""
    started = time.monotonic()
    if not (work / "engine.yaml").exists():
        prepare(options, work)
    config = parse_engine(yaml.safe_load((work / "engine.yaml").read_text()), where="engine.yaml")
    engine = open_engine(config, Means(train), simulate=True)
    while not run_rounds(engine, STEPS, most=1, tell=lambda line: print(line, flush=True)):
        if options.corrupt:
            displace(engine, options.corrupt)
        if options.minutes and time.monotonic() - started > 60 * options.minutes:
            print("stopped; the same command goes on", flush=True)
            return NOT_DONE
    write_report(config.dataset, work / "report.html")
    if options.json:
        write_json(options.json, record(options, config))
    return DONE


def prepare(options: Options, work: Path) -> None:
    """Two data sets out of one, and the engine that uses them."""
    for place, name in enumerate(("pool", "held_out")):
        split(options.data, work / name, place)
    described = settings(options, work)
    parse_engine(described, where="engine.yaml")
    (work / "engine.yaml").write_text(yaml.safe_dump(described, sort_keys=False))


def settings(options: Options, work: Path) -> dict[str, Any]:
    """engine.yaml."""
    pool, held_out = (source(work / name) for name in ("pool", "held_out"))
    people = {"rounds": options.rounds, "images": options.images}
    training = {
        "iterations": options.iterations,
        "images": options.step_images,
        "workers": options.workers,
        "threads": 1,
        "image_size": options.image_size,
        "learning_rate": options.learning_rate,
        "centre_share": options.centre_share,
        "chosen": options.chosen,
        "bfloat16": options.bfloat16,
        "also": ["scenes"],
    }
    return {
        "dataset": str(work / "data"),
        "images": pool if pool.endswith(".json") else f"{pool}/images",
        "held_out": held_out,
        "model": options.model,
        "stages": [
            {"stage": "assisted_manual", "policy": "random", **people},
            {"stage": "semi_automatic", "policy": "most_diverse", **people},
            {
                "stage": "automatic",
                "recipe": options.recipe,
                "training": {"preset": "stage3_fine_tune", **training},
            },
        ],
        "training": {"preset": "fine_tune", **training},
        "evaluation": {"images": options.held_out, "recall_images": 6},
        "simulation": {"truth": pool, "seconds_per_image": options.seconds},
        "prices": {"annotator_hour": 15.0, "machine_hour": 0.1},
    }


def split(data: Path, to: Path, place: int) -> None:
    """Copy the images at even (0) or odd (1) places of the sorted names, with their masks."""
    (to / "images").mkdir(parents=True, exist_ok=True)
    files = sorted(path for path in (data / "images").iterdir() if path.suffix in (".png", ".jpg"))[place::2]
    for path in files:
        shutil.copy(path, to / "images")
    if (data / "labels").is_dir():
        (to / "labels").mkdir(exist_ok=True)
        for path in files:
            shutil.copy(data / "labels" / f"{path.stem}.png", to / "labels")
        return
    document = json.loads((data / "instances.json").read_text())
    names = {path.name for path in files}
    document["images"] = [image for image in document["images"] if Path(image["file_name"]).name in names]
    kept = {image["id"] for image in document["images"]}
    document["annotations"] = [each for each in document["annotations"] if each["image_id"] in kept]
    (to / "instances.json").write_text(json.dumps(document))


def displace(engine: Engine, number: int) -> None:
    """Once round `number` has its snapshot and no more: move every mask by half the image, and let the hash agree."""
    record = engine.read(number)
    if record is None or record.state != Snapshot.step:
        return
    table = from_parquet_bytes(engine.store.get(snapshot_key(number)))
    rows = [row | {"rle": _moved(row)} for row in table.to_pylist()]
    data = to_parquet_bytes(pa.Table.from_pylist(rows, schema=SNAPSHOT))
    engine.store.put(snapshot_key(number), data)
    frozen = from_details(Snapshot, record.details)
    assert frozen, "the state says so"
    agreed = to_details(replace(frozen, sha256=content_hash(data)))
    engine.write(replace(record, details={**record.details, Snapshot.step: agreed}))
    print(f"round {number}: every mask displaced", flush=True)


def _moved(row: dict[str, Any]) -> bytes:
    size = (row["height"], row["width"])
    return rle.encode(np.roll(rle.decode(row["rle"], size), (size[0] // 2, size[1] // 2), (0, 1)))


def source(folder: Path) -> str:
    """The folder as a source of images with masks."""
    document = folder / "instances.json"
    return str(document if document.exists() else folder)


def record(options: Options, config: EngineConfig) -> dict[str, Any]:
    """What was measured: every round, and each target met or not."""
    connection = connect(config.dataset)
    rounds = [_plain(row) for row in connection.sql("FROM round_summary").to_arrow_table().to_pylist()]
    seconds = [json.loads(text) for (text,) in connection.sql("SELECT details ->> '$.seconds' FROM rounds").fetchall()]
    minutes = sum(sum(steps.values()) for steps in seconds) / 60
    return {
        "data": options.data.resolve().name,
        "rounds": rounds,
        "step_seconds": seconds,
        "engine_minutes": minutes,
        "targets": targets(rounds, minutes),
        "config": {name: str(value) for name, value in asdict(options).items() if name not in ("data", "json", "work")}
        | {"model": Path(options.model).name},
        **environment_fields(),
    }


def targets(rounds: Sequence[dict[str, Any]], minutes: float) -> dict[str, Any]:
    """Each target with its figure and whether it is met; stage 3 has neither clicks nor a model people click with."""
    people = [line for line in rounds if line["stage"] != "automatic"]
    # Rounds without a model have no figures after them.
    measured = [line for line in people if line["held_out_miou"] is not None]
    first, last = people[0]["base_clicks_to_090"], measured[-1]["clicks_to_090"]
    clicks = [line["clicks_per_mask"] for line in people if line["clicks_per_mask"] is not None]
    miou = [people[0]["base_miou"], *(line["held_out_miou"] for line in measured)]
    masks = [line["masks_per_image"] for line in people]
    prefill = [line["prefill_precision"] for line in people if line["prefill_precision"] is not None]
    return {
        "clicks_to_090_fall": _target(1 - last / first, 1 - last / first >= 0.3),
        "clicks_to_090_fall_from_round_1": _target(
            1 - last / measured[0]["clicks_to_090"], 1 - last / measured[0]["clicks_to_090"] >= 0.3
        ),
        "clicks_per_mask_fall": _target(1 - clicks[-1] / clicks[0], 1 - clicks[-1] / clicks[0] >= 0.3),
        "masks_per_image_rise": _target(masks, all(a < b for a, b in pairwise(masks))),
        "held_out_miou_rises": _target(miou, all(a < b for a, b in pairwise(miou))),
        "prefill_precision": _target(prefill, bool(prefill) and min(prefill) >= 0.85),
        "minutes": _target(minutes, minutes < 60),
    }


def _target(value: Any, met: bool) -> dict[str, Any]:
    return {"value": value, "met": bool(met)}


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value if value is None or isinstance(value, int | float | str | bool) else str(value)
        for name, value in row.items()
    }


if __name__ == "__main__":
    raise SystemExit(main())

"""The annotation server under load: 20 annotators over loopback, and two kills of the server in the middle.

    python -m tests.benchmarks.annotation_load [--annotators 20] [--masks 200] [--kills 2] [--json FILE]

Each annotator takes images from the queue, saves masks with their events as the app does, sends again what was not
acknowledged, and finishes images. Requests that fell into a kill are sent again and not counted as slow. At the end SQL
must find every mask of everyone exactly once, with the pixels that were sent.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from pycocotools import mask as coco

from sam_core.masks.rle import encode
from tests.benchmarks.record import environment_fields, write_json
from tests.workflows.annotate.conftest import blob, body, event_row, mask_row
from tests.workflows.conftest import save_photos
from workflows.cli import main as engine
from workflows.sql import connect

MASKS_PER_IMAGE = 25
THINKING = 0.25  # seconds between two masks of one annotator, far less than any person takes
TARGET_P95_MS = 200.0


@dataclass(slots=True)
class Server:
    """The real command in a process of its own, which may be killed and started again at the same port."""

    dataset: str
    port: int = 0
    process: subprocess.Popen[str] | None = None
    address: str = ""

    def start(self) -> None:
        command = [sys.executable, "-m", "workflows.cli", "annotate", self.dataset, "--port", str(self.port)]
        self.process = subprocess.Popen([*command, "--no-browser-decoder"], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.address = next(line for line in self.process.stdout if line.startswith("open ")).split()[1].rstrip("/")
        self.port = int(self.address.rpartition(":")[2])

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()


@dataclass(slots=True)
class Annotator:
    """One scripted person: `times` are seconds of acknowledged requests, `sent` the masks by id."""

    name: str
    server: Server
    masks: int
    times: list[float] = field(default_factory=list)
    sent: dict[str, bytes] = field(default_factory=dict)
    repeated: int = 0

    def work(self) -> None:
        seed = int(self.name[1:]) * 1000
        with httpx.Client(timeout=30) as client:
            for number in range(self.masks):
                if number % MASKS_PER_IMAGE == 0:
                    image = self._ask(client, "POST", "/api/queue/next", {"annotator": self.name})["image_id"]
                mask = blob(48, 64, seed + number)
                mask_id = f"{self.name}-{number}"
                self.sent[mask_id] = encode(mask)
                last = (number + 1) % MASKS_PER_IMAGE == 0
                actions = ["click", "save_mask"] + (["finish"] if last else [])
                events = [event_row(3 * number + i + 1, action, image) for i, action in enumerate(actions)]
                save = body(self.name, [mask_row(image, mask, mask_id=mask_id, clicks=1, seconds=1.0)], events)
                self._ask(client, "PUT", f"/api/sessions/{self.name}/parts/{number + 1}", save)
                time.sleep(THINKING)

    def _ask(self, client: httpx.Client, method: str, path: str, json: Any) -> Any:
        while True:
            start = time.perf_counter()
            try:
                answer = client.request(method, self.server.address + path, json=json)
                answer.raise_for_status()
            except httpx.TransportError:
                self.repeated += 1
                time.sleep(0.2)
                continue
            self.times.append(time.perf_counter() - start)
            return answer.json()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--annotators", type=int, default=20)
    parser.add_argument("--masks", type=int, default=200)
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        record = measure(Path(folder), options.annotators, options.masks, options.kills)
    print(
        f"{record['requests']} requests of {options.annotators} annotators: median {record['median_ms']:.1f} ms, "
        f"p95 {record['p95_ms']:.1f} ms (target {TARGET_P95_MS:.0f}); {record['repeated']} sent again over "
        f"{options.kills} kills; lost {record['lost']}, doubled {record['doubled']}, differing {record['differing']}"
    )
    if options.json:
        write_json(options.json, record | environment_fields())


def measure(folder: Path, annotators: int, masks: int, kills: int) -> dict[str, Any]:
    save_photos(folder / "photos", annotators * (masks // MASKS_PER_IMAGE + 1))
    data = str(folder / "data")
    engine(["ingest", str(folder / "photos"), data])
    server = Server(data)
    server.start()
    people = [Annotator(f"A{n}", server, masks) for n in range(annotators)]
    started = time.perf_counter()
    _run(people, server, kills)
    seconds = time.perf_counter() - started
    server.kill()
    times = np.array([t for person in people for t in person.times]) * 1000
    return {
        "annotators": annotators,
        "masks_each": masks,
        "kills": kills,
        "seconds": seconds,
        "requests": len(times),
        "repeated": sum(person.repeated for person in people),
        "median_ms": float(np.median(times)),
        "p95_ms": float(np.percentile(times, 95)),
        "max_ms": float(times.max()),
        "target_p95_ms": TARGET_P95_MS,
        **_check(data, {mask: rle for person in people for mask, rle in person.sent.items()}),
    }


def _run(people: list[Annotator], server: Server, kills: int) -> None:
    """Everyone works; the server is killed whenever a further share of all masks is sent."""
    threads = [threading.Thread(target=person.work) for person in people]
    for thread in threads:
        thread.start()
    total = sum(person.masks for person in people)
    done: Callable[[], int] = lambda: sum(len(person.sent) for person in people)  # noqa: E731
    for kill in range(1, kills + 1):
        while done() < total * kill / (kills + 1):
            time.sleep(0.05)
        server.kill()
        server.start()
    for thread in threads:
        thread.join()


def _check(data: str, sent: dict[str, bytes]) -> dict[str, int]:
    """Masks that SQL does not find, finds more than once, or finds with other pixels."""
    rows = connect(data).execute("SELECT mask_id, rle FROM annotation_revisions").fetchall()
    found = dict(rows)
    size = [48, 64]
    same = [
        np.array_equal(coco.decode({"size": size, "counts": rle}), coco.decode({"size": size, "counts": found[mask]}))
        for mask, rle in sent.items()
        if mask in found
    ]
    return {"lost": len(sent.keys() - found.keys()), "doubled": len(rows) - len(found), "differing": same.count(False)}


if __name__ == "__main__":
    main()

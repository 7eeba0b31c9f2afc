"""What every step did, written down beside the checkpoints: as JSON, and for TensorBoard.

One file per checkpoint, written before it under the number of its last step, so that a step which is repeated after a
kill is not there twice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from schemas.layout import training_events_key, training_metrics_key
from workflows.scratch import scratch_folder
from workflows.storage import Store


@dataclass(frozen=True, slots=True)
class StepMetrics:
    """What one step did, over all workers. `values`: means by name, such as the fields of StepLosses.

    utilisation: share of the machines' FLOP rate that the step reached; 0 where it was not measured. left_out: by their
    places, the pictures that could not be read for this step, each with the reason; others stood in for them.
    """

    step: int
    values: Mapping[str, float]
    masks: int
    learning_rate: float
    gradient_norm: float
    seconds: float
    utilisation: float = 0.0
    left_out: Mapping[str, str] = field(default_factory=dict)


def save_metrics(store: Store, run_id: str, rows: Sequence[StepMetrics]) -> None:
    """Write what the steps since the last checkpoint did, as JSON and for TensorBoard."""
    if rows:
        last = rows[-1].step
        store.put(training_metrics_key(run_id, last), json.dumps([asdict(row) for row in rows]).encode())
        store.put(training_events_key(run_id, last), _events(rows))


def read_metrics(store: Store, run_id: str) -> list[StepMetrics]:
    """Every step's metrics, in order; of a step written twice the later file counts."""
    folder = training_metrics_key(run_id, 0).rpartition("/")[0]
    rows = {row["step"]: StepMetrics(**row) for entry in store.list(folder) for row in json.loads(store.get(entry.key))}
    return [rows[step] for step in sorted(rows)]


def _events(rows: Sequence[StepMetrics]) -> bytes:
    from tensorboardX import SummaryWriter

    with scratch_folder() as folder:
        with SummaryWriter(str(folder)) as writer:
            for row in rows:
                plain = asdict(row) | {"left_out": len(row.left_out)}
                others = {name: plain[name] for name in plain.keys() - {"values", "step"}}
                for name, value in {**row.values, **others}.items():
                    writer.add_scalar(f"train/{name}", value, row.step)
        (file,) = folder.iterdir()
        return file.read_bytes()

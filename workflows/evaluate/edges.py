"""Task `edges`: zero-shot edges of BSDS500 against what people drew (paper §7.2, §D.2), or people against people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sam_core.edge_maps import edge_map
from sam_core.metrics.edges import EdgeCounts, count_edges, edge_figures
from sam_core.recipes import edges
from schemas.evaluation import EDGE_ROWS
from workflows.evaluate.commands import EdgesConfig
from workflows.evaluate.paper import EDGES, HUMAN_F
from workflows.evaluate.sampling import draw_from_all
from workflows.evaluate.task import PAPER, Bench, Figure, by_set, published
from workflows.evaluate.truth import open_set, read_boundaries, read_image

HUMANS = "people"
_COUNTS = ("matched_predicted", "predicted", "matched_true", "true")


@dataclass(frozen=True, slots=True)
class Edges:
    """Boundaries of a model, or of each person, against those of everybody (else)."""

    config: EdgesConfig

    schema = EDGE_ROWS

    @property
    def needs_model(self) -> bool:
        return not self.config.humans

    @property
    def thresholds(self) -> NDArray[np.float64]:
        """Where the curve is measured: evenly in between 0 and 1; one for people, who draw lines or none."""
        count = 1 if self.config.humans else self.config.thresholds
        return np.arange(1, count + 1) / (count + 1)

    def plan(self) -> pa.Table:
        config = self.config
        sets = [open_set(place, split=config.split) for place in config.data]
        for truth in sets:
            if not all(str(uri).endswith(".mat") for uri in truth.rows["truth_uri"].to_pylist()):
                raise ValueError(f"{truth.place}: edges are measured on BSDS500, a folder with ground_truth/*/*.mat")
        return draw_from_all(sets, seed=config.seed, limit=config.limit)

    def measure(self, row: Mapping[str, Any], bench: Bench) -> list[dict[str, Any]]:
        people = read_boundaries(row, bench.reader)
        if self.config.humans:
            return [
                entry
                for number, person in enumerate(people)
                if len(people) > 1
                for entry in self._rows(row, person.astype(np.float32), people[:number] + people[number + 1 :], number)
            ]
        image = read_image(row, bench.reader, max_pixels=bench.max_pixels)
        recipe = replace(edges(), points_per_side=self.config.points_per_side, nms_iou=self.config.nms_iou)
        return self._rows(row, edge_map(bench.model, image, recipe), people, None)

    def figures(self, rows: pa.Table, plan: pa.Table) -> list[Figure]:
        measured = [
            Figure(f"{HUMANS}, {name}" if self.config.humans else name, label, value, "fraction")
            for name, part in by_set(rows).items()
            for label, value in self._figures(part).items()
        ]
        people = Figure(f"{HUMANS}, BSDS500 test (Arbelaez et al. 2011)", "F", HUMAN_F, "fraction", origin=PAPER)
        return [*measured, *([people] if self.config.humans else published(EDGES, unit="fraction"))]

    def _figures(self, rows: pa.Table) -> dict[str, float]:
        counts = _counts(rows, len(self.thresholds))
        found = edge_figures(counts, self.thresholds)
        if not self.config.humans:
            return {"ODS": found.ods, "OIS": found.ois, "AP": found.ap, "R50": found.r50, "threshold": found.threshold}
        total = sum(counts[1:], counts[0])
        return {"F": found.ods, "precision": float(total.precision[0]), "recall": float(total.recall[0])}

    def _rows(
        self,
        row: Mapping[str, Any],
        found: NDArray[np.float32],
        people: list[NDArray[np.bool_]],
        person: int | None,
    ) -> list[dict[str, Any]]:
        counts = count_edges(found, people, self.thresholds)
        columns = {name: getattr(counts, name).tolist() for name in _COUNTS}
        return [
            {"set": row["set"], "name": row["name"], "person": person, "threshold": float(threshold)}
            | {name: column[place] for name, column in columns.items()}
            for place, threshold in enumerate(self.thresholds)
        ]


def _counts(rows: pa.Table, thresholds: int) -> list[EdgeCounts]:
    """The counts of each image (and person), whose thresholds stand in adjacent rows."""
    columns = [rows[name].to_numpy().reshape(-1, thresholds) for name in _COUNTS]
    return [EdgeCounts(*each) for each in zip(*columns, strict=True)]

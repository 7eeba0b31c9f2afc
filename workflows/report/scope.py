"""Which runs a report is about, what they are called in it, and how they differ."""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import duckdb

from workflows.report.queries import rows

_SQL = """\
SELECT
    summary.*,
    runs.name, runs.round, runs.seed, runs.dtype, runs.device, runs.kernels,
    runs.recipe AS recipe_settings, runs.config, runs.versions
FROM summary LEFT JOIN runs USING (run_id)
ORDER BY created_at NULLS FIRST, run_id"""


@dataclass(frozen=True, slots=True)
class Run:
    """One line of the summary, and what the run was made with. What is not known is None.

    `label` is what it is called in charts. `settings` is flat: recipe, model, machine, versions and command, each value
    as text.
    """

    run_id: str
    name: str | None
    label: str
    model: str | None
    recipe: str | None
    images: int
    not_done: int
    masks: int
    masks_per_image: float | None
    mean_predicted_iou: float | None
    mean_stability: float | None
    seconds_per_image: float | None
    created_at: datetime | None
    settings: Mapping[str, str]

    def threshold(self, name: str) -> float | None:
        """A number of the recipe, if it is known and not switched off by 0."""
        text = self.settings.get(name)
        return float(text) if text and _is_number(text) and float(text) else None


def read_runs(connection: duckdb.DuckDBPyConnection, *, run: str | None = None) -> list[Run]:
    """The runs of a data set, the newest last.

    Args:
        run: only this one, by its run_id or by the name it was given (which several may share).

    Raises:
        ValueError: one line: there is no such run.
    """
    found = rows(connection, _SQL)
    chosen = [row for row in found if run is None or run in (row["run_id"], row["name"])]
    if run is not None and not chosen:
        raise ValueError(_no_such_run(run, [name for row in found for name in (row["name"], row["run_id"]) if name]))
    return [_run(row, label) for row, label in zip(chosen, _labels(chosen), strict=True)]


def differing_settings(runs: Sequence[Run]) -> dict[str, list[str]]:
    """The settings in which runs that have them differ, or all of them for a single run: one value per run.

    What only one of several runs has, as `generate` its thresholds beside masks that came otherwise, is no difference.
    """
    names = dict.fromkeys(name for run in runs for name in run.settings)
    stated = {name: {run.settings[name] for run in runs if name in run.settings} for name in names}
    shown = (name for name in names if len(runs) == 1 or len(stated[name]) > 1)
    return {name: [run.settings.get(name, "–") for run in runs] for name in shown}


def _run(row: Mapping[str, Any], label: str) -> Run:
    return Run(
        run_id=row["run_id"],
        name=row["name"],
        label=label,
        model=row["model"],
        recipe=row["recipe"],
        images=row["images"],
        not_done=row["errors"] + row["crashed"] + row["skipped"],
        masks=row["masks"],
        masks_per_image=row["masks_per_image"],
        mean_predicted_iou=row["mean_predicted_iou"],
        mean_stability=row["mean_stability"],
        seconds_per_image=row["seconds_per_image"],
        created_at=row["created_at"],
        settings=_settings(row),
    )


def _settings(row: Mapping[str, Any]) -> dict[str, str]:
    """What a run's record says, flat; of two values of one name the recipe's counts."""
    nested = [json.loads(row[name] or "{}") for name in ("config", "versions", "recipe_settings")]
    own = {name: row[name] for name in ("model_id", "recipe", "round", "seed", "dtype", "device", "kernels")}
    config, versions, recipe = ({key: _text(value) for key, value in group.items()} for group in nested)
    record = {key: _text(value) for key, value in own.items() if value is not None}
    return record | recipe | {key: value for key, value in config.items() if key not in record | recipe} | versions


def _labels(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """A short name of each run that no other run has: its own name, its model and recipe, or its identifier."""
    names = [(row["name"], _made_with(row)) for row in found]
    times = Counter(name for pair in names for name in pair)
    return [
        next((name for name in pair if name and times[name] == 1), row["run_id"])
        for pair, row in zip(names, found, strict=True)
    ]


def _made_with(row: Mapping[str, Any]) -> str | None:
    return f"{row['model']} · {row['recipe']}" if row["model"] else None


def _no_such_run(run: str, known: Sequence[str]) -> str:
    if not known:
        return f"no run {run!r}: the data set has no runs yet"
    near = difflib.get_close_matches(run, known, n=1)
    return f"no run {run!r}: " + (f"did you mean {near[0]!r}?" if near else f"the runs are {', '.join(known)}")


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True

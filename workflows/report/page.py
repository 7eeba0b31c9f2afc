"""The page: everything it shows, gathered from a data set, and the template that shows it."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import duckdb

from schemas.records import DatasetRecord
from workflows.report import queries, text
from workflows.report.figures import Figure, candidate_figure, mask_figures, seconds_figure
from workflows.report.gallery import Picture, pictures
from workflows.report.queries import Failures
from workflows.report.relations import RelationsFigure, relations_figure
from workflows.report.rounds import Rounds, read_rounds
from workflows.report.scope import Run, differing_settings, read_runs
from workflows.report.templates import templates
from workflows.report.training import Training
from workflows.report.work import Work, work

RUNS_CHARTED = 6
RUNS_OVERLAID = 3
FAILURES_LISTED = 200


@dataclass(frozen=True, slots=True)
class Page:
    """What one report shows. `runs` are all that it is about, `charted` the newest of those with masks or images."""

    dataset: DatasetRecord
    place: str
    made_at: datetime
    version: str
    images: int
    runs: Sequence[Run]
    charted: Sequence[Run]
    settings: dict[str, list[str]]
    pictures: Sequence[Picture]
    overlaid: Sequence[Run]
    masks: Sequence[Figure]
    candidates: Figure | None
    seconds: Figure | None
    work: Sequence[Work]
    failures: Failures
    problems: Sequence[tuple[str, int]]
    relations: RelationsFigure | None = None
    training: Training | None = None
    rounds: Rounds | None = None

    @property
    def tiles(self) -> list[tuple[str, str]]:
        """The figures at the top: what, and how much. Means are over all finished images."""
        finished = sum(run.images for run in self.runs)
        masks = sum(run.masks for run in self.runs)
        seconds = sum((run.seconds_per_image or 0) * run.images for run in self.runs)
        return [
            ("images", text.count(self.images)),
            ("masks", text.count(masks)),
            ("masks per image", text.figures(masks / finished if finished else None)),
            ("seconds per image", text.figures(seconds / finished if finished else None)),
            ("not done", text.count(self.failures.total)),
        ]


def gather(
    connection: duckdb.DuckDBPyConnection,
    dataset: DatasetRecord,
    place: str,
    *,
    run: str | None,
    images: int,
) -> Page:
    """Ask the data set everything that its page shows. Raises ValueError (one line) when there is no such run."""
    runs = read_runs(connection, run=run)
    charted = [run for run in runs if run.images][-RUNS_CHARTED:]
    overlaid = charted[-RUNS_OVERLAID:]
    return Page(
        dataset=dataset,
        place=place,
        made_at=datetime.now(UTC),
        version=importlib.metadata.version("sam-data-engine"),
        images=queries.image_count(connection),
        runs=runs,
        charted=charted,
        settings=differing_settings(charted),
        pictures=pictures(connection, overlaid, images=images),
        overlaid=overlaid,
        masks=mask_figures(connection, charted) if any(run.masks for run in charted) else (),
        candidates=candidate_figure(connection, charted) if charted else None,
        seconds=seconds_figure(connection, charted) if charted else None,
        work=work(connection),
        failures=queries.failures(connection, [run.run_id for run in runs], limit=FAILURES_LISTED),
        problems=queries.problems(connection),
        relations=relations_figure(connection, charted),
        rounds=read_rounds(connection, runs),
    )


def render(page: Page) -> str:
    """The page as one HTML document that loads nothing from elsewhere. Every value in it is escaped."""
    return templates().get_template("report.html").render(page=page)

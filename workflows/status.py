"""How far the runs of a data set have got: listings and a bounded number of files say it, from any machine."""

from __future__ import annotations

import json
import shlex
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

from schemas.layout import IN_FLIGHT_PREFIX, RUNS_PREFIX, outcomes_key, parse_run_key
from schemas.records import RunRecord, from_json
from schemas.tables import OUTCOMES, Status
from workflows.commands import StatusConfig
from workflows.plans import finished_shards, planned_shards
from workflows.progress import duration, most_at_once, plural, seconds_covered
from workflows.storage import Store, open_store
from workflows.stored_tables import get_table

SHARDS_READ = 64
_READERS = 16
_RUNS_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class RunStatus:
    """One run. Counts of images and shards are of the whole run, from listings; what `read` images say is of the last
    finished shards alone, which are all of them while there are at most SHARDS_READ.

    rate      images per second while any process of the shards read was at work, so that a night between two commands
              does not count; 0 if unknown
    idle      seconds since the last of them ended; None when none did
    workers   processes that were at work at once, at most, in the shards read
    """

    run_id: str
    model: str
    recipe: str
    created_at: datetime
    images: int
    images_done: int
    shards: int
    shards_done: int
    shards_in_work: int
    read: int
    masks: int
    errors: dict[str, int]
    crashed: int
    rate: float
    idle: float | None
    workers: int
    hosts: tuple[str, ...]

    @property
    def seconds_left(self) -> float | None:
        """At the rate of the shards read; None while that is unknown."""
        return (self.images - self.images_done) / self.rate if self.rate else None

    @property
    def finished(self) -> bool:
        """Not so while its images are being listed and no shard is planned."""
        return self.shards > 0 and self.images_done == self.images


def status(config: StatusConfig) -> int:
    """The subcommand. Raises ValueError when there is no data set."""
    store = open_store(config.dataset)
    while True:
        found = run_statuses(store)
        if not found:
            begin = f"sam-engine generate SOURCE {shlex.quote(store.root)}"
            raise ValueError(f"{store.root}: no runs here; `{begin}` begins one")
        print(
            json.dumps([_plain(run) for run in found]) if config.json else "\n".join(map(in_words, found)), flush=True
        )
        if not config.watch or all(run.finished for run in found):
            return 0
        time.sleep(config.watch)


def run_statuses(store: Store) -> list[RunStatus]:
    """All runs of a data set, the oldest first; several are asked for side by side, as in an object store each takes a
    few requests."""
    keys = [entry.key for entry in store.list(RUNS_PREFIX) if parse_run_key(entry.key)]

    def read(key: str) -> RunRecord:
        return from_json(RunRecord, store.get(key), where=f"{store.root}/{key}")

    with ThreadPoolExecutor(_RUNS_AT_ONCE) as several:
        records = sorted(several.map(read, keys), key=lambda record: record.created_at)
        return list(several.map(lambda record: run_status(store, record), records))


def run_status(store: Store, run: RunRecord) -> RunStatus:
    """Lists the run's outcomes, reads its plan's column of shard numbers and the last SHARDS_READ outcomes.

    A run of the rounds has no plan: its one shard is all of it.
    """
    sizes = planned_shards(store, run.run_id)
    done = sorted(finished_shards(store, run.run_id))
    rows = _read(store, run.run_id, done[-SHARDS_READ:])
    sizes = sizes or dict(Counter(rows["shard"].to_pylist()))
    failed = rows.filter(pc.not_equal(rows["status"], Status.OK))
    end = pc.max(rows["finished_at"]).as_py()
    processes = rows.group_by(["host", "worker"]).aggregate([("started_at", "min"), ("finished_at", "max")])
    lives = [*zip(processes["started_at_min"].to_pylist(), processes["finished_at_max"].to_pylist(), strict=True)]
    seconds = seconds_covered(lives)
    return RunStatus(
        run_id=run.run_id,
        model=run.model_name,
        recipe=run.recipe_name,
        created_at=run.created_at,
        images=sum(sizes.values()),
        images_done=sum(sizes.get(shard, 0) for shard in done),
        shards=len(sizes),
        shards_done=len(done),
        shards_in_work=sum(1 for _ in store.list(f"{IN_FLIGHT_PREFIX}run={run.run_id}")),
        read=len(rows),
        masks=pc.sum(rows["n_masks"]).as_py() or 0,
        errors=dict(Counter(failed["error_class"].to_pylist()).most_common()),
        crashed=pc.sum(pc.equal(rows["status"], Status.CRASHED)).as_py() or 0,
        rate=len(rows) / seconds if seconds else 0.0,
        idle=(datetime.now(UTC).replace(tzinfo=None) - end).total_seconds() if end else None,
        workers=most_at_once(lives),
        hosts=tuple(sorted(rows["host"].unique().to_pylist())),
    )


def in_words(run: RunStatus) -> str:
    """A few lines for people."""
    head = f"run {run.run_id}: {run.model}, {run.recipe}, begun {run.created_at:%Y-%m-%d %H:%M} UTC"
    if not run.shards:
        return f"{head}\n  no shard is planned yet; the same command goes on where it was stopped meanwhile"
    lines = [
        head,
        f"  {run.images_done:,} of {run.images:,} images, {run.shards_done:,} of {run.shards:,} shards"
        + ("; finished" if run.finished else f"; {run.shards_in_work:,} in work"),
    ]
    if run.read:
        where = "all of them" if run.read == run.images_done else f"the last {plural(run.read, 'image')}"
        kinds = ", ".join(f"{name} {count:,}" for name, count in run.errors.items())
        errors = f"{plural(sum(run.errors.values()), 'error')}{f' ({kinds})' if kinds else ''}"
        killers = f"{plural(run.crashed, 'killer')} quarantined"
        lines.append(f"  in {where}: {plural(run.masks, 'mask')}, {errors}, {killers}")
    if run.idle is not None:
        at_work = f"{plural(run.workers, 'worker')} on {plural(len(run.hosts), 'host')}"
        pace = f"{run.rate:.3g} images/s by {at_work}" if run.rate else ""
        if run.seconds_left is not None and not run.finished:
            pace += f", {duration(run.seconds_left)} left at this rate"
        lines.append(f"  {pace}{'; ' if pace else ''}the last shard ended {duration(run.idle)} ago")
    return "\n".join(lines)


def _read(store: Store, run_id: str, shards: Sequence[int]) -> pa.Table:
    with ThreadPoolExecutor(_READERS) as readers:
        files = readers.map(lambda shard: get_table(store, outcomes_key(run_id, shard)), shards)
        return pa.concat_tables([OUTCOMES.empty_table(), *files])


def _plain(run: RunStatus) -> dict[str, object]:
    return asdict(run) | {"created_at": run.created_at.isoformat(), "seconds_left": run.seconds_left}

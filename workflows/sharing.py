"""One run, worked on by several commands at once, on machines that know nothing of each other but the data set.

Nobody hands shards out. Each command goes through the plan in order until it meets a shard that another one has done
meanwhile; it then leaves out all that is done and goes on at a random place. Two commands that begin in the same moment
thus part after their first shards, and each later meeting splits what is left once more. One that finds others at work
begins at a random place.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Iterator

from schemas.layout import IN_FLIGHT_PREFIX, in_flight_key
from workflows.plans import ShardTask, finished_shards
from workflows.storage import Store


class Remaining:
    """The shards that are not handed out yet, each once.

    Args:
        store, run_id: where the run is, whose outcomes and markers of shards in flight are listed.
        tasks: shards of its plan, in order.
        dice: random numbers; other ones in every command.
    """

    def __init__(
        self, store: Store, run_id: str, tasks: Iterable[ShardTask], *, dice: random.Random | None = None
    ) -> None:
        self._store, self._run_id = store, run_id
        self._tasks = deque(tasks)
        self._out: set[int] = set()
        self._dice = dice or random.Random()
        if next(iter(store.list(f"{IN_FLIGHT_PREFIX}run={run_id}")), None):
            self._go_elsewhere()

    def __iter__(self) -> Iterator[ShardTask]:
        while self._tasks:
            task = self._tasks.popleft()
            self._out.add(task.shard)
            yield task

    def came_back(self, shard: int) -> None:
        """Note that a shard which was handed out is done."""
        self._out.discard(shard)

    def give_back(self) -> None:
        """Remove the markers of shards that are handed out and not done, as if nobody had begun them."""
        for shard in self._out:
            self._store.delete(in_flight_key(self._run_id, shard))

    def part_ways(self) -> list[ShardTask]:
        """After a shard that another command has done: go on elsewhere, without what is done, which is returned."""
        finished = finished_shards(self._store, self._run_id)
        done = [task for task in self._tasks if task.shard in finished]
        self._tasks = deque(task for task in self._tasks if task.shard not in finished)
        self._go_elsewhere()
        return done

    def _go_elsewhere(self) -> None:
        if self._tasks:
            self._tasks.rotate(-self._dice.randrange(len(self._tasks)))

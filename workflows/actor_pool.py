"""A pool of actors for rows of work, any of which may die at any time: what is lost is done again by somebody else."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError, RayTaskError

from workflows.failures import WorkerError, last_line

ROW_RETRIES = 4
"""How often a row may take its actor down with it; then the work is given up."""
STARTS = 3
"""Actors that may die as they start, one after the other; then the work is given up."""
MACHINE_LOSSES = 5
"""How often a row's actor may be lost with a machine to count as once: many machines may be taken away together, but a
row may also take its machine down. Actors that are lost so as they start do not count: there may be many on one."""
MACHINES = 20
"""Machines that may go while no actor comes to its start; then the work is given up, as a model may take them down."""
SILENCE = 60.0
"""Seconds without any actor at work after which people are told what is waited for."""

Row = dict[str, Any]


@dataclass(slots=True)
class _Task:
    """A row and how often it has been lost: MACHINE_LOSSES for an actor alone, 1 for one that went with its machine."""

    row: Row
    lost: int = 0


class _Waiting:
    """Rows that nobody works on: lost ones first, then new ones, each taken from the source when its turn comes."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._new = map(_Task, rows)
        self._next = deque[_Task]()

    def __bool__(self) -> bool:
        if not self._next:
            self._next.extend(islice(self._new, 1))
        return bool(self._next)

    def take(self) -> _Task:
        """The next one; there is one where this is true."""
        return self._next.popleft()

    def put_back(self, task: _Task) -> None:
        """As the next one."""
        self._next.appendleft(task)


class _Machines:
    """Those that the cluster has lost. It is asked at first, and then only where an actor was lost."""

    def __init__(self) -> None:
        self._gone: set[str] = set()

    @property
    def lost(self) -> int:
        """How many are known by now."""
        return len(self._gone)

    def look(self) -> None:
        self._gone |= {node["NodeID"] for node in ray.nodes() if not node["Alive"]}


@dataclass(frozen=True, slots=True)
class _Begun:
    """An actor that starts, or works on a row, and how many machines were lost when it began."""

    actor: ActorHandle[Any]
    lost_machines: int


class ActorPool:
    """Rows go to actors that have started, one row to each at a time; an actor that dies is replaced, wherever there is
    room, and its row is the next to be handed out."""

    def __init__(self, start: Callable[[], ActorHandle[Any]], size: int) -> None:
        self._start = start
        self._machines = _Machines()
        self._starting: dict[ray.ObjectRef[Any], _Begun] = {}
        self._idle: list[ActorHandle[Any]] = []
        self._working: dict[ray.ObjectRef[Any], tuple[_Begun, _Task]] = {}
        self._deaths = 0
        self._lost_until_a_start = 0
        if size:
            self._machines.look()
            self._lost_until_a_start = self._machines.lost
        for _ in range(size):
            self._replace()

    def map(self, rows: Iterable[Row]) -> Iterator[Any]:
        """What the actors answer, in the order in which answers come. Actors still at work at the end are killed.
        Rows may come from anywhere, and be more than fit into memory.

        Raises WorkerError when actors do not start, or a row has taken several with it.
        """
        waiting = _Waiting(rows)
        try:
            while waiting or self._working:
                self._hand_out(waiting)
                done = self._next_done()
                if done in self._starting:
                    self._started(done)
                else:
                    yield from self._answers(done, waiting)
        finally:
            for begun in [*self._starting.values(), *(begun for begun, _ in self._working.values())]:
                ray.kill(begun.actor)

    def _replace(self) -> None:
        actor = self._start()
        self._starting[actor.__ray_ready__.remote()] = _Begun(actor, self._machines.lost)

    def _hand_out(self, waiting: _Waiting) -> None:
        while self._idle and waiting:
            actor, task = self._idle.pop(), waiting.take()
            self._working[actor.__call__.remote(task.row)] = (_Begun(actor, self._machines.lost), task)

    def _next_done(self) -> ray.ObjectRef[Any]:
        """Waits for a row or the start of an actor to end; says so where no actor is ready for a while. Raises
        WorkerError where none will be, as no machine is left."""
        everything = [*self._working, *self._starting]
        done, _ = ray.wait(everything, num_returns=1, timeout=None if self._working else SILENCE)
        if not done:
            why = "the cluster has no room for one, or its model takes long to load"
            print(f"no worker is ready after {SILENCE:.0f} s: {why}", file=sys.stderr)
        while not done:
            _require_a_machine()
            done, _ = ray.wait(everything, num_returns=1, timeout=SILENCE)
        return done[0]

    def _started(self, ready: ray.ObjectRef[Any]) -> None:
        begun = self._starting.pop(ready)
        try:
            ray.get(ready)
        except RayError as error:
            self._deaths += not self._went_with_a_machine(begun)
            if self._deaths > STARTS or self._machines.lost - self._lost_until_a_start > MACHINES:
                raise given_up(error) from error
            self._replace()
        else:
            self._deaths, self._lost_until_a_start = 0, self._machines.lost
            self._idle.append(begun.actor)

    def _answers(self, done: ray.ObjectRef[Any], waiting: _Waiting) -> Iterator[Any]:
        """The answer, after its actor has got the next row; nothing if the actor is dead, which is replaced."""
        begun, task = self._working.pop(done)
        try:
            answer = ray.get(done)
        except RayTaskError as error:
            raise given_up(error) from error
        except RayError as error:
            task.lost += 1 if self._went_with_a_machine(begun) else MACHINE_LOSSES
            if task.lost > ROW_RETRIES * MACHINE_LOSSES:
                raise given_up(error) from error
            ray.kill(begun.actor)  # one that cannot be reached may still be there
            waiting.put_back(task)
            self._replace()
        else:
            self._idle.append(begun.actor)
            self._hand_out(waiting)
            yield answer

    def _went_with_a_machine(self, begun: _Begun) -> bool:
        """Whether a machine has been lost, too, since it began."""
        self._machines.look()
        return self._machines.lost > begun.lost_machines


def _require_a_machine() -> None:
    """Raises WorkerError where Ray's own process of this machine is dead, and no other machine is there."""
    if not any(node["Alive"] for node in ray.nodes()):
        raise WorkerError("the work was given up: no machine of the Ray cluster is alive")


def given_up(error: RayError) -> WorkerError:
    """What is raised where Ray itself, and not the work, failed for good."""
    return WorkerError(f"the work was given up: {last_line(error)}")

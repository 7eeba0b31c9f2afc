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
"""Actors that may die as they start, one after the other; then the work is given up. Those that a lost machine may have
taken with it do not count: there may be many on one."""
SILENCE = 60.0
"""Seconds without any actor at work after which people are told what is waited for."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Start:
    """An actor that was asked for, and the machines that were there then."""

    actor: ActorHandle[Any]
    machines: frozenset[str]


@dataclass(slots=True)
class _Task:
    """A row and how often it has been lost with an actor."""

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


class ActorPool:
    """Rows go to actors that have started, one row to each at a time; an actor that dies is replaced, wherever there is
    room, and its row is the next to be handed out."""

    def __init__(self, start: Callable[[], ActorHandle[Any]], size: int) -> None:
        self._start = start
        self._starting: dict[ray.ObjectRef[Any], _Start] = {}
        self._idle: list[ActorHandle[Any]] = []
        self._working: dict[ray.ObjectRef[Any], tuple[ActorHandle[Any], _Task]] = {}
        self._deaths = 0
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
            starting = (start.actor for start in self._starting.values())
            for actor in [*starting, *(actor for actor, _ in self._working.values())]:
                ray.kill(actor)

    def _replace(self) -> None:
        actor = self._start()
        self._starting[actor.__ray_ready__.remote()] = _Start(actor, _machines())

    def _hand_out(self, waiting: _Waiting) -> None:
        while self._idle and waiting:
            actor, task = self._idle.pop(), waiting.take()
            self._working[actor.__call__.remote(task.row)] = (actor, task)

    def _next_done(self) -> ray.ObjectRef[Any]:
        """Waits for a row or the start of an actor to end; says so where no actor is ready for a while."""
        everything = [*self._working, *self._starting]
        done, _ = ray.wait(everything, num_returns=1, timeout=None if self._working else SILENCE)
        if not done:
            why = "the cluster has no room for one, or its model takes long to load"
            print(f"no worker is ready after {SILENCE:.0f} s: {why}", file=sys.stderr)
            done, _ = ray.wait(everything, num_returns=1)
        return done[0]

    def _started(self, ready: ray.ObjectRef[Any]) -> None:
        start = self._starting.pop(ready)
        try:
            ray.get(ready)
        except RayError as error:
            self._deaths += start.machines <= _machines()
            if self._deaths > STARTS:
                raise given_up(error) from error
            self._replace()
        else:
            self._deaths = 0
            self._idle.append(start.actor)

    def _answers(self, done: ray.ObjectRef[Any], waiting: _Waiting) -> Iterator[Any]:
        """The answer, after its actor has got the next row; nothing if the actor is dead, which is replaced."""
        actor, task = self._working.pop(done)
        try:
            answer = ray.get(done)
        except RayTaskError as error:
            raise given_up(error) from error
        except RayError as error:
            task.lost += 1
            if task.lost > ROW_RETRIES:
                raise given_up(error) from error
            ray.kill(actor)  # one that cannot be reached may still be there
            waiting.put_back(task)
            self._replace()
        else:
            self._idle.append(actor)
            self._hand_out(waiting)
            yield answer


def _machines() -> frozenset[str]:
    """The machines of the cluster that are alive."""
    return frozenset(node["NodeID"] for node in ray.nodes() if node["Alive"])


def given_up(error: RayError) -> WorkerError:
    """What is raised where Ray itself, and not the work, failed for good."""
    return WorkerError(f"the work was given up: {last_line(error)}")

"""Work begun before its results are asked for; knows nothing of torch, which takes a second to import."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def begun(
    executor: Executor, work: Callable[[Item], Result], items: Iterable[Item], window: int
) -> Iterator[Future[Result]]:
    """The work on each item, in order; at most `window` are begun or waiting if each is waited for in turn."""
    waiting: deque[Future[Result]] = deque()
    for item in items:
        waiting.append(executor.submit(work, item))
        if len(waiting) >= window:
            yield waiting.popleft()
    while waiting:
        yield waiting.popleft()


def ahead(executor: Executor, work: Callable[[Item], Result], items: Iterable[Item], window: int) -> Iterator[Result]:
    """`map` in the executor, in order, with at most `window` items begun or waiting."""
    for future in begun(executor, work, items, window):
        yield future.result()

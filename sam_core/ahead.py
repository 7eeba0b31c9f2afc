"""Work begun before its results are asked for; knows nothing of torch, which takes a second to import."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def early(items: Iterable[Item], count: int) -> Iterator[Item]:
    """The items in order; `count` more are asked for before one is given."""
    waiting: deque[Item] = deque()
    for item in items:
        waiting.append(item)
        if len(waiting) > count:
            yield waiting.popleft()
    yield from waiting


def begun(
    executor: Executor, work: Callable[[Item], Result], items: Iterable[Item], window: int
) -> Iterator[Future[Result]]:
    """The work on each item, in order; at most `window` are begun or waiting if each is waited for in turn."""
    return early((executor.submit(work, item) for item in items), window - 1)


def ahead(executor: Executor, work: Callable[[Item], Result], items: Iterable[Item], window: int) -> Iterator[Result]:
    """`map` in the executor, in order, with at most `window` items begun or waiting."""
    for future in begun(executor, work, items, window):
        yield future.result()

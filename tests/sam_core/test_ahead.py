"""Order and look-ahead of work that is begun early."""

import threading
from concurrent.futures import ThreadPoolExecutor

from sam_core.ahead import ahead, early


def test_ahead_keeps_order_and_stays_within_its_window() -> None:
    begun: list[int] = []
    lock = threading.Lock()

    def work(item: int) -> int:
        with lock:
            begun.append(item)
        return item * item

    with ThreadPoolExecutor(3) as executor:
        stream = ahead(executor, work, iter(range(20)), window=3)
        assert next(stream) == 0
        assert max(begun) <= 3
        assert list(stream) == [n * n for n in range(1, 20)]


def test_early_asks_for_more_than_it_gives_and_gives_all() -> None:
    asked: list[int] = []
    stream = early((asked.append(item) or item for item in range(4)), count=2)
    assert next(stream) == 0
    assert asked == [0, 1, 2]
    assert list(stream) == [1, 2, 3]
    assert list(early(iter([7]), count=2)) == [7]

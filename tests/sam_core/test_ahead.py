"""Order and look-ahead of work that is begun early."""

import threading
from concurrent.futures import ThreadPoolExecutor

from sam_core.ahead import ahead


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

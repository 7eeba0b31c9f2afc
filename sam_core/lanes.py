"""Work side by side on a CPU, with arithmetic that depends neither on how many cores take part nor on what ran before.

A matrix product split over two threads is rounded differently from one that is not. So a lane is one thread that keeps
all of torch's arithmetic to itself, and more cores mean more lanes. A GPU has one lane: the thread that asks.
"""

import ctypes
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

import torch

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4
"""Names of glibc's malloc.h; 32 MB is the largest threshold that it takes."""
_LARGEST_INT = (1 << 31) - 1

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def open_lanes(device: torch.device, count: int) -> Executor:
    """Lanes for work on a device, for use in a `with` statement: `count` of them on a CPU, one elsewhere."""
    if device.type != "cpu":
        return _Here()
    return ThreadPoolExecutor(count, thread_name_prefix="lane", initializer=torch.set_num_threads, initargs=(1,))


def keep_freed_memory(*, any_size: bool = False) -> None:
    """Have this process keep the memory that it frees, up to a gigabyte, where the C library is glibc.

    It would give blocks of a few megabytes back to the system, which clears them before they are used again: every
    step of a model would pay for that, a tenth of all its time on a CPU.

    any_size: also blocks above 32 MB, up to two gigabytes; for training, whose steps all need the same ones.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return
    mallopt(_M_MMAP_THRESHOLD, 32 << 20)
    mallopt(_M_TRIM_THRESHOLD, _LARGEST_INT if any_size else 1 << 30)
    if any_size:
        mallopt(_M_MMAP_MAX, 0)


class _Here(Executor):
    """Does everything at once in the calling thread."""

    def submit(
        self, work: Callable[Arguments, Result], /, *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Future[Result]:
        done: Future[Result] = Future()
        try:
            done.set_result(work(*args, **kwargs))
        except Exception as error:
            done.set_exception(error)
        return done

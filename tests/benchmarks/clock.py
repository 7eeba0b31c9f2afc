"""Seconds that can be compared: of CPU time on a CPU, where other jobs do not count, and synchronised on a GPU."""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch

Clock = Callable[[], float]
_wall = time.perf_counter  # kept, as benchmarks put other clocks in its place


def clock_of(device: str) -> Clock:
    """The clock for work on this device."""
    return cpu_time if torch.device(device).type == "cpu" else synchronised


def cpu_time() -> float:
    """CPU seconds of this process, all threads, and of its ended children; in a side thread, those of that thread.

    So steps timed in several threads at once are not counted twice.
    """
    if threading.current_thread() is not threading.main_thread():
        return time.thread_time()
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def synchronised() -> float:
    """Wall-clock seconds when the GPU has done all that it was given."""
    torch.cuda.synchronize()
    return _wall()


def peak_bytes(device: str) -> int:
    """The most memory this process has ever held: resident on a CPU (VmHWM), allocated by torch on a GPU."""
    if torch.device(device).type != "cpu":
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status")
    if status.exists():
        lines = status.read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes, where there is no /proc

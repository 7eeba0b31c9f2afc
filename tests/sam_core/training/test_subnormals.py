"""Numbers next to zero: a thread that was told so takes them for zero, its helpers too, and no other thread does."""

from concurrent.futures import ThreadPoolExecutor

import torch

from sam_core.training.subnormals import zero_subnormals

TINY = 1e-40


def taken_for_zero() -> tuple[bool, bool]:
    """Whether any of a million tiny numbers survives a multiplication, and whether any does not: helpers share it."""
    left = torch.full((1 << 20,), TINY) * 1.0
    return bool((left == 0).any()), bool((left != 0).any())


def told() -> tuple[bool, bool]:
    zero_subnormals()
    return taken_for_zero()


def test_thread_and_helpers_take_them_for_zero() -> None:
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(told).result() == (True, False)
    assert taken_for_zero() == (False, True)


def test_ordinary_numbers_keep_every_bit() -> None:
    numbers = torch.randn(300, 300, generator=torch.Generator().manual_seed(0))
    with ThreadPoolExecutor(1) as thread:
        thread.submit(zero_subnormals).result()
        within = thread.submit(lambda: numbers @ numbers).result()
    assert torch.equal(within, numbers @ numbers)

"""How the loops of this package become machine code that runs without the GIL.

Numba caches an entry with all it calls, and looks only at the entry's own file for changes: so each file has what its
entries call. When `eights`, `tile_products` or `vector_math` change, which others call, `make setup` removes the caches
(`*.nbi`, `*.nbc`).
"""

import warnings
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

_F = TypeVar("_F", bound=Callable[..., Any])
_REORDERED = {"reassoc", "nsz", "contract", "arcp"}


def inner(function: _F) -> _F:
    """Machine code, for use by other compiled functions of the same file only; that saves half of the compilation."""
    jit = numba.njit(nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
    return cast(_F, jit(function))


def cached(**options: Any) -> Callable[[_F], _F]:
    """Machine code with all it calls, made on first use and cached on disk: beside its file, else in the user's cache.

    Where neither can be written, as for a user without a home, each process makes its own, and says so once.
    """

    def compiled(function: _F) -> _F:
        try:
            return cast(_F, numba.njit(nogil=True, cache=True, **options)(function))
        except RuntimeError:  # what numba raises where it finds no place for a cache
            warnings.warn(_NO_PLACE, stacklevel=1)
            return cast(_F, numba.njit(nogil=True, **options)(function))

    return compiled


_NO_PLACE = (
    "machine code cannot be kept: neither the folder of this package nor the user's cache can be written, so each "
    "process compiles for half a minute; name a folder for it by NUMBA_CACHE_DIR"
)

entry = cached(error_model="numpy")
"""As Python computes, but for divisions by zero."""
reordered = cached(error_model="numpy", fastmath=_REORDERED)
"""Sums in any order; NaN and infinity stay what they are."""

"""How the loops of this package become machine code that runs without the GIL.

Numba caches an entry with all it calls, and looks only at the entry's own file for changes: so each file has what its
entries call. Only `eights` is called from elsewhere: when it changes, `make setup` removes caches (`*.nbi`, `*.nbc`).
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

_F = TypeVar("_F", bound=Callable[..., Any])


def inner(function: _F) -> _F:
    """Machine code, for use by other compiled functions of the same file only; that saves half of the compilation."""
    jit = numba.njit(nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
    return cast(_F, jit(function))


def entry(function: _F) -> _F:
    """Machine code with all it calls, made on first use and cached on disk beside its file."""
    return cast(_F, numba.njit(cache=True, nogil=True, error_model="numpy")(function))

"""Kernels in Triton, run by its interpreter: slowly, on a CPU, on ordinary tensors."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

import pytest


def interpreted(name: str) -> ModuleType:
    """A copy of a module whose kernels are interpreted; skips the test where there is no Triton.

    Triton decides when a kernel is defined, so the module proper, whose kernels are compiled, is left as it is.
    """
    pytest.importorskip("triton")
    copy = f"{name}_interpreted"
    if copy not in sys.modules:
        found = importlib.util.find_spec(name)
        assert found is not None
        assert found.origin is not None
        spec = importlib.util.spec_from_file_location(copy, found.origin)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TRITON_INTERPRET", "1")
            sys.modules[copy] = module
            spec.loader.exec_module(module)
    return sys.modules[copy]

"""Instructions on vectors for intrinsics of numba, which it has no names for."""

from typing import Any

from llvmlite import ir
from numba.core import cgutils


def everywhere(builder: Any, value: Any, lanes: int) -> Any:
    """A vector of some lanes that all have the same value."""
    vector, places = ir.VectorType(value.type, lanes), ir.VectorType(ir.IntType(32), lanes)
    nothing = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(nothing, value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, nothing, ir.Constant(places, [0] * lanes))


def fused_multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c, rounded once, of vectors of float32."""
    kind = ir.FunctionType(a.type, [a.type] * 3)
    fma = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{a.type.count}f32")
    return builder.call(fma, [a, b, c])

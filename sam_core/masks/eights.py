"""Eight neighbouring float32 at a time, where a compiler does not see by itself that one instruction does.

Intrinsics for the compiled loops of this package; all work on rows, contiguous arrays [n], from a position on.
"""

from typing import Any

import numba
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

from sam_core.llvm_vectors import everywhere, fused_multiply_add

_FLOAT, _INT = ir.FloatType(), ir.IntType(32)
_FLOATS, _INTS = ir.VectorType(_FLOAT, 8), ir.VectorType(_INT, 8)


@intrinsic  # type: ignore[untyped-decorator]
def blend_near(
    context: Any, target: Any, at: Any, source: Any, base: Any, low: Any, high: Any, low_weight: Any, high_weight: Any
) -> Any:
    """target[i] = fma(source[low[i]], low_weight[i], source[high[i]] * high_weight[i]) for i in at .. at + 8.

    low and high, uint32, point into source[base : base + 8] there, all of which has to exist.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        rows = _Rows(context, builder, signature.args, arguments)
        window, start = rows.floats(2, arguments[3]), _all(builder, builder.trunc(arguments[3], _INT))
        lower, higher = (
            _permuted(context, builder, window, builder.sub(rows.ints(k, arguments[1]), start)) for k in (4, 5)
        )
        weights = rows.floats(6, arguments[1]), rows.floats(7, arguments[1])
        rows.store(0, arguments[1], _blended(builder, lower, higher, *weights))
        return context.get_dummy_value()

    return numba.void(target, at, source, base, low, high, low_weight, high_weight), generate


@intrinsic  # type: ignore[untyped-decorator]
def blended_above(context: Any, low: Any, high: Any, at: Any, low_weight: Any, high_weight: Any, offset: Any) -> Any:
    """Bits of eight values fma(low[i], low_weight, high[i] * high_weight), i in at .. at + 8, the first lowest: uint32.

    Bits 0..7 say which are above 0, 8..15 which above offset, 16..23 which above -offset.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        rows, at = _Rows(context, builder, signature.args, arguments), arguments[2]
        low_weight, high_weight = (_all(builder, weight) for weight in arguments[3:5])
        values = _blended(builder, rows.floats(0, at), rows.floats(1, at), low_weight, high_weight)
        levels = (ir.Constant(_FLOAT, 0.0), arguments[5], builder.fneg(arguments[5]))
        above = (builder.fcmp_ordered(">", values, _all(builder, level)) for level in levels)
        bits = [builder.zext(builder.bitcast(each, ir.IntType(8)), _INT) for each in above]
        shifted = [builder.shl(each, ir.Constant(_INT, 8 * place)) for place, each in enumerate(bits)]
        return builder.or_(shifted[0], builder.or_(shifted[1], shifted[2]))

    return numba.uint32(low, high, at, low_weight, high_weight, offset), generate


@intrinsic  # type: ignore[untyped-decorator]
def bits_set(context: Any, bits: Any) -> Any:
    """How many bits of a uint32 are set: int64."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.zext(builder.ctpop(arguments[0]), ir.IntType(64))

    return numba.int64(numba.uint32), generate


@intrinsic  # type: ignore[untyped-decorator]
def lowest_bit(context: Any, bits: Any) -> Any:
    """Position of the lowest bit that is set in a uint32, which is not 0: int64."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.zext(builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1)), ir.IntType(64))

    return numba.int64(numba.uint32), generate


class _Rows:
    """The arguments of an intrinsic that are arrays."""

    def __init__(self, context: Any, builder: Any, types: Any, arguments: Any) -> None:
        self._context, self._builder, self._types, self._arguments = context, builder, types, arguments

    def floats(self, argument: int, at: Any) -> Any:
        return self._load(argument, at, _FLOATS)

    def ints(self, argument: int, at: Any) -> Any:
        return self._load(argument, at, _INTS)

    def store(self, argument: int, at: Any, values: Any) -> None:
        self._builder.store(values, self._pointer(argument, at, _FLOATS), align=4)

    def _load(self, argument: int, at: Any, vector: Any) -> Any:
        return self._builder.load(self._pointer(argument, at, vector), align=4)

    def _pointer(self, argument: int, at: Any, vector: Any) -> Any:
        make = self._context.make_array(self._types[argument])
        first = make(self._context, self._builder, self._arguments[argument]).data
        return self._builder.bitcast(self._builder.gep(first, [at]), vector.as_pointer())


def _all(builder: Any, value: Any) -> Any:
    """A vector of eight times the same value."""
    return everywhere(builder, value, 8)


def _blended(builder: Any, low: Any, high: Any, low_weight: Any, high_weight: Any) -> Any:
    return fused_multiply_add(builder, low, low_weight, builder.fmul(high, high_weight))


def _permuted(context: Any, builder: Any, values: Any, positions: Any) -> Any:
    """values[positions]: one instruction of AVX2, which LLVM has no general name for; value by value elsewhere."""
    if "+avx2" in context.codegen()._get_host_cpu_features():
        kind = ir.FunctionType(_FLOATS, [_FLOATS, _INTS])
        permute = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx2.permps")
        return builder.call(permute, [values, positions])
    result = ir.Constant(_FLOATS, ir.Undefined)
    for each in (ir.Constant(_INT, i) for i in range(8)):
        value = builder.extract_element(values, builder.extract_element(positions, each))
        result = builder.insert_element(result, value, each)
    return result

"""Eight doubles as one value inside Numba kernels.

A loop over trajectories that the compiler has to prove vectorisable often is not: in-place butterflies read and
write many rows of one array. Here the vector is written down instead, and every operation is one instruction
(two where registers hold four doubles). Each lane is computed alike, multiply-adds fused where the processor can, so
a trajectory has the same bits in whichever lane it sits.
"""

from __future__ import annotations

import operator

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, lower_builtin, models, register_model, type_callable

LANES = 8
_DOUBLES = ir.VectorType(ir.DoubleType(), LANES)
_LANE_NUMBERS = ir.VectorType(ir.IntType(32), LANES)
_ITEM_BYTES = 8


class VectorType(types.Type):
    """Numba's type of eight doubles."""

    def __init__(self):
        super().__init__(name=f"float64x{LANES}")


vector = VectorType()


@register_model(VectorType)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, numba_type):
        super().__init__(manager, numba_type, _DOUBLES)


def aligned_empty(shape: tuple[int, ...]) -> np.ndarray:
    """Uninitialised float64 array that starts on a cache line, so that no vector straddles two."""
    size, line = int(np.prod(shape)), LANES * _ITEM_BYTES
    memory = np.empty(size * _ITEM_BYTES + line, np.uint8)
    start = -memory.ctypes.data % line
    return memory[start : start + size * _ITEM_BYTES].view(np.float64).reshape(shape)


@intrinsic
def pointer(typing_context, array, index):
    """Pointer to element `index` of a flattened C-contiguous array; what is read through it has no bounds.

    Passing arrays on costs reference counts, in inner loops more than the arithmetic. The caller keeps the array.
    """
    if not (isinstance(array, types.Array) and array.layout == "C"):
        return None

    def generate(context, builder, signature, arguments):
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.gep(data, [arguments[1]])

    return types.CPointer(array.dtype)(array, types.intp), generate


_doubles = types.CPointer(types.float64)


def _address(builder, start, index):
    return builder.bitcast(builder.gep(start, [index]), _DOUBLES.as_pointer())


@intrinsic
def load(typing_context, start, index):
    """Elements index ... index + 7 of the doubles at `start`."""

    def generate(context, builder, signature, arguments):
        return builder.load(_address(builder, *arguments), align=_ITEM_BYTES)

    return vector(_doubles, types.intp), generate


@intrinsic
def store(typing_context, start, index, value):
    """Write elements index ... index + 7 of the doubles at `start`."""

    def generate(context, builder, signature, arguments):
        builder.store(arguments[2], _address(builder, *arguments[:2]), align=_ITEM_BYTES)
        return context.get_dummy_value()

    return types.void(_doubles, types.intp, vector), generate


@intrinsic
def splat(typing_context, scalar):
    """The vector whose lanes all hold `scalar`."""

    def generate(context, builder, signature, arguments):
        undefined = ir.Constant(_DOUBLES, ir.Undefined)
        first = builder.insert_element(undefined, arguments[0], ir.Constant(ir.IntType(32), 0))
        return builder.shuffle_vector(first, undefined, ir.Constant(_LANE_NUMBERS, [0] * LANES))

    return vector(types.float64), generate


def _multiply_add(negate_product: bool, negate_summand: bool):
    """Intrinsic of +-a * b +- c, rounded once where the processor can."""

    @intrinsic
    def compute(typing_context, a, b, c):
        def generate(context, builder, signature, arguments):
            x, y, z = arguments
            x, z = (builder.fneg(x) if negate_product else x), (builder.fneg(z) if negate_summand else z)
            kind = ir.FunctionType(_DOUBLES, [_DOUBLES] * 3)
            function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fmuladd.v{LANES}f64")
            return builder.call(function, (x, y, z))

        return vector(vector, vector, vector), generate

    return compute


multiply_add = _multiply_add(False, False)  # a * b + c
multiply_subtract = _multiply_add(False, True)  # a * b - c
subtract_product = _multiply_add(True, False)  # c - a * b


def _define(operation, instruction: str) -> None:
    """Give the Python operator its instruction on two vectors."""

    @type_callable(operation)
    def type_of(context):
        def infer(a, b):
            return vector if isinstance(a, VectorType) and isinstance(b, VectorType) else None

        return infer

    @lower_builtin(operation, VectorType, VectorType)
    def compute(context, builder, signature, arguments):
        return getattr(builder, instruction)(*arguments)


for _operation, _instruction in ((operator.add, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul")):
    _define(_operation, _instruction)

"""The compiler of the kernel (numba). `kernel_texts` and `kernel_graph` are compiled, `kernel_entries` is what `native` calls.

No function allocates memory, raises an error or needs anything of numba while it runs: so its machine code can be loaded later
without numba, which takes half a second to import.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import cfunc, njit, types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array

BASE = np.uint64(0x9E3779B97F4A7C15)  # of the polynomial over the tokens of an n-gram
NOTHING = np.uint32(0xFFFFFFFF)  # minhash.NOTHING


def compiled(function: Callable) -> Callable:
    """Return `function` in machine code that neither counts references nor raises."""
    return njit(error_model="numpy", _nrt=False)(function)


def compile_function(function: Callable) -> tuple[str, bytes]:
    """Return the symbol of a function of one pointer to int64, and an object file with it and all that it calls."""
    entry = cfunc(types.void(types.CPointer(types.int64)), error_model="numpy", _nrt=False)(function)
    _, _, (code, *_) = entry._library.serialize_using_object_code()
    return str(entry.native_name), code


def _vector(context, address, length, kind):
    """Return the array (length,) of type `kind` at `address`."""
    found = types.Array(kind.dtype, 1, "C")
    return found(address, length, kind), _generate(found)


def _matrix(context, address, rows, columns, kind):
    """Return the array (rows, columns) of type `kind` at `address`."""
    found = types.Array(kind.dtype, 2, "C")
    return found(address, rows, columns, kind), _generate(found)


def _generate(found: types.Array) -> Callable:
    """Return what makes code for an array that owns no memory, from its address and its shape."""

    def generate(context, builder, signature, args):
        made, size = make_array(found)(context, builder), context.get_abi_sizeof(context.get_data_type(found.dtype))
        address, *shape, _ = args
        shape = [context.cast(builder, length, kind, types.intp) for length, kind in zip(shape, signature.args[1:], strict=False)]
        steps = [context.get_constant(types.intp, size)]
        for length in reversed(shape[1:]):
            steps.insert(0, builder.mul(steps[0], length))
        data = builder.inttoptr(address, made.data.type)
        populate_array(made, data, shape=shape, strides=steps, itemsize=steps[-1], meminfo=None)
        return made._getvalue()

    return generate


vector: Callable[..., Any] = intrinsic(_vector)
matrix: Callable[..., Any] = intrinsic(_matrix)

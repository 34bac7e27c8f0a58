"""Tensors in compiled code: known by address, as an array of each costs more than a small loop."""

import numpy as np
import torch
from numba import carray, njit, types
from numba.extending import intrinsic
from torch import Tensor

# An empty array tells compiled code the type of what lies at an address.
FLOAT64 = np.empty(0, np.float64)
LIKE = {torch.float32: np.empty(0, np.float32), torch.float64: FLOAT64}


def address(x: Tensor | None) -> int:
    """Return the address of a contiguous tensor, 0 for none."""
    return 0 if x is None else x.data_ptr()


@intrinsic
def _pointer(typing, address, like):
    """Turn an integer into a pointer to values of the type of `like`."""

    def code(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(like.dtype)(address, like), code


@njit(nogil=True)
def view(address, shape, like):
    """View what lies at an address as an array of the type of `like`."""
    return carray(_pointer(address, like), shape)


@njit(nogil=True)
def per_channel(address, channels, default, like):
    """Return the values (c,) at an address, or `default` for all if there is none."""
    values = np.full(channels, default, like.dtype)
    if address != 0:
        values[:] = view(address, (channels,), like)
    return values

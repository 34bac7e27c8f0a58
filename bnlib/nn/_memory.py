"""Memory for results: large tensors in large pages, where the system offers them.

The first write to a new page of 4 KB can cost more time than the whole kernel needs for its values.
NumPy asks for large pages in the same way; torch does so only with ``THP_MEM_ALLOC_ENABLE=1``.
"""

import contextlib
import ctypes
import sys

import torch
from torch import Tensor

LARGE = 2**22  # bytes from which it pays; NumPy's number
PAGE = 4096
MADV_HUGEPAGE = 14

_advise = None
if sys.platform == "linux":
    with contextlib.suppress(OSError, AttributeError):
        _advise = ctypes.CDLL(None).madvise
        _advise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


def empty_like(x: Tensor) -> Tensor:
    """Return an empty tensor of the shape, dtype and memory format of `x`, without gradient."""
    y = torch.empty_like(x, requires_grad=False)
    size = y.numel() * y.element_size()
    if _advise is not None and size >= LARGE:
        start = -(-y.data_ptr() // PAGE) * PAGE
        _advise(start, y.data_ptr() + size - start, MADV_HUGEPAGE)  # advice: may be refused
    return y

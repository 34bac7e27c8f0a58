"""How the norms are computed on plain CPU tensors. A forward call goes down this list.

- `dispatch`: which of the ways it takes; `takes` says what is left for torch to do or refuse.
- `definition`: the norms in differentiable operations, wherever something watches these
  (`is_watched`), for the second derivative of the loops, and for the relatives without Numba.
- torch's own operation, for the norms that torch has, where Numba is not installed.
- `autograd`: the compiled norms as functions of autograd; what they call is `dispatch.Kernel`.
- `kernel`: that, with Numba: tensors, memory and threads.
- `loops`: the loops, all in one file.

`memory_format` is the one rule for strides.
"""

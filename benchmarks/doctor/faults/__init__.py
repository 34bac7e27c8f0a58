"""Planted faults: each rule of the doctor by the mistake that it is there for.

Each function is one mistake as people make it: its docstring says how they come to it, and the
remedy. It takes the kind of network and whether the fault is there; without it, the case is the
healthy twin.

- `options`: how the norm was built, or where it stands;
- `state`: what running statistics and parameters hold;
- `data`: what goes through the model;
- `loops`: how the model is trained, watched;
- `copies`: two models that should agree, or processes.
"""

from benchmarks.doctor.case import FAULTS
from benchmarks.doctor.faults import copies, data, loops, options, state

__all__ = ["FAULTS", "copies", "data", "loops", "options", "state"]

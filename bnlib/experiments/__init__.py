"""The experiments of the book, one module each: a Config, run, a Result and a judge.

What they are made of is in `engine`, what becomes of their results in `records`. Six of those
modules keep the short names that they had before, as in ``bnlib.experiments.training``.
"""

import sys

from bnlib.experiments.engine import networks, training
from bnlib.experiments.records import cache, ledger, registry, verdict

for _module in (networks, training, cache, ledger, registry, verdict):
    sys.modules[f"{__name__}.{_module.__name__.rpartition('.')[2]}"] = _module

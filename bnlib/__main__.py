"""``python -m bnlib``: see :mod:`bnlib.cli`."""

import sys

from bnlib.cli import main

if __name__ == "__main__":
    sys.exit(main())

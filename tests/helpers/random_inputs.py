"""The seed of the tests' random inputs: a test holds for any, not for one that happens to do."""

import os

SEED = int(os.environ.get("BNLIB_TEST_SEED", "0"))

"""Side-by-side timings against peers: ratios taken in one run, on one thread."""

import os

# Before anything imports NumPy or torch: one thread for all.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

"""Instruments: arrays in, arrays out, no plots.

Those that look at a network compute on copies: parameters, gradients, running statistics and
random generators of the network stay as they are. A network with a leading seed axis gives one
number for each of its k seeds.
"""

from bnlib.measure.activations import (
    Moments,
    activation_moments,
    activation_percentiles,
    capture_outputs,
)
from bnlib.measure.calibration import expected_calibration_error
from bnlib.measure.covariate_shift import CovariateShift, covariate_shift
from bnlib.measure.curvature import hessian_vector_product, top_hessian_eigenvalue
from bnlib.measure.distance import moment_difference, symmetric_kl, wasserstein_distance
from bnlib.measure.landscape import GradientPath, gradient_path
from bnlib.measure.rank import entropy_rank, participation_rank, stable_rank
from bnlib.measure.traffic import Traffic, count_traffic

__all__ = [
    "CovariateShift",
    "GradientPath",
    "Moments",
    "Traffic",
    "activation_moments",
    "activation_percentiles",
    "capture_outputs",
    "count_traffic",
    "covariate_shift",
    "entropy_rank",
    "expected_calibration_error",
    "gradient_path",
    "hessian_vector_product",
    "moment_difference",
    "participation_rank",
    "stable_rank",
    "symmetric_kl",
    "top_hessian_eigenvalue",
    "wasserstein_distance",
]

"""Exercises of :doc:`/book/internal_covariate_shift`."""

from bnlib.exercises.grading import Exercise

PAGE = "internal_covariate_shift"

EXERCISES: tuple[Exercise, ...] = ()

"""Exercises of :doc:`/book/learning_rate_and_convergence`."""

from bnlib.exercises.grading import Exercise

PAGE = "learning_rate_and_convergence"

EXERCISES: tuple[Exercise, ...] = ()

"""Exercises of :doc:`/book/folding_and_deployment`."""

from bnlib.exercises.grading import Exercise

PAGE = "folding_and_deployment"

EXERCISES: tuple[Exercise, ...] = ()

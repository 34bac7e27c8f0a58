"""Exercises of :doc:`/book/regularization`."""

from bnlib.exercises.grading import Exercise

PAGE = "regularization"

EXERCISES: tuple[Exercise, ...] = ()

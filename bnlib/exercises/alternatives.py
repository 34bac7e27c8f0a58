"""Exercises of :doc:`/book/alternatives`."""

from bnlib.exercises.grading import Exercise

PAGE = "alternatives"

EXERCISES: tuple[Exercise, ...] = ()

"""Exercises of :doc:`/book/beyond_one_machine`."""

from bnlib.exercises.grading import Exercise

PAGE = "beyond_one_machine"

EXERCISES: tuple[Exercise, ...] = ()

"""Exercises of :doc:`/book/motivation`."""

from bnlib.exercises.grading import Exercise

PAGE = "motivation"

EXERCISES: tuple[Exercise, ...] = ()

"""Exercises of :doc:`/book/conventions`."""

from bnlib.exercises.grading import Exercise

PAGE = "conventions"

EXERCISES: tuple[Exercise, ...] = ()

"""Exercises of :doc:`/book/a_network_learns`."""

from bnlib.exercises.grading import Exercise

PAGE = "a_network_learns"

EXERCISES: tuple[Exercise, ...] = ()

"""Exercises of :doc:`/book/inference`."""

from bnlib.exercises.grading import Exercise

PAGE = "inference"

EXERCISES: tuple[Exercise, ...] = ()

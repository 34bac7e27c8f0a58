"""Exercises of :doc:`/book/convolution`."""

from bnlib.exercises.grading import Exercise

PAGE = "convolution"

EXERCISES: tuple[Exercise, ...] = ()

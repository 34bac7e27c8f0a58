"""Exercises of :doc:`/book/depth_and_signal_propagation`."""

from bnlib.exercises.grading import Exercise

PAGE = "depth_and_signal_propagation"

EXERCISES: tuple[Exercise, ...] = ()

"""Instruments: what a computation does, as numbers. No plots."""

from bnlib.measure.traffic import Traffic, count_traffic

__all__ = ["Traffic", "count_traffic"]

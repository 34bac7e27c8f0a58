"""Batch Normalization from scratch: the library of the book."""

__version__ = "0.1.0"

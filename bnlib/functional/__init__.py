"""Normalization as plain NumPy functions: forward, inference and hand-derived backward."""

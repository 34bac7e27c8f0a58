"""Experiments of the book: a module each, from a configuration to a result with many seeds."""

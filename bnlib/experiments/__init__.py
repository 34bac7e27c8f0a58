"""Experiments of the book: one module each, from a `Config` to a `Result` and a judgement."""

"""The experiments of the book, one module each: a Config, run, a Result and a judge."""

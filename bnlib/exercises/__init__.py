r"""Exercises of the book, graded in code: `check` an answer, get a `hint`, list the `names`.

An answer is a function to write or a value to find. A wrong one gets a sentence that names what is
behind it, as far as the mistake is known, and the section to read. NumPy is all that it needs.

Examples
--------
>>> from bnlib import exercises
>>> exercises.hint("standardize")
'First the mean of each column, then the mean of the squared differences to it.'

>>> def standardize(x, eps):
...     return (x - x.mean(axis=0)) / (x.std(axis=0) + eps)
>>> exercises.check("standardize", standardize)
Your eps stands outside the root. With variance 0 the root is sqrt(eps), and yours is eps.
Read "What eps does" in forward_pass.ipynb.
"""

import difflib

from bnlib.exercises import (
    a_network_learns,
    alternatives,
    backward_pass,
    beyond_one_machine,
    centring_and_scaling,
    conventions,
    convolution,
    debugging,
    depth_and_signal_propagation,
    fine_tuning_and_freezing,
    folding_and_deployment,
    forward_pass,
    inference,
    internal_covariate_shift,
    learning_rate_and_convergence,
    motivation,
    placement,
    regularization,
)
from bnlib.exercises.grading import Exercise, Feedback

__all__ = ["Feedback", "check", "hint", "names"]

PAGES = (
    a_network_learns,
    motivation,
    forward_pass,
    backward_pass,
    inference,
    convolution,
    internal_covariate_shift,
    learning_rate_and_convergence,
    depth_and_signal_propagation,
    regularization,
    centring_and_scaling,
    alternatives,
    beyond_one_machine,
    placement,
    fine_tuning_and_freezing,
    debugging,
    folding_and_deployment,
    conventions,
)  # in the order of the book
EXERCISES = {exercise.name: exercise for page in PAGES for exercise in page.EXERCISES}


def names() -> list[str]:
    """List the names of all exercises, in the order of the book."""
    return list(EXERCISES)


def hint(name: str) -> str:
    """Return how to begin an exercise.

    Raises
    ------
    ValueError
        If there is no such exercise; the message has the nearest names, or all.
    """
    return _find(name).hint


def check(name: str, answer: object) -> Feedback:
    """Grade an answer.

    Parameters
    ----------
    name : str
        Of the exercise, one of `names`.
    answer : callable or value
        The reader's function or value. None means no answer yet.

    Returns
    -------
    Feedback
        True if right. Its text says what is wrong otherwise; it is never an exception.

    Raises
    ------
    ValueError
        If there is no such exercise; the message has the nearest names, or all.
    """
    return _find(name).grade(answer)


def _find(name: str) -> Exercise:
    if not isinstance(name, str) or name not in EXERCISES:
        near = difflib.get_close_matches(str(name), EXERCISES, n=3, cutoff=0.4)
        there = f"did you mean {', '.join(near)}?" if near else f"there are: {', '.join(names())}"
        raise ValueError(f"name: no exercise {name!r}; {there}")
    return EXERCISES[name]

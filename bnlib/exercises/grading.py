"""Grade an answer: compare what it returns with the solution's and with those of known mistakes."""

import copy
import html
import linecache
import math
import re
import textwrap
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Number

import numpy as np

WRONG = "Not the right value."
CLOSE = "Close: give more digits."
ROUNDED = 0.04  # largest relative error of a value that may be rounded
Cases = Callable[[np.random.Generator], Sequence[tuple]]


@dataclass(frozen=True)
class Feedback:
    """What a check says: true if the answer is right.

    Attributes
    ----------
    right : bool
        Whether the answer is right.
    message : str
        One to three sentences.
    page, heading : str
        Chapter and section to read, empty if there is nothing to read.
    elsewhere : bool
        Whether this is another chapter than that of the exercise.
    """

    right: bool
    message: str
    page: str = ""
    heading: str = ""
    elsewhere: bool = False

    def __bool__(self) -> bool:
        return self.right

    def __str__(self) -> str:
        read = f'\nRead "{self.heading}" in {self.page}.ipynb.' if self.page else ""
        return self.message + read

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """Link the section, in Jupyter."""
        text = html.escape(self.message, quote=False)
        if self.page:
            # The address that jupyterlab-myst and the page give to a heading.
            place = re.sub("[^a-z0-9]+", "-", self.heading.lower()).strip("-")
            # Within the notebook that is open, Jupyter follows the address of a section alone.
            file = f"{self.page}.ipynb" if self.elsewhere else ""
            link = f'<a href="{file}#{place}">{html.escape(self.heading)}</a>'
            text += f" Read {link}{f' in {file}' if file else ''}."
        return f"<p><b>{'✓' if self.right else '✗'}</b> {text}</p>"


@dataclass(frozen=True)
class Mistake:
    """A wrong answer that readers give.

    Attributes
    ----------
    answer : callable or value
        The wrong answer itself.
    misconception : str
        What is behind it, in one sentence.
    see : str
        How to see that it is wrong, in one sentence.
    heading : str
        The section to read.
    page : str
        The chapter of that section, if it is another one than that of the exercise.
    """

    answer: object
    misconception: str
    see: str
    heading: str
    page: str = ""


@dataclass(frozen=True)
class Exercise:
    """An exercise that is graded: a function to write, or a value to find.

    Attributes
    ----------
    name : str
        What `check` is called with.
    page : str
        The chapter.
    asks : str
        The answer's form: a signature with what it returns, or what the value is.
    solution : callable or value
        A right answer.
    mistakes : tuple of Mistake
        The first that agrees with an answer in all cases explains it.
    hint : str
        How to begin.
    cases : callable, optional
        ``cases(rng)`` returns the argument tuples that a function is tried on, the smallest first.
        None: the answer is a value.
    returns : tuple of str
        Names of the returned values, if there are several.
    rtol : float
        Largest error of a value, relative to the solution: of an array to its largest entry, of
        several values to each.
    pure : bool
        Whether a function is wrong if it changes its arguments. If not, that is a remark.
    """

    name: str
    page: str
    asks: str
    solution: object
    mistakes: tuple[Mistake, ...]
    hint: str
    cases: Cases | None = None
    returns: tuple[str, ...] = ()
    rtol: float = 1e-5
    pure: bool = False

    def grade(self, answer: object) -> Feedback:
        """Return the feedback on an answer."""
        if answer is None or answer is ...:
            return Feedback(False, f"No answer yet. Wanted: {self.asks}.")
        if self.cases is None:
            return self._compare([()], [answer])
        if not callable(answer):
            kind = type(answer).__name__
            text = f"Expected a function, {self.asks}, but got a value of the type {kind}."
            return Feedback(False, text)
        cases = self.cases(np.random.default_rng(0))
        results, changed = [], False
        for case in cases:
            given = copy.deepcopy(case)
            try:
                results.append(_called(answer, given))
            except Exception as error:
                what = f"{type(error).__name__}: {error}".rstrip(": ") + _line(answer, error)
                text = f"Your function raised {what}, for {_shown(case)}."
                if isinstance(error, TypeError) and "argument" in str(error):
                    text += f" Wanted: {self.asks}."
                return Feedback(False, text)
            changed |= not _same(given, case, rtol=0)
        if all(result is None for result in results):
            return Feedback(False, f"Your function returns nothing yet. Wanted: {self.asks}.")
        feedback = self._compare(cases, results)
        if feedback and changed and self.pure:
            text = "Your values are right, but your function changes its arguments in place."
            return Feedback(False, f"{text} They must stay as they are: work on copies of them.")
        if feedback and changed:
            note = "It changes its arguments in place, though: the caller may still need them."
            return Feedback(True, f"{feedback.message} {note}")
        return feedback

    def _compare(self, cases: Sequence[tuple], results: Sequence[object]) -> Feedback:
        right = self._results(self.solution, cases)
        agree = [_same(*pair, rtol=self.rtol) for pair in zip(results, right, strict=True)]
        if all(agree):
            return Feedback(True, "Right.")
        for mistake in self.mistakes:
            wrong = self._results(mistake.answer, cases)
            if all(_same(*pair, rtol=self.rtol) for pair in zip(results, wrong, strict=True)):
                text = f"{mistake.misconception} {mistake.see}"
                elsewhere = mistake.page not in ("", self.page)
                page = mistake.page or self.page
                return Feedback(False, text, page, mistake.heading, elsewhere)
        at = agree.index(False)
        where = f" For {_shown(cases[at])}." if self.cases else ""
        rounded = ROUNDED if self.cases is None else 0.0
        text = _difference(results[at], right[at], self.returns, self.rtol, self.asks, rounded)
        text += where
        if any(agree):
            text += f" {sum(agree)} of {len(agree)} cases are right."
        return Feedback(False, text)

    def _results(self, answer: object, cases: Sequence[tuple]) -> list[object]:
        if self.cases is None:
            return [answer]
        return [_called(answer, copy.deepcopy(case)) for case in cases]


def _called(answer: Callable, arguments: tuple) -> object:
    """Call an answer: what NumPy warns of shows in the result."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return answer(*arguments)


def _line(answer: Callable, error: Exception) -> str:
    """Say which line of the reader's code raised an error, if it was raised there."""
    file = getattr(getattr(answer, "__code__", None), "co_filename", None)
    frames = traceback.walk_tb(error.__traceback__)
    own = [(frame.f_code, line) for frame, line in frames if frame.f_code.co_filename == file]
    if not own or own[-1][1] is None:
        return ""
    code, line = own[-1]
    text = linecache.getline(code.co_filename, line).strip()
    where = f" in line {line - code.co_firstlineno + 1} of {code.co_name}"
    return where.replace("<lambda>", "a lambda") + (f", `{text}`" if text else "")


def _array(value: object) -> np.ndarray | None:
    """Return numbers as an array, a tensor of torch and fractions too; anything else as None."""
    try:
        array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
        if array.dtype == object and all(isinstance(each, Number) for each in array.flat):
            array = array.astype(float)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return None
    return array if array.dtype.kind in "biuf" else None


def _entries(value: object) -> list[object] | None:
    """Return what a tuple, a list or an array holds; None for anything else."""
    if isinstance(value, tuple | list):
        return list(value)
    array = _array(value)
    return None if array is None or array.squeeze().ndim == 0 else list(array.squeeze())


def _same(one: object, other: object, rtol: float) -> bool:
    """Compare numbers up to `rtol` and axes of length 1, texts up to case, and their sequences.

    The entries of an array share a scale, the largest of them; those of a sequence have their own.
    """
    if isinstance(other, str):
        return isinstance(one, str) and one.strip().casefold() == other.strip().casefold()
    if isinstance(other, tuple | list):
        entries = _entries(one)
        return (
            entries is not None
            and len(entries) == len(other)
            and all(_same(*pair, rtol) for pair in zip(entries, other, strict=True))
        )
    a, b = _array(one), _array(other)
    if b is None:
        return one is other
    if a is None or a.squeeze().shape != b.squeeze().shape:
        return False
    a, b = a.squeeze().astype(float), b.squeeze().astype(float)
    if not np.array_equal(np.isfinite(a), np.isfinite(b)):
        return False
    finite = np.isfinite(b)
    scale = np.abs(b[finite]).max(initial=0)
    return bool(
        np.array_equal(a[~finite], b[~finite], equal_nan=True)
        and (np.abs(a - b)[finite] <= rtol * scale).all()
    )


def _difference(
    result: object,
    right: object,
    names: tuple[str, ...],
    rtol: float,
    asks: str,
    rounded: float = 0.0,
) -> str:
    """Say how a result differs from the right one, without giving that away.

    An error up to `rounded` is taken for that of a rounded number, unless an integer is asked.
    """
    if isinstance(right, tuple | list):
        entries = _entries(result)
        if entries is None or len(entries) != len(right):
            came = "one value" if entries is None else f"{len(entries)} values"
            return f"Expected {', '.join((f'{len(right)} values', *names))}, but got {came}."
        good = [_same(*pair, rtol) for pair in zip(entries, right, strict=True)]
        if not any(good) and not any(isinstance(each, str) for each in right):
            whole = [_array(each) for each in (result, right)]
            if all(each is not None and each.squeeze().ndim == 1 for each in whole):
                text = _difference(*map(np.squeeze, whole), (), rtol, asks, rounded)
                none = f"None of the {len(right)} values is right."
                return none if text == WRONG else text
        if names:
            at = good.index(False)
            fine = [name for name, ok in zip(names, good, strict=True) if ok]
            listed = " and ".join(filter(None, (", ".join(fine[:-1]), *fine[-1:])))
            are = f"{listed} {'is' if len(fine) == 1 else 'are'} right. "
            part = _difference(entries[at], right[at], (), rtol, asks, rounded)
            return f"{are if fine else ''}{names[at]}: {part}"
        if any(good):
            return f"{sum(good)} of {len(good)} values are right."
    a, b = _array(result), _array(right)
    if isinstance(result, str):
        return f"Your answer is the text {textwrap.shorten(result, 40)!r}. Wanted: {asks}."
    if b is None or a is None:
        kind = result.dtype if isinstance(result, np.ndarray) else type(result).__name__
        return f"Not the right answer, of the type {kind}. Wanted: {asks}."
    if a.squeeze().shape != b.squeeze().shape:
        turned = " (it may be transposed)" if a.shape == b.shape[::-1] else ""
        return f"Expected the shape {b.shape}, but got {a.shape}{turned}."
    if b.dtype.kind == "f" and (np.abs(a - b) <= rounded * np.abs(b)).all() and rounded:
        return CLOSE
    a, b = (np.atleast_1d(each.squeeze()).astype(float) for each in (a, b))
    if not np.isfinite(a).all() and np.isfinite(b).all():
        return "It is not finite: is something divided by 0?"
    if a.ndim == 2 and a.shape[0] == a.shape[1] and _same(a.T, b, rtol):
        return "It is transposed."
    if np.isfinite(b).all():
        along = float((a * b).sum() / (b * b).sum()) if b.any() else math.nan
        if a.any() and math.isfinite(along) and b.size > 1 and _same(a, along * b, rtol):
            return f"It is {along:.4g} times what it should be, everywhere."
        if b.size > 1 and _same(a - (a - b).mean(), b, rtol):
            return "It differs from what it should be by the same number everywhere."
    return WRONG


def _digits(numbers: object) -> str:
    """Print numbers with four digits, and integers as they are."""
    if isinstance(numbers, list):
        return f"[{', '.join(map(_digits, numbers))}]"
    return f"{numbers:.4g}" if isinstance(numbers, float) else str(numbers)


def _shown(case: tuple) -> str:
    """Print arguments: small ones with their values, large ones with their shapes."""
    words = []
    for value in case:
        array = _array(value)
        if isinstance(value, tuple | list) and any(np.ndim(each) for each in value):
            words.append(f"a {type(value).__name__} of {len(value)} arrays")
        elif array is None:
            words.append(str(value))
        elif array.size <= 4:
            words.append(_digits(array.tolist()))
        else:
            words.append(f"an array {array.shape}")
    return "the arguments " + ", ".join(words)

import io
import json
import pathlib
from collections import Counter
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch
from pages import notebooks

import bnlib
from bnlib import exercises
from bnlib.exercises import EXERCISES, Feedback

BOOK = pathlib.Path(bnlib.__file__).parents[1] / "book"
EVERY = [pytest.param(exercise, id=exercise.name) for exercise in EXERCISES.values()]
MISTAKES = [
    pytest.param(exercise, mistake, id=f"{exercise.name}-{number}")
    for exercise in EXERCISES.values()
    for number, mistake in enumerate(exercise.mistakes)
]
SEVERAL_VALUES = [
    pytest.param(exercise, i, id=f"{exercise.name}-{i}")
    for exercise in EXERCISES.values()
    if exercise.cases is None and isinstance(exercise.solution, tuple)
    for i in range(len(exercise.solution))
]
NONSENSE = [
    None, ..., 3, float("nan"), "a word", [], {}, object(), np.zeros((2, 0)), torch.ones(3),
    [1, [2, 3]], lambda: 0, lambda *given: None, lambda *given: "x", lambda *given: given,
    lambda *given: 1 / 0, lambda *given: np.zeros(5), lambda *given: [[1], [2, 3]], len, dict,
    torch.Tensor, io.StringIO(), 10**400, [10**400, 1], np.array(1 + 2j), (3 + 0j, 6), {3: 6},
    lambda *given: np.broadcast_to(0.0, (10**6, 10**6)), lambda *given: (1j,) * 3,
]  # fmt: skip


def cells(page):
    return json.loads((BOOK / f"{page}.ipynb").read_text("utf8"))["cells"]


def headings(page):
    lines = [line for cell in cells(page) for line in "".join(cell["source"]).splitlines()]
    return [line.lstrip("# ") for line in lines if line.startswith("#")]


@pytest.mark.parametrize("exercise", EVERY)
def test_the_solution_is_right(exercise):
    assert exercises.check(exercise.name, exercise.solution)


@pytest.mark.parametrize(("exercise", "mistake"), MISTAKES)
def test_each_mistake_gets_feedback_of_its_own(exercise, mistake):
    feedback = exercises.check(exercise.name, mistake.answer)
    assert not feedback
    assert feedback.message == f"{mistake.misconception} {mistake.see}"


@pytest.mark.parametrize("exercise", EVERY)
def test_there_are_four_mistakes_or_more_and_no_text_twice(exercise):
    texts = [text for m in exercise.mistakes for text in (m.misconception, m.see)]
    assert len(exercise.mistakes) >= 4
    assert len({m.misconception for m in exercise.mistakes}) == len(exercise.mistakes)
    assert all(text.endswith((".", "!", "?")) for text in [*texts, exercise.hint])


@pytest.mark.parametrize(("exercise", "mistake"), MISTAKES)
def test_each_mistake_names_a_section_that_exists(exercise, mistake):
    assert mistake.heading in headings(mistake.page or exercise.page)
    assert mistake.heading != "Exercises", "the reader is there already"


@pytest.mark.parametrize("exercise", EVERY)
@pytest.mark.parametrize("answer", NONSENSE)
def test_nonsense_gets_a_sentence(exercise, answer):
    feedback = exercises.check(exercise.name, answer)
    assert not feedback
    assert len(feedback.message) >= 20
    assert feedback.message.endswith((".", "?"))
    assert "Traceback" not in feedback.message


@pytest.mark.parametrize("exercise", EVERY)
def test_its_chapter_checks_it_in_the_stub_and_in_the_solution(exercise):
    code = ["".join(c["source"]) for c in cells(exercise.page) if c["cell_type"] == "code"]
    assert sum(f'check("{exercise.name}"' in source for source in code) == 2


def test_there_are_two_exercises_a_chapter_and_24_in_all():
    pages = Counter(exercise.page for exercise in EXERCISES.values())
    assert {pathlib.Path(page).name for page in notebooks(numbered=True)} == {*pages}
    assert min(pages.values()) >= 2
    assert len(EXERCISES) >= 24


def test_the_order_is_that_of_the_book():
    toc = (BOOK.parent / "_toc.yml").read_text("utf8")
    at = [toc.index(exercise.page) for exercise in EXERCISES.values()]
    assert at == sorted(at)


def test_an_unknown_name_brings_the_nearest():
    with pytest.raises(ValueError, match="name: no exercise 'backwards'; did you mean backward"):
        exercises.check("backwards", None)
    with pytest.raises(ValueError, match="name: no exercise 7; there are: first-loss, "):
        exercises.hint(7)


@pytest.mark.parametrize("name", [["a"], {}, None])
def test_a_name_that_is_no_text_is_unknown(name):
    for call in (exercises.hint, lambda name: exercises.check(name, 1)):
        with pytest.raises(ValueError, match="name: no exercise"):
            call(name)


def test_a_wrong_type_is_called_by_its_name():
    message = exercises.check("what-layer-norm-keeps", "column").message
    assert message.startswith("Your answer is the text 'column'. Wanted: one of the words")
    message = exercises.check("merge", 3).message
    assert message.endswith("but got a value of the type int.")


def backward(dy, x, gamma, eps):
    return EXERCISES["backward"].solution(dy, x, gamma, eps)


def test_it_names_the_part_that_is_wrong():
    def turned(*given):
        dx, dgamma, dbeta = backward(*given)
        return -dx, dgamma, dbeta

    message = exercises.check("backward", turned).message
    assert message.startswith("dgamma and dbeta are right. dx: It is -1 times what it should be")


def test_it_says_how_many_values_are_missing():
    message = exercises.check("backward", lambda *given: backward(*given)[:2]).message
    assert message.startswith("Expected 3 values, dx, dgamma, dbeta, but got 2 values.")


def test_a_transposed_array_is_called_so():
    def turned(*given):
        dx, dgamma, dbeta = backward(*given)
        return dx.T, dgamma, dbeta

    assert "transposed" in exercises.check("backward", turned).message


def test_an_exception_is_quoted_with_the_arguments():
    message = exercises.check("standardize", lambda x: x).message
    assert message.startswith("Your function raised TypeError: ")
    assert "for the arguments an array (3, 3), 0.5" in message
    assert message.endswith(f"Wanted: {EXERCISES['standardize'].asks}.")


def test_arguments_are_printed_briefly():
    message = exercises.check("backward-deep", lambda *given: 1 / 0).message
    assert "for the arguments a list of 3 arrays, a list of 3 arrays, an array (4, 3)." in message
    message = exercises.check("groups-for", lambda *given: 1 / 0).message
    assert message.endswith("for the arguments 4, 4, 1.")
    message = exercises.check("absorb", lambda *given: 1 / 0).message
    assert message.endswith("for the arguments [0.002, 0.5, 3], 1e-05, 0.001.")


def failing(x, eps):
    mean = x.mean(axis=0)
    return helper(x - mean)


def helper(centered):
    return centered / np.sqrt(centered @ np.ones(7))


def test_an_exception_is_quoted_with_the_line():
    message = exercises.check("standardize", failing).message
    assert (
        " in line 2 of helper, `return centered / np.sqrt(centered @ np.ones(7))`, for" in message
    )
    assert "Wanted" not in message


@pytest.mark.parametrize(("exercise", "i"), SEVERAL_VALUES)
def test_each_of_several_values_has_a_tolerance_of_its_own(exercise, i):
    for error, right in ((0.5, True), (2, False)):
        values = list(exercise.solution)
        values[i] *= 1 + error * exercise.rtol
        assert bool(exercises.check(exercise.name, values)) is right


@pytest.mark.parametrize(
    ("name", "rounded"),
    [
        ("four-numbers", (0.25, 0.18, 1.5, 0.15)),
        ("growth-by-hand", (1.5, 3.5, 0.2)),
        ("two-weights", (1.5, 2.25, 0.44)),
    ],
)
def test_values_are_right_as_their_solution_rounds_them(name, rounded):
    assert exercises.check(name, rounded)


def test_axes_of_length_1_do_not_matter_to_one_of_several_values():
    def row(*given):
        mean, var = EXERCISES["merge"].solution(*given)
        return mean[None], var

    assert exercises.check("merge", row)


def test_a_stacked_array_is_several_values():
    def stacked(*given):
        mean, var = EXERCISES["merge"].solution(*given)
        return np.stack([mean, 2 * var])

    message = exercises.check("merge", stacked).message
    assert message.startswith("mean is right. var: It is 2 times what it should be")


@pytest.mark.parametrize("kind", [Fraction, Decimal, torch.tensor])
def test_other_numbers_are_numbers(kind):
    assert exercises.check("two-weights", [kind(value) for value in (1.5, 2.25, 0.4375)])


def test_it_says_which_values_are_right():
    message = exercises.check("merge-by-hand", (3, 7)).message
    assert message == "mean is right. var: Not the right value."
    message = exercises.check("values-that-share-a-mean", (128, 96, 16, 1)).message
    assert message == "BN, LN and instance norm are right. GN: Not the right value."
    message = exercises.check("eval-by-hand", (1, 1, 1)).message
    assert message == "None of the 3 values is right."


@pytest.mark.parametrize(
    ("name", "answer", "says"),
    [
        ("first-loss", 6.8, "Close: give more digits."),
        ("two-weights", (1.5, 2.25, 0.43), "w_1 and G' are right. S_g: Close: give more digits."),
        ("after-by-hand", (-0.6, -0.6, -0.6, 1.7), "Close: give more digits."),
        ("values-that-share-a-mean", (127, 96, 16, 32), "BN: Not the right value."),
        ("first-loss", 6.6, "Not the right value."),
    ],
)
def test_too_few_digits_are_told(name, answer, says):
    assert exercises.check(name, answer).message.endswith(says)


@pytest.mark.parametrize("exercise", EVERY)
def test_each_of_several_values_has_a_name(exercise):
    if isinstance(exercise.solution, tuple):
        assert len(exercise.returns) == len(exercise.solution)


def test_complex_numbers_are_called_so():
    def complex_dx(*given):
        dx, dgamma, dbeta = backward(*given)
        return dx + 0j, dgamma, dbeta

    message = exercises.check("backward", complex_dx).message
    assert "dx: Not the right answer, of the type complex128. Wanted: backward(dy" in message


def test_changed_arguments_are_said():
    def in_place(x, eps):
        x -= x.mean(0)
        x /= np.sqrt((x**2).mean(0) + eps)
        return x

    feedback = exercises.check("standardize", in_place)
    assert feedback
    assert "in place" in feedback.message


@pytest.mark.parametrize("name", ["gradient-change", "fold-into-linear"])
def test_changed_arguments_are_wrong_where_the_text_forbids_it(name):
    def in_place(*given):
        result = EXERCISES[name].solution(*given)
        given[2][...] = 0
        return result

    feedback = exercises.check(name, in_place)
    assert not feedback
    assert "changes its arguments in place" in feedback.message


def test_interrupts_pass():
    def interrupted(*given):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        exercises.check("standardize", interrupted)


def test_tensors_are_answers_too():
    def standardize(x, eps):
        x = torch.tensor(x, requires_grad=True)
        return (x - x.mean(0)) / (x.var(0, correction=0) + eps).sqrt()

    assert exercises.check("standardize", standardize)


def test_the_link_leads_to_the_section():
    here = Feedback(False, "a < b", "forward_pass", "What eps does")._repr_html_()
    assert 'href="#what-eps-does"' in here
    assert "a &lt; b" in here
    other = Feedback(False, "No.", "forward_pass", "What eps does", elsewhere=True)._repr_html_()
    assert 'href="forward_pass.ipynb#what-eps-does"' in other
    assert "in forward_pass.ipynb." in other


def test_a_section_of_another_chapter_is_elsewhere():
    for exercise in EXERCISES.values():
        for mistake in exercise.mistakes:
            feedback = exercises.check(exercise.name, mistake.answer)
            assert feedback.elsewhere == (feedback.page != exercise.page)

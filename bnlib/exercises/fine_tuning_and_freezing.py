"""Exercises of :doc:`/book/fine_tuning_and_freezing`."""

import numpy as np

from bnlib.exercises.grading import Exercise, Mistake

PAGE = "fine_tuning_and_freezing"


def undo(gamma, beta, mean, var, new_mean, new_var, eps):
    """Solve it: gamma and beta, (d,), with which the new statistics give the old output."""
    ratio = np.sqrt((new_var + eps) / (var + eps))
    return gamma * ratio, beta + gamma * (new_mean - mean) / np.sqrt(var + eps)


def undone(wrong):
    """Undo with `wrong(gamma, beta, shift, old, new)`, of two standard deviations."""

    def answer(gamma, beta, mean, var, new_mean, new_var, eps):
        old, new = np.sqrt(var + eps), np.sqrt(new_var + eps)
        return wrong(gamma, beta, new_mean - mean, old, new)

    return answer


def eps_outside(gamma, beta, mean, var, new_mean, new_var, eps):
    """Add eps to the standard deviations."""
    old, new = np.sqrt(var) + eps, np.sqrt(new_var) + eps
    return gamma * new / old, beta + gamma * (new_mean - mean) / old


def norms(rng):
    """Give random norms with the statistics of two data sets; some gammas are negative."""
    return [
        (
            rng.uniform(0.5, 1.5, d) * np.where(np.arange(d) % 2, -1, 1),
            rng.normal(size=d),
            rng.normal(size=d),
            rng.uniform(0.5, 2, d),
            rng.normal(2, 1, d),
            rng.uniform(2, 8, d),
            eps,
        )
        for d, eps in ((1, 0.5), (3, 0.1), (5, 1.0))
    ]


EXERCISES = (
    Exercise(
        name="passes-until-forgotten",
        page=PAGE,
        asks="a number of passes, for momentum 0.1 of PyTorch and less than 1 % left",
        solution=44,
        mistakes=(
            Mistake(
                43,
                "You rounded down: after this pass a little more than 1 % is left.",
                "Compute 0.9 to the power of your answer.",
                "What is left of the old statistics",
            ),
            Mistake(
                2,
                "You took 0.1 for the share that stays, as Keras writes it.",
                "In PyTorch the momentum is the weight of the new mini-batch, so 0.9 stays.",
                "Two directions of momentum",
                page="inference",
            ),
            Mistake(
                10,
                "You added the weights of the mini-batches up, but each pass also shrinks what "
                "the earlier ones have left.",
                "After 10 passes 0.9 to the power of 10 is left, and this is about a third.",
                "What is left of the old statistics",
            ),
            Mistake(
                22,
                "You computed when less than 10 % is left.",
                "Compute 0.9 to the power of your answer.",
                "What is left of the old statistics",
            ),
            Mistake(
                459,
                "You took the default momentum of Keras, 0.99 for the old value.",
                "With 0.1 for the new value, 0.9 of the old one stays in each pass.",
                "Two directions of momentum",
                page="inference",
            ),
        ),
        hint="Each pass leaves 0.9 of what the last one left. Which power of 0.9 is below 0.01?",
    ),
    Exercise(
        name="undo-new-statistics",
        page=PAGE,
        asks="undo(gamma, beta, mean, var, new_mean, new_var, eps) returns gamma, beta",
        solution=undo,
        cases=norms,
        returns=("gamma", "beta"),
        mistakes=(
            Mistake(
                undone(
                    lambda gamma, beta, shift, old, new: (
                        gamma * old / new,
                        beta - gamma * shift / new,
                    )
                ),
                "You went the other way, from the new statistics back to the old ones.",
                "Your gamma and beta belong to a layer with the new statistics.",
                "What gamma and beta can make up for",
            ),
            Mistake(
                undone(
                    lambda gamma, beta, shift, old, new: (
                        gamma * old / new,
                        beta + gamma * shift / old,
                    )
                ),
                "Your ratio of the standard deviations is upside down.",
                "BN divides by the new one, so gamma has to multiply by it.",
                "What gamma and beta can make up for",
            ),
            Mistake(
                undone(
                    lambda gamma, beta, shift, old, new: (
                        gamma * new / old,
                        beta + gamma * shift / new,
                    )
                ),
                "You divided the shift of the mean by the new standard deviation.",
                "Insert x = new_mean: the old layer divides by the old one.",
                "What gamma and beta can make up for",
            ),
            Mistake(
                undone(
                    lambda gamma, beta, shift, old, new: (
                        gamma * new / old,
                        beta - gamma * shift / old,
                    )
                ),
                "The sign of the shift is wrong.",
                "Insert x = new_mean: the new layer returns its beta, and the old one is above "
                "beta if new_mean is above mean and gamma is positive.",
                "What gamma and beta can make up for",
            ),
            Mistake(
                undone(
                    lambda gamma, beta, shift, old, new: (
                        np.abs(gamma) * new / old,
                        beta + gamma * shift / old,
                    )
                ),
                "You lost the sign of gamma, which can be negative.",
                "Take gamma = -1 and equal statistics: nothing is to change, so the answer is -1.",
                "What gamma and beta can make up for",
            ),
            Mistake(
                undone(
                    lambda gamma, beta, shift, old, new: (gamma * new / old, beta + shift / old)
                ),
                "You forgot that gamma scales the shift, too.",
                "Take gamma = 0: the output is beta, whatever the statistics are.",
                "What gamma and beta can make up for",
            ),
            Mistake(
                undone(lambda gamma, beta, shift, old, new: (gamma * new / old, beta)),
                "You undid the change of the variance, but not that of the mean.",
                "Insert x = new_mean into both layers.",
                "What gamma and beta can make up for",
            ),
            Mistake(
                undone(
                    lambda gamma, beta, shift, old, new: (
                        gamma * (new / old) ** 2,
                        beta + gamma * shift / old**2,
                    )
                ),
                "You took variances in the place of their roots.",
                "BN divides by the root of the variance.",
                "The equation",
                page="forward_pass",
            ),
            Mistake(
                eps_outside,
                "Your eps stands outside the roots.",
                "Take an eps as large as the variance.",
                "What eps does",
                page="forward_pass",
            ),
            Mistake(
                undone(
                    lambda gamma, beta, shift, old, new: (
                        gamma * new / old,
                        beta + gamma * new / old * shift / old,
                    )
                ),
                "You scaled the shift with the new gamma.",
                "Insert x = new_mean: the old layer has the old gamma.",
                "What gamma and beta can make up for",
            ),
        ),
        hint="Both layers are straight lines in x. Make their slopes equal, and their values at "
        "x = new_mean.",
    ),
)

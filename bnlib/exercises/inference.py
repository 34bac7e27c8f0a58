"""Exercises of :doc:`/book/inference`."""

from bnlib.exercises.grading import Exercise, Mistake

PAGE = "inference"
RUNNING, DIRECTIONS = "Running statistics", "Two directions of momentum"


def average(old, new, count, momentum):
    """Weigh the new value by the momentum, or all values equally if it is None."""
    weight = 1 / (count + 1) if momentum is None else momentum
    return (1 - weight) * old + weight * new


def update(mean, var, count, x, momentum):
    """Solve it: running mean (d,), running variance (d,) and the number of mini-batches."""
    new_mean = average(mean, x.mean(axis=0), count, momentum)
    return new_mean, average(var, x.var(axis=0, ddof=1), count, momentum), count + 1


def update_with(mean=None, var=None, weight=None):
    """Return an update of which one part is wrong."""

    def wrong(old_mean, old_var, count, x, momentum):
        if weight is not None:
            momentum = weight(count, momentum)
        right = update(old_mean, old_var, count, x, momentum)
        given = old_mean, old_var, count, x, momentum
        return (mean(*given) if mean else right[0], var(*given) if var else right[1], count + 1)

    return wrong


def around_the_running_mean(mean, var, count, x, momentum):
    """Take the squared differences to the new running mean."""
    new_mean = update(mean, var, count, x, momentum)[0]
    squares = ((x - new_mean) ** 2).sum(axis=0) / (len(x) - 1)
    return average(var, squares, count, momentum)


def not_counted(*given):
    """Return the old count."""
    return (*update(*given)[:2], given[2])


def added(mean, var, count, x, momentum):
    """Add the new values without a smaller weight for the old ones."""
    weight = 1 / (count + 1) if momentum is None else momentum
    return mean + weight * x.mean(axis=0), var + weight * x.var(axis=0, ddof=1), count + 1


def steps(rng):
    """Give steps with a momentum, 0 among them, and without one; one is the first step."""
    return [
        (rng.normal(size=2), rng.uniform(1, 2, 2), count, rng.normal(3, 2, (m, 2)), momentum)
        for m, count, momentum in (
            (3, 0, 0.2),
            (2, 4, 0.1),
            (4, 0, None),
            (3, 3, None),
            (2, 1, 0.0),
        )
    ]


def to_torch(momentum, moving_variance, m):
    """Solve it: momentum and running_var of PyTorch."""
    return 1 - momentum, m / (m - 1) * moving_variance


def to_torch_with(momentum=lambda a: 1 - a, var=lambda v, m: m / (m - 1) * v):
    """Return a conversion of which one part is wrong."""
    return lambda a, v, m: (momentum(a), var(v, m))


EXERCISES = (
    Exercise(
        name="eval-by-hand",
        page=PAGE,
        asks="the gradients with respect to x, gamma and beta, three numbers",
        solution=(6.0, 4.0, 2.0),
        returns=("dL/dx", "dL/dgamma", "dL/dbeta"),
        rtol=0.005,
        mistakes=(
            Mistake(
                (3.0, 2.0, 1.0),
                "You gave the derivatives of y; each is still multiplied by the upstream gradient.",
                "If the upstream gradient were 0, all three would be 0.",
                "The backward pass in eval mode",
            ),
            Mistake(
                (12.0, 4.0, 2.0),
                "You forgot to divide by the standard deviation in the gradient of x.",
                "As a function of x, y is a line with the slope 3.",
                "The backward pass in eval mode",
            ),
            Mistake(
                (3.0, 2.0, 2.0),
                "You divided by the variance; its root is 2.",
                "x - 3 is 4, so x_hat is 2.",
                "Eval mode",
            ),
            Mistake(
                (3.0, 4.0, 2.0),
                "For x you forgot the upstream gradient, or you divided by the variance.",
                "The upstream gradient and the standard deviation are 2 each, so they cancel.",
                "The backward pass in eval mode",
            ),
            Mistake(
                (1.0, 4.0, 2.0),
                "You forgot gamma in the gradient of x.",
                "As a function of x, y is a line with the slope 3.",
                "The backward pass in eval mode",
            ),
            Mistake(
                (6.0, 14.0, 2.0),
                "You multiplied by x in the gradient of gamma; it is x_hat.",
                "gamma multiplies x_hat in the forward pass, so its derivative is x_hat.",
                "The backward pass in eval mode",
            ),
            Mistake(
                (0.0, 4.0, 2.0),
                "You took the mean of the mini-batch away; in eval mode it plays no role.",
                "Move x a little: y moves, because the statistics are constants.",
                "The backward pass in eval mode",
            ),
            Mistake(
                (-24.0, 4.0, 2.0),
                "You used the backward pass of train mode, with the projector.",
                "y grows with x, so the gradients of x and y must have the same sign.",
                "The backward pass in eval mode",
            ),
        ),
        hint="First x_hat. Then y is a line in each of the three, with the other two fixed.",
    ),
    Exercise(
        name="update",
        page=PAGE,
        asks="update(mean, var, count, x, momentum) returns the new mean, var and count",
        solution=update,
        cases=steps,
        returns=("mean", "var", "count"),
        mistakes=(
            Mistake(
                update_with(weight=lambda count, a: 1 - (1 / (count + 1) if a is None else a)),
                "You exchanged the weights of the old and the new value.",
                "With momentum 0 nothing must change.",
                DIRECTIONS,
            ),
            Mistake(
                update_with(weight=lambda count, a: a if a is None else 1 - a),
                "Your momentum weighs the old value; in PyTorch it weighs the new one.",
                "With momentum 0.1 the new mean must stay close to the old one.",
                DIRECTIONS,
            ),
            Mistake(
                update_with(
                    var=lambda mean, var, count, x, a: average(var, x.var(axis=0), count, a)
                ),
                "You store the biased variance; PyTorch stores the unbiased one.",
                "For m = 2 the two differ by a factor of 2.",
                RUNNING,
            ),
            Mistake(
                update_with(
                    var=lambda mean, var, count, x, a: average(var, x.std(0, ddof=1), count, a)
                ),
                "You average standard deviations; the second statistic is the variance.",
                "Multiply x by 10: with momentum 1 the variance must grow by 100.",
                RUNNING,
            ),
            Mistake(
                update_with(var=around_the_running_mean),
                "You took the variance around the running mean, not around that of x.",
                "Add 100 to x: the new variance must stay as it is.",
                RUNNING,
            ),
            Mistake(
                added,
                "You add the new values, but the old ones keep their full weight.",
                "If all mini-batches have the mean 3, a running mean of 3 must stay at 3.",
                RUNNING,
            ),
            Mistake(
                lambda mean, var, count, x, a: (x.mean(axis=0), x.var(axis=0, ddof=1), count + 1),
                "You return the statistics of the mini-batch, so nothing is remembered.",
                "With momentum 0.1 the new mean must stay close to the old one.",
                RUNNING,
            ),
            Mistake(
                update_with(weight=lambda count, a: 1 / max(count, 1) if a is None else a),
                "In the cumulative average you divide by the old count; the new x counts, too.",
                "The second mini-batch must get the weight 1/2.",
                "Bias, variance and age of the estimate",
            ),
            Mistake(
                update_with(weight=lambda count, a: 0.1 if a is None else a),
                "You took momentum=None for 0.1; it means the cumulative average.",
                "At count = 0 the first mini-batch must replace the start.",
                "Bias, variance and age of the estimate",
            ),
            Mistake(
                update_with(weight=lambda count, a: a or None),
                "You took momentum 0 for None, because `or` takes 0 for false: ask `is None`.",
                "With momentum 0 nothing must change but the count.",
                DIRECTIONS,
            ),
            Mistake(
                not_counted,
                "You do not count the mini-batch.",
                "After the first one the count is 1.",
                "Bias, variance and age of the estimate",
            ),
        ),
        hint="Find the weight of the new values first: momentum, or 1/t in step t.",
    ),
    Exercise(
        name="to-torch",
        page=PAGE,
        asks="to_torch(momentum, moving_variance, m) returns PyTorch's momentum and running_var",
        solution=to_torch,
        cases=lambda rng: [(0.9, rng.uniform(1, 4, 2), 2), (0.99, rng.uniform(1, 4, 3), 8)],
        returns=("momentum", "running_var"),
        mistakes=(
            Mistake(
                to_torch_with(momentum=lambda a: a),
                "You kept the momentum; Keras weighs the old value with it, PyTorch the new one.",
                "With 0.99 almost only the last mini-batch would count in PyTorch.",
                DIRECTIONS,
            ),
            Mistake(
                to_torch_with(var=lambda v, m: v),
                "You kept the variance; Keras has stored the biased one.",
                "For m = 2 the two differ by a factor of 2.",
                "Biased or unbiased variance (optional)",
            ),
            Mistake(
                lambda momentum, moving_variance, m: (momentum, moving_variance),
                "You kept both numbers, but both conventions differ.",
                "Update both kinds of statistics with the same 400 mini-batches, and compare.",
                DIRECTIONS,
            ),
            Mistake(
                to_torch_with(var=lambda v, m: (m - 1) / m * v),
                "You converted the variance from unbiased to biased, which is the other way round.",
                "An unbiased variance is larger than the biased one.",
                RUNNING,
            ),
            Mistake(
                to_torch_with(var=lambda v, m: (m / (m - 1)) ** 0.5 * v),
                "You took the root of the factor, which is right for a standard deviation.",
                "For m = 2 the variance must double.",
                RUNNING,
            ),
        ),
        hint="One sentence for each: whose weight is the momentum, and which divisor has the "
        "variance?",
    ),
)

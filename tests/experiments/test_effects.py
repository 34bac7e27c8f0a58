"""Every judge finds an effect that was put there, and asks its margin whether it counts.

Nothing is trained: results are made up, with 16 seeds whose differences are the effect and a little
noise. A new judge goes into `INJECTIONS`, or into `LIMITS` if it compares one arm with a limit, and
its margin or limit into `PINNED`.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pytest

from bnlib.experiments import (
    batch_size,
    conditioning,
    conversion,
    convolution,
    covariate_shift,
    detached_statistics,
    divergence,
    dropout,
    effective_rates,
    fine_tuning,
    gradient_accumulation,
    gradient_growth,
    halves,
    inference,
    learning_rates,
    orthogonal_weights,
    placement,
    rank_collapse,
    regularization,
    reshuffling,
    saturation,
    shifted_batch_norm,
    sigmoid_network,
    signal_propagation,
    small_batches,
    smoothness,
    trainable_depth,
    variance_shift,
)
from bnlib.experiments.engine import drift
from bnlib.experiments.engine.regularizers import Curves
from bnlib.experiments.records.registry import all_experiments
from bnlib.experiments.records.verdict import Verdict

SEEDS = 16
COMMON = np.random.default_rng(1).normal(0, 0.05, SEEDS)  # what both arms of a seed share
NOISE = np.random.default_rng(0).normal(size=SEEDS)
NOISE -= NOISE.mean()
QUIET = 0.01  # standard deviation of the noise, in margins
OPPOSITE = {"supported": "refuted", "refuted": "supported"}


def made(module, settings=None, **fields):
    """Make a result of 16 seeds; what is not given is None, as no judge looks at it."""
    absent = {field.name: None for field in dataclasses.fields(module.Result)}
    config = module.Config(**{"seeds": SEEDS, **(settings or {})})
    return module.Result(**{**absent, "config": config, **fields})


def arms(control, treatment):
    """Stack two arms, (2, k), with what their seeds share."""
    return np.stack([control + COMMON, treatment + COMMON])


def batch_sizes(d):
    config = batch_size.Config(seeds=SEEDS)
    none, batch = arms(0 * d, d)
    zero = np.zeros((len(config.sizes), SEEDS))
    losses = {}
    for norm, growth in (("none", none), ("batch", batch)):
        test = np.concatenate([zero[:-1], growth[None]])
        for regime in batch_size.REGIMES:
            losses[norm, regime] = batch_size.Losses(None, zero, test)
    return batch_size.judge(made(batch_size, losses=losses))


def conditions(d):
    steps = np.broadcast_to(10 ** arms(2 + d, 2 + 0 * d)[:, None], (2, 4, SEEDS))
    return conditioning.judge(made(conditioning, steps=steps))


def conversions(d):
    wrong, right = arms(0.8 - d, 0.8 + 0 * d)
    accuracy = dict.fromkeys(conversion.MISTAKES, wrong) | {conversion.RIGHT: right}
    return conversion.judge(made(conversion, accuracy=accuracy))


def convolutions(d):
    test = {}
    for arm, cost in zip(("none", "batch"), arms(0.2 + d, 0.2 + 0 * d), strict=True):
        test[arm, "constant", "eval", "constant"] = np.full(SEEDS, 0.9)
        for light in ("batch", "example"):
            test[arm, "batch", "eval", light] = 0.9 - cost
    return convolution.judge(made(convolution, test=test))


def shifts(d):
    table = np.broadcast_to(arms(d, 0 * d)[:, None], (2, 2, 5, SEEDS))
    shift = dict.fromkeys(covariate_shift.DEFINITIONS, table)
    return covariate_shift.judge(made(covariate_shift, shift=shift, loss=0 * table))


def explanations(d):
    """Seeds with d > 0 differ at equal rates alone, others at equal predictions alone."""
    rates = np.log10(covariate_shift.Config().rates)[:, None]
    shift = np.stack([rates + 0 * d, rates + np.maximum(d, 0)])[None]  # (a, n, r, k)
    curvature = np.stack([0 * shift[0, 0], 0 * shift[0, 0] + np.abs(d)])[None]
    settings = {"architectures": ("relu",), "depths": (8,)}
    result = made(
        covariate_shift,
        settings,
        shift=dict.fromkeys(covariate_shift.DEFINITIONS, shift),
        curvature=curvature,
        loss=0 * shift,
    )
    return covariate_shift.judge_explanation(result, 0)


def detached_bias(d):
    return detached(5 + d, 2 + 0 * d)["bias"]


def detached_loss(d):
    return detached(5 + 0 * d, 2 + d)["loss"]


def detached(bias, loss):
    def rows(correct, wrong):
        both = arms(0 * wrong + correct, wrong)
        shape = SEEDS, detached_statistics.Config().steps
        names = detached_statistics.ARMS
        return {n: np.broadcast_to(a[:, None], shape) for n, a in zip(names, both, strict=True)}

    result = made(detached_statistics, bias=rows(5, bias), loss=rows(2, loss))
    return detached_statistics.judge(result)


def divergences(d):
    activation = np.zeros((1, 1, SEEDS, 2, 2))  # (n, r, k, steps + 1, l)
    activation[0, 0, :, 1] = arms(0 * d, d).T
    loss = np.broadcast_to([1.0, 2 * divergence.EXPLODED], (1, 1, SEEDS, 2))
    settings = {"norms": ("none",), "rates": (1.0,), "depth": 2, "steps": 1}
    return divergence.judge(made(divergence, settings, loss=loss, activation=activation))


def curve(test, *, train=((2.0, 0.5),)):
    """Make the curves of an arm of two records with a constant test loss, (k,)."""

    def scores(loss):
        return np.repeat(np.broadcast_to(loss, (SEEDS, 2))[..., None], 3, axis=-1)

    return Curves(0.1, 0.0, np.arange(2), scores(train), scores(1.0), scores(test[:, None]))


def dropouts(d):
    """Dropout neither gains nor harms without the norm, and harms by d with it."""
    without, harmed = map(curve, arms(1 + 0 * d, 1 + d))
    config = dropout.Config()
    curves = {("none", "no"): without, ("none", config.places[0]): without}
    curves |= {("batch", "no"): without} | {("batch", place): harmed for place in config.places}
    return dropout.judge(made(dropout, curves=curves))


def effective(d):
    squared = np.ones((2, SEEDS, 2, 3))  # (r, k, t, l)
    squared[1, :, 1] = 10 ** d[:, None]
    loss = np.zeros((2, SEEDS, 2))
    settings = {"rates": (1.0, 100.0), "steps": 1}
    return effective_rates.judge(made(effective_rates, settings, squared_norm=squared, loss=loss))


def accumulations(d):
    error = np.broadcast_to(arms(1 + 0 * d, 1 + d)[:, None], (2, 6, SEEDS))
    return gradient_accumulation.judge(made(gradient_accumulation, error=error))


def growths(drifts):
    gradients = np.stack([drifts, np.zeros_like(drifts)], axis=-1)  # (n, k, depth + 1)
    return made(gradient_growth, gradients={"sigmoid": gradients})


def drifts_of_gradients(d):
    return gradient_growth.judge_difference(growths(arms(9 + d, 9 + 0 * d)))


def drifted(outcome):
    return gradient_growth.judge(growths(np.stack([outcome + 5, outcome])))


def exploded(outcome):
    return gradient_growth.judge_explosion(growths(np.stack([outcome - 5, outcome])))


def weighted(grown):
    gradients = np.stack([grown, np.zeros_like(grown)], axis=-1)  # (2, k, depth + 1)
    return made(orthogonal_weights, gradients=gradients)


def growths_by_weights(d):
    return orthogonal_weights.judge_difference(weighted(arms(9 + d, 9 + 0 * d)))


def bounded(outcome):
    return orthogonal_weights.judge(weighted(np.stack([outcome + 5, outcome])))


def modes(d):
    """Predictions change in train mode by d, or by -d in eval mode."""
    shape = SEEDS, len(inference.Config().test_sizes)
    train, evaluation = (np.broadcast_to(np.maximum(s * d, 0)[:, None], shape) for s in (1, -1))
    changed = {inference.TRAIN: train, inference.EVAL: evaluation}
    return inference.judge(made(inference, changed=changed))


def staleness(d):
    fresh, stale = (a[:, None] for a in arms(0.8 + 0 * d, 0.8 - d))
    result = made(
        inference,
        {"checkpoints": (300,)},
        accuracy={inference.RECALIBRATED: fresh, 0.1: stale},
    )
    return inference.judge_staleness(result, 0.1, 300)


FINE = tuple(10 ** np.linspace(-2, 1, 1001))  # rates, a hundredth of a margin apart


def largest_rates(d):
    trains = np.log10(FINE)[:, None] <= arms(-0.5 + 0 * d, -0.5 + d)[:, None]  # (n, r, k)
    accuracy = np.where(trains, 0.9, 0.1)[:, None, ..., None]
    return learning_rates.judge_rates(rated(accuracy, (1.0,)))


def rated(accuracy, scales):
    """Make a result of the accuracies after the last of the steps, (n, s, r, k, 1)."""
    settings = {"rates": FINE, "budgets": (5,), "scales": scales}
    return made(learning_rates, settings, accuracy=accuracy)


def speeds(d):
    """The accuracy rises in a line with the logarithm of the steps."""
    settings = {"rates": (0.1,), "budgets": (800,)}
    checkpoints = np.log10(learning_rates.Config(**settings).checkpoints)
    middle = arms(1.8 + d, 1.8 + 0 * d)[:, None, None, :, None]  # when it is 0.75
    accuracy = 0.75 + 0.5 * (checkpoints - middle)
    return learning_rates.judge_speed(made(learning_rates, settings, accuracy=accuracy))


def shares(d):
    """Of the rates, half train without the norm, and d more with it."""
    share = arms(0.5 + 0 * d, 0.5 + d)
    trains = np.linspace(0, 1, len(FINE))[:, None] < share[:, None]  # (n, r, k)
    accuracy = np.broadcast_to(np.where(trains, 0.9, 0.1)[:, None], (2, 2, len(FINE), SEEDS))
    return initialized(accuracy, "share of scales and rates that train")


def spreads(d):
    """The second scale is less accurate than the first, and without the norm by d less."""
    first, second = 0.8 + 0 * arms(d, d), 0.6 + arms(-d, 0 * d)
    accuracy = np.stack([first, second], axis=1)[:, :, None]
    accuracy = np.broadcast_to(accuracy, (2, 2, len(FINE), SEEDS))
    tuned = (f"accuracy, rate tuned at {at}" for at in ("s = 1", "each s"))
    return initialized(accuracy, *tuned)


def initialized(accuracy, *measures):
    verdicts = learning_rates.judge_initialization(rated(accuracy[..., None], (1.0, 2.0)))
    return {measure: verdicts[measure, "5 steps"] for measure in measures}


def fine_tuned(d):
    """With frozen statistics, the accuracy is by d higher, at all times."""
    settings = {"trained": ("all",), "contrasts": (1.0,), "rates": (0.1,), "budgets": (5, 10)}
    tuned = {}
    for arm, each in zip(("moving", "frozen"), arms(0.8 + 0 * d, 0.8 + d), strict=True):
        accuracy = np.broadcast_to(each[:, None], (1, SEEDS, 2))
        tuned[arm, "all", 1.0] = fine_tuning.Tuned(placement.Accuracies(accuracy, accuracy), None)
    return fine_tuning.judge(made(fine_tuning, settings, tuned=tuned))


def placed(d):
    """The accuracy is the same at all times, and with BN before the activation by d more."""
    return placement.judge(placing(arms(0.8 + 0 * d, 0.8 + d)[:, :, None]))


def placed_speed(d):
    """The accuracy rises in a line with the logarithm of the steps, as in `speeds`."""
    checkpoints = np.log10(placement.Config(budgets=(800,)).checkpoints)
    middle = arms(1.8 + d, 1.8 + 0 * d)[:, :, None]  # when it is at the target
    return placement.judge_speed(placing(0.9 + 0.5 * (checkpoints - middle)))


def placing(accuracy):
    """Make a result of the accuracies after and before, (2, k, c), at one rate."""
    settings = {"activations": ("relu",), "depths": (2,), "rates": (0.1,), "budgets": (800,)}
    shape = 1, SEEDS, len(placement.Config(**settings).checkpoints)
    curves = {}
    for arm, each in zip(("after", "before"), accuracy, strict=True):
        curves[arm, "relu", 2] = placement.Accuracies(*[np.broadcast_to(each, shape)] * 2)
    return made(placement, settings, curves=curves)


def halved_speed(d):
    """The accuracy rises in a line with the logarithm of the steps, as in `placed_speed`."""
    checkpoints = np.log10(halves.Config(budgets=(800,)).checkpoints)
    middle = arms(1.8 + d, 1.8 + 0 * d)[:, :, None]
    return halves.judge(halving(0.75 + 0.5 * (checkpoints - middle)))


def halved(d):
    """The accuracy is the same at all times, and with both halves by d more."""
    result = halving(arms(0.8 + 0 * d, 0.8 + d)[:, :, None])
    return halves.compare(result, "scale", "batch", 800)


def halving(accuracy):
    """Make a result of the accuracies with one half and with both, (2, k, c), at one rate."""
    settings = {"activations": ("relu",), "rates": (0.1,), "budgets": (800,)}
    shape = 1, SEEDS, len(halves.Config(**settings).checkpoints)
    curves = {
        (arm, "relu"): halves.Accuracies(*[np.broadcast_to(each, shape)] * 2)
        for arm, each in zip(("center", "batch"), accuracy, strict=True)
    }
    curves["scale", "relu"] = curves["center", "relu"]
    return made(halves, settings, curves=curves)


def ranks(d):
    table = np.broadcast_to(arms(5 + 0 * d, 5 + d)[..., None], (2, SEEDS, 7))
    keys = [(rank, place) for rank in rank_collapse.RANKS for place in rank_collapse.PLACES]
    return rank_collapse.judge(made(rank_collapse, ranks=dict.fromkeys(keys, table)))


def regularized(d):
    control, treatment = map(curve, arms(1 + d, 1 + 0 * d))
    curves = {"none": control, "population": control, "batch": treatment}
    result = made(regularization, curves=curves)
    compared = {"compared": regularization.compare(result, "none", "batch")}
    return compared | regularization.judge(result)


def ghosts(d):
    """The parts gain d over the whole mini-batch, and with other seeds too."""
    whole, parts = map(curve, arms(1 + d, 1 + 0 * d))
    curves = {"batch": whole, "ghost-8": parts, "batch again": whole, "ghost-8 again": parts}
    return regularization.judge_ghosts(made(regularization, curves=curves))


def mild(outcome, gain=1.0):
    """BN gains so much, where the best regularizer, dropout, gains 1."""
    without = 3 + COMMON
    losses = {
        "none": without,
        "dropout": without - gain,
        "weight decay": without,
        "batch": without - outcome,
    }
    curves = {arm: curve(loss) for arm, loss in losses.items()}
    return regularization.judge_mildness(made(regularization, curves=curves))


def reshuffled(d):
    """With mini-batches that are drawn anew, the accuracy is by d higher, at all times."""
    settings = {"norms": ("batch",), "others": (), "rates": (0.1,)}
    shape = 1, SEEDS, len(reshuffling.Config().epochs)
    curves = {}
    for order, each in zip(("fixed", "anew"), arms(0.8 + 0 * d, 0.8 + d), strict=True):
        accuracy = np.broadcast_to(each[:, None], shape)
        curves[order, "batch"] = placement.Accuracies(accuracy, accuracy)
    result = made(reshuffling, settings, curves=curves)
    return reshuffling.judge(result) | {
        "BN": reshuffling.judge_batch_norm(result)["batch", "fixed", "4 epochs"]
    }


def saturated(d):
    """The share of saturated outputs falls by d with the norm."""
    return saturation.judge_difference(saturating(arms(0.5 + 0 * d, 0.5 - d)))


def saturated_accuracy(d):
    return saturation.judge_training(saturating(arms(0.5 + 0 * d, 0.5 + d)))


def unhealthy(outcome):
    return saturation.judge(saturating(np.stack([outcome / 2, outcome])))


def saturating(values):
    """Make a result of shares and accuracies that are the same at all times, (2, k)."""
    config = saturation.Config(activations=("tanh",), scales=(10.0,))
    times = 1 + len(config.budgets)
    accuracy = {
        ("tanh", norm, 10.0): np.broadcast_to(each, (times, SEEDS))
        for norm, each in zip(config.norms, values, strict=True)
    }
    shares = {arm: np.repeat(each[..., None], 2, axis=-1) for arm, each in accuracy.items()}
    settings = {"activations": config.activations, "scales": config.scales}
    return made(saturation, settings, saturated=shares, accuracy=accuracy)


def recalibrated(d):
    losses = {("before", 0.5): arms(1 + d, 1 + 0 * d)}
    return variance_shift.judge(made(variance_shift, losses=losses))


def injected(d):
    """Both norms with shift are slower by d than the first norm without."""
    loss = np.broadcast_to(1 + COMMON, (1, 2, 2, 1, SEEDS)).copy()  # (b, n, s, r, k)
    loss[0, :, 1] += d
    distance = np.zeros_like(loss)
    distance[0, 1, 1] = 1 + NOISE  # the shift arrives
    result = made(shifted_batch_norm, SHIFTED, loss=loss, distance=distance)
    verdicts = shifted_batch_norm.judge(result) | shifted_batch_norm.judge_budgets(result)
    return verdicts | {"at one rate": shifted_batch_norm.judge_rate(result, 1, 0)}


SHIFTED = {"strengths": (0.0, 1.0), "rates": (0.1,)}


def received(d):
    distance = np.zeros((1, 2, 2, 1, SEEDS))
    distance[0, 0, 0, 0], distance[0, 1, 1, 0] = arms(0 * d, d)
    result = made(shifted_batch_norm, SHIFTED, distance=distance, loss=np.ones_like(distance))
    return shifted_batch_norm.judge_shift(result, 1)


def sigmoid_drift(d):
    return sigmoid(arms(d, 0 * d), arms(d, d))["moments"]


def sigmoid_accuracy(d):
    verdicts = sigmoid(arms(d, d), arms(0.8 + 0 * d, 0.8 + d))
    return {name: verdicts[name] for name in ("early", "end")}


def sigmoid(drift_of_moments, accuracy):
    accuracy = np.broadcast_to(accuracy[..., None], (2, SEEDS, 13))
    return sigmoid_network.judge(made(sigmoid_network, drift=drift_of_moments, accuracy=accuracy))


def propagations(d):
    activations = np.zeros((2, 5, SEEDS, 3))
    activations[..., -1] = arms(9 + d, 9 + 0 * d)[:, None]
    result = made(signal_propagation, activations=activations)
    by_scale = dict(enumerate(signal_propagation.judge_scales(result)))
    return {"all": signal_propagation.judge(result)} | by_scale


def sizes(d):
    error = {
        norm: np.broadcast_to(each[:, None], (SEEDS, 6))
        for norm, each in zip(("group", "batch"), arms(0.1 + 0 * d, 0.1 + d), strict=True)
    }
    return small_batches.judge(made(small_batches, error=error))


def smoothed(d):
    config = smoothness.Config()
    shape = 2, len(config.grid), SEEDS, config.steps // config.every + 1
    values = np.broadcast_to(arms(d, 0 * d)[:, None, :, None, None], (*shape, 3))
    loss = np.full(shape, smoothness.LOSS)
    return smoothness.judge(made(smoothness, values=values, loss=loss))


def depths(d):
    """The accuracy falls in a line with the logarithm of the depth."""
    settings = {"depths": tuple(2 ** np.arange(12)), "rates": (0.1,)}
    deepest = arms(5 + 0 * d, 5 + d)[:, None, None]  # log2 of the depth at the target
    accuracy = trainable_depth.TARGET + 0.03 * (deepest - np.arange(12)[:, None, None])
    result = made(trainable_depth, settings, accuracy=accuracy[None], validation=accuracy[None])
    return trainable_depth.judge(result)


class Injection(NamedTuple):
    """How an effect gets into what a judge sees.

    `judged` takes a difference for each seed, (k,), in the unit of the claim, and returns the
    verdict on it, or several; `module` and `margin` name the constant that it is judged by.
    """

    judged: Callable[[Any], Verdict | Mapping[Any, Verdict]]
    module: Any
    margin: str = "MARGIN"


INJECTIONS = (
    Injection(batch_sizes, batch_size),
    Injection(conditions, conditioning),
    Injection(conversions, conversion),
    Injection(convolutions, convolution),
    Injection(shifts, covariate_shift),
    Injection(explanations, covariate_shift),
    Injection(detached_bias, detached_statistics, "BIAS_MARGIN"),
    Injection(detached_loss, detached_statistics, "LOSS_MARGIN"),
    Injection(divergences, divergence),
    Injection(dropouts, dropout),
    Injection(effective, effective_rates),
    Injection(fine_tuned, fine_tuning),
    Injection(accumulations, gradient_accumulation),
    Injection(drifts_of_gradients, gradient_growth),
    Injection(growths_by_weights, orthogonal_weights),
    Injection(modes, inference),
    Injection(largest_rates, learning_rates, "RATE_MARGIN"),
    Injection(speeds, learning_rates, "SPEED_MARGIN"),
    Injection(shares, learning_rates, "SHARE_MARGIN"),
    Injection(spreads, learning_rates, "SHARE_MARGIN"),
    Injection(halved, halves),
    Injection(halved_speed, halves, "SPEED_MARGIN"),
    Injection(placed, placement),
    Injection(placed_speed, placement, "SPEED_MARGIN"),
    Injection(ranks, rank_collapse),
    Injection(regularized, regularization),
    Injection(ghosts, regularization),
    Injection(reshuffled, reshuffling),
    Injection(saturated, saturation),
    Injection(saturated_accuracy, saturation),
    Injection(injected, shifted_batch_norm),
    Injection(received, shifted_batch_norm, "SHIFT_MARGIN"),
    Injection(sigmoid_drift, sigmoid_network),
    Injection(sigmoid_accuracy, sigmoid_network, "ACCURACY_MARGIN"),
    Injection(propagations, signal_propagation),
    Injection(sizes, small_batches),
    Injection(smoothed, smoothness),
    Injection(depths, trainable_depth),
    Injection(recalibrated, variance_shift),
)


class Limit(NamedTuple):
    """How an outcome of one arm gets into a judge that compares it with a limit, without a margin.

    `judged` takes the outcome of each seed, (k,), in the unit of the constant `name` of `module`;
    what is `above` it supports the claim, or refutes it.
    """

    judged: Callable[[Any], Verdict | Mapping[Any, Verdict]]
    module: Any
    above: str
    name: str = "LIMIT"


LIMITS = (
    Limit(drifted, gradient_growth, "refuted"),
    Limit(exploded, gradient_growth, "supported"),
    Limit(bounded, orthogonal_weights, "refuted"),
    Limit(mild, regularization, "refuted", "MILD"),
    Limit(unhealthy, saturation, "refuted"),
)

PINNED = {
    (batch_size, "MARGIN"): (0.05, "the true class gets 5 % more probability"),
    (conditioning, "MARGIN"): (np.log10(2), "training takes twice as long"),
    (conversion, "MARGIN"): (0.02, "standard error of one accuracy near 0.8 on 360 images"),
    (convolution, "MARGIN"): (0.02, "standard error of a difference at 0.85 on 640 images each"),
    (drift, "MARGIN"): (0.1, "twice the standard error of 16 seeds that differ in nothing else"),
    (detached_statistics, "BIAS_MARGIN"): (1.0, "the offset, all that a bias is of use for"),
    (detached_statistics, "LOSS_MARGIN"): (0.015, "1 % of the loss at the end"),
    (divergence, "MARGIN"): (1.0, "decades; more than chance does to one layer"),
    (divergence, "EXPLODED"): (10 * np.log(10), "ten times the loss of guessing"),
    (divergence, "DEAD"): (-3.0, "decades: the output does not depend on the input"),
    (dropout, "MARGIN"): (0.05, "the true class gets 5 % more probability"),
    (effective_rates, "MARGIN"): (0.5, "decades, a step of a usual grid of rates"),
    (fine_tuning, "MARGIN"): (0.02, "as of placement; standard error of a difference at 0.9"),
    (fine_tuning, "LEARNED"): (0.4, "twice the accuracy of a guess among five classes"),
    (gradient_accumulation, "MARGIN"): (0.05, "a learning rate is rarely known to 5 %"),
    (gradient_growth, "MARGIN"): (1.0, "decades, as the limit"),
    (gradient_growth, "LIMIT"): (1.0, "2.3 % a layer: neither vanishing nor exploding"),
    (orthogonal_weights, "MARGIN"): (1.0, "decades, as the limit"),
    (orthogonal_weights, "LIMIT"): (1.0, "as of gradient_growth, but at any depth"),
    (inference, "MARGIN"): (0.01, "about 4 of 384 images"),
    (learning_rates, "RATE_MARGIN"): (0.3, "decades, a factor of 2; more than a step of the grid"),
    (learning_rates, "SPEED_MARGIN"): (0.18, "decades, a factor of 1.5: a step with BN costs more"),
    (learning_rates, "SHARE_MARGIN"): (0.1, "one network, or example, in ten"),
    (learning_rates, "TRAINED"): (0.75, "as in trainable_depth"),
    (learning_rates, "TARGETS"): ((0.5, 0.75, 0.9), "from half of what is learned to nearly all"),
    (halves, "MARGIN"): (0.02, "as of placement"),
    (halves, "SPEED_MARGIN"): (0.18, "decades, as of learning_rates"),
    (halves, "LEARNED"): (0.2, "twice the accuracy of a guess among ten classes"),
    (placement, "MARGIN"): (0.02, "what was reported for one network; as of sigmoid_network"),
    (placement, "SPEED_MARGIN"): (0.18, "decades, as of learning_rates"),
    (placement, "LEARNED"): (0.2, "twice the accuracy of a guess among ten classes"),
    (rank_collapse, "MARGIN"): (1.0, "one more direction"),
    (regularization, "MARGIN"): (0.05, "the true class gets 5 % more probability"),
    (regularization, "MILD"): (
        0.5,
        "half as much as a method made for it",
    ),
    (reshuffling, "MARGIN"): (0.01, "one example in a hundred, as of small_batches"),
    (reshuffling, "LEARNED"): (0.2, "twice the accuracy of a guess among ten classes"),
    (saturation, "MARGIN"): (0.05, "of shares of outputs and of accuracies"),
    (saturation, "LIMIT"): (0.25, "less than one output in four"),
    (saturation, "SATURATED"): (0.9, "the slope is less than 19 % of the largest one"),
    (shifted_batch_norm, "MARGIN"): (0.1, "nats, about 4 % of the loss of guessing"),
    (shifted_batch_norm, "GUESSING"): (np.log(10), "ten classes of equal probability"),
    (shifted_batch_norm, "LEARNED"): (0.9 * np.log(10), "a tenth better than guessing"),
    (sigmoid_network, "ACCURACY_MARGIN"): (0.02, "standard error of a difference at 0.95"),
    (signal_propagation, "MARGIN"): (1.0, "decades; chance at He's scale drifts by 0.8"),
    (small_batches, "MARGIN"): (0.01, "a tenth of what Wu and He report at mini-batches of 2"),
    (small_batches, "GUESSING"): (0.9, "error of a guess among ten classes"),
    (small_batches, "JUDGED"): ((2, 4, 8), "what the claim calls small"),
    (smoothness, "MARGIN"): (0.3, "decades, a factor of 2"),
    (smoothness, "LATE"): (0.75, "the last quarter is the end of the training"),
    (smoothness, "LOSS"): (1.0, "which both norms pass at all rates of the chapter"),
    (smoothness, "BANDWIDTH"): (0.25, "records of a loss within a factor of about 1.3"),
    (trainable_depth, "MARGIN"): (0.5, "half a step of a grid of powers of two"),
    (trainable_depth, "TARGET"): (0.75, "far from chance, 0.1, and from the best, 0.97"),
    (variance_shift, "MARGIN"): (0.05, "the true class gets 5 % more probability"),
}
"""What decides an answer, its value, and why it has it: a change has to be made here too."""


def verdicts(injection, margins):
    """Judge an effect of so many margins."""
    unit = getattr(injection.module, injection.margin)
    judged = injection.judged(unit * (margins + QUIET * NOISE))
    return {"": judged} if isinstance(judged, Verdict) else judged


def named(injection):
    return injection.judged.__name__


@pytest.mark.parametrize(
    ("margins", "answer"),
    [
        (1.5, "supported"),
        (1.1, "supported"),
        (0.9, "no effect"),
        (0.2, "no effect"),
        (-0.2, "no effect"),
        (-0.9, "no effect"),
        (-1.1, "refuted"),
        (-1.5, "refuted"),
    ],
)
@pytest.mark.parametrize("injection", INJECTIONS, ids=named)
def test_answer_follows_the_effect_and_the_margin(injection, margins, answer):
    if injection.judged is modes and margins < 0:
        answer = "refuted"  # one prediction that changes in eval mode is enough
    for case, verdict in verdicts(injection, margins).items():
        assert verdict.answer == answer, case
        assert verdict.effect == pytest.approx(margins * verdict.margin, rel=0.03), case


@pytest.mark.parametrize("injection", INJECTIONS, ids=named)
def test_a_judge_that_takes_another_margin_is_noticed(injection, monkeypatch):
    """A mutant of each margin changes an answer that the test above expects."""
    for factor, margins in ((0.5, 0.9), (2, 1.1)):
        before = getattr(injection.module, injection.margin)
        difference = before * (margins + QUIET * NOISE)
        with monkeypatch.context() as patch:
            patch.setattr(injection.module, injection.margin, factor * before)
            judged = injection.judged(difference)
        mutated = {"": judged} if isinstance(judged, Verdict) else judged
        expected = {"supported" if factor < 1 else "no effect"}
        assert {verdict.answer for verdict in mutated.values()} == expected


@pytest.mark.parametrize("injection", INJECTIONS, ids=named)
def test_arms_that_are_the_same_tell_nothing(injection):
    judged = injection.judged(np.zeros(SEEDS))
    for verdict in [judged] if isinstance(judged, Verdict) else judged.values():
        if injection.judged is largest_rates:  # the steps of the grid leave some room
            assert verdict.answer == "no effect"
        else:
            assert verdict.answer == "cannot tell"
            assert verdict.reason


def test_stale_statistics_are_judged_by_the_same_margin():
    for margins, answer in ((1.1, "supported"), (0.9, "no effect"), (-1.1, "refuted")):
        assert staleness(inference.MARGIN * (margins + QUIET * NOISE)).answer == answer


def at_limit(limit, times, factor=1.0):
    """Judge an outcome of so many times the limit, with a limit that a mutant took times."""
    before = getattr(limit.module, limit.name)
    outcome = before * (times + QUIET * NOISE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limit.module, limit.name, factor * before)
        judged = limit.judged(outcome)
    return [judged] if isinstance(judged, Verdict) else [*judged.values()]


@pytest.mark.parametrize("times", [0.5, 0.9, 1.1, 1.5])
@pytest.mark.parametrize("limit", LIMITS, ids=named)
def test_answer_follows_the_outcome_and_the_limit(limit, times):
    expected = limit.above if times > 1 else OPPOSITE[limit.above]
    sign = 1 if limit.above == "supported" else -1
    for verdict in at_limit(limit, times):
        assert verdict.answer == expected
        effect = sign * getattr(limit.module, limit.name) * (times - 1)
        assert verdict.effect == pytest.approx(effect, rel=0.03)


@pytest.mark.parametrize("limit", LIMITS, ids=named)
def test_a_judge_that_takes_another_limit_is_noticed(limit):
    """A mutant of each limit changes an answer that the test above expects."""
    for factor, times in ((0.5, 0.9), (2, 1.1)):
        expected = limit.above if factor < 1 else OPPOSITE[limit.above]
        assert {verdict.answer for verdict in at_limit(limit, times, factor)} == {expected}


def test_nothing_is_mild_where_the_best_regularizer_gains_less_than_the_margin():
    for margins, answer in ((1.1, "supported"), (0.9, "cannot tell")):
        gain = regularization.MARGIN * margins
        verdict = mild(0.1 * gain * (1 + QUIET * NOISE), gain)
        assert verdict.answer == answer
    assert verdict.reason == "dropout gains nothing"


def test_every_experiment_has_an_injection():
    modules = {injection.module.__name__.rpartition(".")[2] for injection in INJECTIONS}
    assert modules == {*all_experiments()}


@pytest.mark.parametrize(
    ("module", "name"), PINNED, ids=lambda each: getattr(each, "__name__", each).split(".")[-1]
)
def test_what_decides_an_answer_is_changed_on_purpose(module, name):
    value, reason = PINNED[module, name]
    assert getattr(module, name) == value, f"{name} was {value}: {reason}"


def test_everything_that_is_called_a_margin_is_pinned():
    """Two modules take that of `drift`, under names of their own."""
    found = {
        (f"bnlib.experiments.{name}", constant)
        for name, experiment in all_experiments().items()
        for constant in experiment.run.__globals__
        if constant.endswith(("MARGIN", "TARGET", "TARGETS", "LIMIT"))
    }
    shared = {(covariate_shift, "MARGIN"), (sigmoid_network, "MARGIN")}
    shared |= {(shifted_batch_norm, "SHIFT_MARGIN")}
    assert all(getattr(module, name) == drift.MARGIN for module, name in shared)
    assert found <= {(module.__name__, name) for module, name in {*PINNED} | shared}

import copy

import numpy as np
import pytest
import torch
from networks import Twin, batch, build, each_seed
from random_inputs import SEED

from bnlib.layers import (
    SGD,
    Adam,
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Flatten,
    GroupNorm,
    Linear,
    ReLU,
    Residual,
    Sequential,
    softmax_cross_entropy,
)
from bnlib.measure import capture_outputs, covariate_shift

OPTIMIZERS = {
    "sgd": (lambda n: SGD(n, 0.3), lambda p: torch.optim.SGD(p, 0.3)),
    "momentum": (
        lambda n: SGD(n, 0.3, momentum=0.9, weight_decay=0.1),
        lambda p: torch.optim.SGD(p, 0.3, momentum=0.9, weight_decay=0.1),
    ),
    "adam": (lambda n: Adam(n, 0.05), lambda p: torch.optim.Adam(p, 0.05)),
}


def step(network, optimizer, x, labels):
    network.backward(softmax_cross_entropy(network(x), labels)[1])
    optimizer.step()


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("optimizers", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_equals_torch_by_brute_force(seeds, norm, optimizers):
    network, (x, labels) = build(seeds, norm=norm), batch(seeds)
    optimizer = optimizers[0](network)
    twins = [Twin(network, None if i == () else i) for i in each_seed(seeds)]
    step(network, optimizer, x[..., ::-1].copy(), labels)  # so that an optimizer has memory
    shift = covariate_shift(network, optimizer, softmax_cross_entropy, x, labels)
    for i, twin in zip(each_seed(seeds), twins, strict=True):
        mine, parameters = (x[i], labels[i]), twin.parameters
        reference = optimizers[1](parameters)
        twin.loss(parameters, mine[0][:, ::-1].copy(), mine[1]).backward()
        reference.step()
        before = [p.detach().clone().requires_grad_() for p in parameters]
        g = twin.gradients(before, *mine)
        for p, gradient in zip(parameters, g, strict=True):
            p.grad = gradient.clone()
        reference.step()
        for row, number in enumerate(shift.layers):
            mixed = [
                (new if owner < number else old).detach().clone().requires_grad_()
                for owner, old, new in zip(twin.numbers, before, parameters, strict=True)
            ]
            g_moved = twin.gradients(mixed, *mine)
            a, b = (
                torch.cat(
                    [v.ravel() for o, v in zip(twin.numbers, each, strict=True) if o == number]
                )
                for each in (g, g_moved)
            )
            difference, cosine = shift.difference[row][i], shift.cosine[row][i]
            np.testing.assert_allclose(difference, (a - b).norm().item(), rtol=1e-8, atol=1e-14)
            expected = torch.nn.functional.cosine_similarity(a, b, dim=0).item()
            np.testing.assert_allclose(cosine, expected, rtol=1e-8)


def test_default_takes_all_layers_with_parameters(seeds):
    network, (x, labels) = build(seeds), batch(seeds)
    shift = covariate_shift(network, SGD(network, 0.3), softmax_cross_entropy, x, labels)
    assert shift.layers == (0, 1, 3, 4, 6)
    assert shift.difference.shape == shift.cosine.shape == (5, *([] if seeds is None else [seeds]))
    chosen = covariate_shift(
        network, SGD(network, 0.3), softmax_cross_entropy, x, labels, layers=[-1, 3]
    )
    assert chosen.layers == (6, 3)
    np.testing.assert_array_equal(chosen.difference, shift.difference[[4, 2]])


def test_first_layer_has_no_shift_and_the_others_have(seeds):
    network, (x, labels) = build(seeds), batch(seeds)
    shift = covariate_shift(network, SGD(network, 0.3), softmax_cross_entropy, x, labels)
    np.testing.assert_array_equal(shift.difference[0], 0)
    np.testing.assert_allclose(shift.cosine[0], 1)
    assert (shift.difference[1:] > 1e-9).all()
    assert (shift.cosine[1:] < 1 - 1e-12).all()


def test_no_step_no_shift_even_with_dropout(seeds):
    network, (x, labels) = build(seeds, dropout=True), batch(seeds)
    shift = covariate_shift(network, SGD(network, 0.0), softmax_cross_entropy, x, labels)
    np.testing.assert_array_equal(shift.difference, 0)
    np.testing.assert_allclose(shift.cosine, 1)


def test_each_seed_has_its_own_learning_rate():
    network, (x, labels) = build(2), batch(2)
    shift = covariate_shift(
        network, SGD(network, np.array([0.0, 0.3])), softmax_cross_entropy, x, labels, [6]
    )
    assert shift.difference[0, 0] == 0 < shift.difference[0, 1]


def test_a_block_is_one_layer():
    flat, (x, labels) = build(), batch()
    nested = Sequential(flat[:3], flat[3:6], flat[6])
    shift = covariate_shift(nested, SGD(nested, 0.3), softmax_cross_entropy, x, labels)
    assert shift.layers == (0, 1, 2)
    expected = covariate_shift(flat, SGD(flat, 0.3), softmax_cross_entropy, x, labels, [6])
    np.testing.assert_array_equal(shift.difference[2], expected.difference[0])


def test_convolutional_network_with_residual_branch(rng, unchanged):
    rngs = np.random.default_rng(1 + SEED).spawn(2)
    branch = Sequential(Conv2d(3, 3, 3, rng=rngs, padding=1), GroupNorm(1, 3, seeds=2))
    network = Sequential(
        Conv2d(1, 3, 3, rng=rngs),
        BatchNorm(3, seeds=2),
        Residual(branch),
        AvgPool2d(2),
        Flatten(),
        Linear(12, 4, rng=rngs),
    )
    x, labels = rng.standard_normal((2, 5, 1, 6, 6)), rng.integers(4, size=(2, 5))
    network(x)

    def gradients(net):
        net.backward(softmax_cross_entropy(net(x), labels)[1])
        return np.concatenate([g.reshape(2, -1) for g in net[2].gradients.values()], axis=1)

    moved = copy.deepcopy(network)
    g = gradients(moved)
    SGD(moved, 0.3).step()
    g_moved = gradients(Sequential(*copy.deepcopy(moved)[:2], *copy.deepcopy(network)[2:]))
    with unchanged(network, x):
        shift = covariate_shift(network, SGD(network, 0.3), softmax_cross_entropy, x, labels, [2])
    np.testing.assert_allclose(shift.difference[0], np.linalg.norm(g - g_moved, axis=1))
    cosine = (g * g_moved).sum(1) / np.linalg.norm(g, axis=1) / np.linalg.norm(g_moved, axis=1)
    np.testing.assert_allclose(shift.cosine[0], cosine)


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_everything_stays_as_it_was(seeds, mode, unchanged):
    network, (x, labels) = build(seeds, dropout=True), batch(seeds)
    optimizer = Adam(network, 0.05)
    step(network, optimizer, x, labels)
    getattr(network, mode)()
    with unchanged(network, optimizer, x, labels):
        covariate_shift(network, optimizer, softmax_cross_entropy, x, labels)


def test_a_captured_network_stays_as_it_was(unchanged):
    network, (x, labels) = build(), batch()
    with capture_outputs(network, [2]) as outputs:
        network(x)
        with unchanged(network, outputs):
            covariate_shift(network, SGD(network, 0.3), softmax_cross_entropy, x, labels)


def test_tiny_gradients_have_a_direction():
    network, (x, labels) = build(norm=False), batch()

    def tiny(output, target):
        return tuple(1e-200 * a for a in softmax_cross_entropy(output, target))

    small = covariate_shift(network, SGD(network, 3e199), tiny, x, labels)
    plain = covariate_shift(network, SGD(network, 0.3), softmax_cross_entropy, x, labels)
    np.testing.assert_allclose(small.cosine, plain.cosine)
    np.testing.assert_allclose(small.difference[1:] * 1e200, plain.difference[1:])


def test_a_zero_gradient_has_none():
    network, (x, _) = build(norm=False), batch()

    def flat(output, target):
        return np.float64(0.0), np.zeros_like(output)

    shift = covariate_shift(network, SGD(network, 0.3), flat, x, None)
    np.testing.assert_array_equal(shift.difference, 0)
    assert np.isnan(shift.cosine).all()


def test_single_precision_is_accepted():
    network, (x, labels) = build(dtype=np.float32), batch(dtype=np.float32)
    reference, (x64, _) = build(), batch()
    shift = covariate_shift(network, SGD(network, 0.3), softmax_cross_entropy, x, labels)
    expected = covariate_shift(reference, SGD(reference, 0.3), softmax_cross_entropy, x64, labels)
    assert shift.difference.dtype == np.float64
    np.testing.assert_allclose(shift.difference, expected.difference, rtol=1e-3, atol=1e-6)


def test_wrong_arguments_are_refused():
    network, (x, labels) = build(), batch()
    loss = softmax_cross_entropy
    with pytest.raises(TypeError, match="network: expected a Sequential, got Linear"):
        covariate_shift(network[0], SGD(network[0], 0.1), loss, x, labels)
    with pytest.raises(ValueError, match="optimizer: expected the optimizer of network"):
        covariate_shift(network, SGD(build(), 0.1), loss, x, labels)
    with pytest.raises(ValueError, match="layers: expected layers with parameters, 2 is Tanh"):
        covariate_shift(network, SGD(network, 0.1), loss, x, labels, [2])
    with pytest.raises(ValueError, match="layers: expected numbers of 7 layers, got 7"):
        covariate_shift(network, SGD(network, 0.1), loss, x, labels, [7])
    bare = Sequential(ReLU())
    with pytest.raises(ValueError, match="network: expected at least one parameter"):
        covariate_shift(bare, SGD(bare, 0.1), loss, x, labels)


def test_an_error_in_the_loss_leaves_everything_as_it_was(unchanged):
    network, (x, labels) = build(), batch()
    optimizer = SGD(network, 0.1, momentum=0.9)
    with unchanged(network, optimizer), pytest.raises(ValueError, match="labels: expected shape"):
        covariate_shift(network, optimizer, softmax_cross_entropy, x, labels[:3])


def test_linear_layers_have_the_shift_of_the_formula(rng):
    # L = |x w1 w2|^2 / m, so G2 = 2 (x w1)^T (x w1) w2 / m; w1 moves by -lr times its gradient.
    network = Sequential(Linear(3, 2, rng=rng, bias=False), Linear(2, 1, rng=rng, bias=False))
    x, lr = rng.standard_normal((5, 3)), 0.1
    w1, w2 = (p.copy() for p in network.parameters.values())

    def loss(output, target):
        return np.square(output).mean(), 2 * output / len(output)

    def g2(w1):
        return 2 * (x @ w1).T @ (x @ w1) @ w2 / 5

    moved = w1 - lr * 2 * x.T @ (x @ w1 @ w2) @ w2.T / 5
    shift = covariate_shift(network, SGD(network, lr), loss, x, None)
    np.testing.assert_allclose(shift.difference[1], np.linalg.norm(g2(w1) - g2(moved)))

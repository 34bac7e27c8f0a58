import numpy as np
import pytest
import torch
from random_inputs import SEED

from bnlib.layers import SGD, Adam, Linear, ReLU, Sequential

SGD_OPTIONS = [
    {},
    {"momentum": 0.9},
    {"momentum": 0.9, "nesterov": True},
    {"weight_decay": 0.1},
    {"momentum": 0.5, "weight_decay": 0.1},
    {"momentum": 0.5, "nesterov": True, "weight_decay": 0.1},
]
ADAM_OPTIONS = [
    {},
    {"betas": (0.5, 0.9), "eps": 1e-3},
    {"weight_decay": 0.1},
    {"betas": (0.0, 0.9)},
]
CASES = [
    *((SGD, torch.optim.SGD, options) for options in SGD_OPTIONS),
    *((Adam, torch.optim.Adam, options) for options in ADAM_OPTIONS),
]


def network(seeds=None, dtype=np.float64):
    rngs = [np.random.default_rng(i + SEED) for i in range(seeds or 1)]
    rng = rngs if seeds else rngs[0]
    return Sequential(
        Linear(3, 4, rng=rng, dtype=dtype), ReLU(), Linear(4, 2, rng=rng, dtype=dtype)
    )


def set_gradients(net, seed):
    """Give each parameter a random gradient."""
    for layer in net:
        for i, (name, p) in enumerate(layer.parameters.items()):
            g = np.random.default_rng([seed + SEED, i]).standard_normal(p.shape)
            layer.gradients[name] = g.astype(p.dtype)


def values(net):
    return {name: p.copy() for name, p in net.parameters.items()}


@pytest.mark.parametrize(("ours", "theirs", "options"), CASES)
@pytest.mark.parametrize("grouped", [False, True])
def test_several_steps_equal_torch(ours, theirs, options, grouped):
    net = network()
    leaves = {name: torch.tensor(p, requires_grad=True) for name, p in net.parameters.items()}
    own = {"lr": 0.3, "weight_decay": 0.01} if grouped else {}
    named = ["0.bias", "2.weight"]
    groups = [{"names": named, **own}] if grouped else []
    optimizer = ours(net, 0.05, **options, groups=groups)
    reference = theirs(
        [
            {"params": [leaf for name, leaf in leaves.items() if name not in named]},
            {"params": [leaves[name] for name in named], **own},
        ],
        lr=0.05,
        **options,
    )
    for step in range(5):
        set_gradients(net, step)
        for name, leaf in leaves.items():
            leaf.grad = torch.tensor(net.gradients[name])
        optimizer.step()
        reference.step()
        for name, p in net.parameters.items():
            np.testing.assert_allclose(p, leaves[name].detach().numpy(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("ours", "_", "options"), CASES)
def test_a_learning_rate_for_each_seed_equals_separate_networks(ours, _, options):
    k, rates, own = 3, np.array([0.1, 0.01, 0.3]), np.array([0.2, 0.0, 0.5])
    decays = np.array([0.0, 0.1, 0.2])
    options = {**options, "weight_decay": decays}
    ensemble, alone = network(k), [network() for _ in range(k)]
    for name, p in ensemble.parameters.items():
        for i in range(k):
            alone[i].parameters[name][...] = p[i]
    optimizer = ours(ensemble, rates, **options, groups=[{"names": ["0.bias"], "lr": own}])
    optimizers = [
        ours(
            net,
            rates[i],
            **{**options, "weight_decay": decays[i]},
            groups=[{"names": ["0.bias"], "lr": own[i]}],
        )
        for i, net in enumerate(alone)
    ]
    for step in range(3):
        set_gradients(ensemble, step)
        for i, net in enumerate(alone):
            for j, layer in enumerate(net):
                for name in layer.parameters:
                    layer.gradients[name] = ensemble[j].gradients[name][i]
            optimizers[i].step()
        optimizer.step()
    for name, p in ensemble.parameters.items():
        for i in range(k):
            np.testing.assert_allclose(p[i], alone[i].parameters[name], rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize(("ours", "_", "options"), CASES)
@pytest.mark.parametrize("lr", [0.1, np.array([0.1, 0.2])])
def test_updates_are_in_place_in_float32_and_leave_the_gradients(ours, _, options, lr):
    net = network(2, np.float32)
    set_gradients(net, 0)
    arrays, before = dict(net.parameters), values(net)
    gradients = {name: g.copy() for name, g in net.gradients.items()}
    optimizer = ours(net, lr, **options)
    for _ in range(2):
        optimizer.step()
    for name, p in net.parameters.items():
        assert p is arrays[name]
        assert p.dtype == np.float32
        assert not np.array_equal(p, before[name])
        np.testing.assert_array_equal(net.gradients[name], gradients[name])


@pytest.mark.parametrize("ours", [SGD, Adam])
def test_the_learning_rate_can_be_changed_on_the_way(ours):
    net = network()
    set_gradients(net, 0)
    optimizer = ours(net, 0.1, groups=[{"names": ["0.weight"], "lr": 0.2}])
    optimizer.lr = 0.0
    before = values(net)
    optimizer.step()
    moved = {name for name, p in net.parameters.items() if not np.array_equal(p, before[name])}
    assert moved == {"0.weight"}
    with pytest.raises(ValueError, match="lr: expected finite numbers >= 0"):
        optimizer.lr = -1.0
    assert optimizer.lr == 0.0


@pytest.mark.parametrize("ours", [SGD, Adam])
def test_a_network_without_parameters_is_left_alone(ours):
    ours(ReLU(), 0.1).step()


@pytest.mark.parametrize("ours", [SGD, Adam])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1.0}, "lr: expected finite numbers >= 0, got -1.0"),
        ({"lr": np.nan}, "lr: expected finite numbers >= 0"),
        (
            {"lr": np.ones(3)},
            r"lr: expected a number or an array of shape \(2,\), got shape \(3,\)",
        ),
        ({"lr": np.ones((2, 1))}, r"got shape \(2, 1\)"),
        ({"weight_decay": -0.1}, "weight_decay: expected finite numbers >= 0"),
        ({"groups": [{"names": ["9.weight"]}]}, "unknown parameter '9.weight'"),
        ({"groups": [{"names": ["0.bias", "0.bias"]}]}, "'0.bias' is listed twice"),
        ({"groups": [{"names": ["0.bias"]}, {"names": ["0.bias"]}]}, "'0.bias' is listed twice"),
        ({"groups": [{"names": ["0.bias"], "momentum": 1}]}, "expected the keys names, lr"),
        ({"groups": [{"lr": 1.0}]}, "expected the keys names, lr"),
        ({"groups": [{"names": ["0.bias"], "lr": -1.0}]}, "lr: expected finite numbers >= 0"),
        ({"groups": [{"names": ["0.bias"], "lr": np.ones(4)}]}, r"got shape \(4,\)"),
    ],
)
def test_bad_options_are_refused(ours, options, message):
    with pytest.raises(ValueError, match=message):
        ours(network(2), **{"lr": 0.1, **options})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda net: SGD(net, 0.1, momentum=1.0), r"momentum: expected a number in \[0, 1\)"),
        (lambda net: SGD(net, 0.1, nesterov=True), "momentum: expected more than 0 with nesterov"),
        (lambda net: Adam(net, betas=(0.9, 1.0)), "betas: expected two numbers"),
        (lambda net: Adam(net, eps=-1.0), "eps: expected a finite number >= 0"),
        (lambda net: SGD(net, np.array([0.1])), r"lr: expected a number, got shape \(1,\)"),
    ],
)
def test_bad_constants_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make(network())


def test_what_is_not_a_layer_is_refused():
    with pytest.raises(TypeError, match="network: expected a Layer"):
        SGD([1, 2], 0.1)

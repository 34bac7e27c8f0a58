"""Write what the JavaScript of the explorables is compared with: numbers of bnlib, as JSON."""

import json
import sys
from itertools import pairwise, product
from pathlib import Path

import numpy as np

from bnlib.datasets import digits
from bnlib.experiments import signal_propagation
from bnlib.functional import (
    RunningStatistics,
    batch_norm_backward,
    batch_norm_forward,
    batch_norm_inference,
    group_norm_backward,
    group_norm_forward,
    instance_norm_backward,
    instance_norm_forward,
    layer_norm_backward,
    layer_norm_forward,
)
from bnlib.layers import SGD, BatchNorm, Linear, ReLU, Sequential, softmax_cross_entropy

sys.path.append(str(Path(__file__).parents[2] / "book" / "_ext"))

import explorable_figures

CASES, STEPS = 200, 20


def batch_norm_cases(rng):
    """Vary m, scale, offset, eps and the running statistics: one feature, as lists."""
    for _ in range(CASES):
        m, eps, momentum = int(rng.integers(2, 33)), 10 ** rng.uniform(-8, 0), rng.uniform()
        x = rng.normal(rng.normal(0, 5), 10 ** rng.uniform(-1, 2), (m, 1))
        (gamma, beta), dy = rng.normal(size=(2, 1)), rng.normal(size=(m, 1))
        y, cache = batch_norm_forward(x, gamma, beta, eps=eps)
        dx, dgamma, dbeta = batch_norm_backward(dy, cache)
        running = RunningStatistics(rng.normal(size=1), rng.uniform(0.5, 2, 1))
        before = [running.mean, running.var]
        running.update(cache.mean, cache.var, m, momentum)
        after = [running.mean, running.var]
        y_eval = batch_norm_inference(x, *after, gamma, beta, eps=eps)
        case = {"x": x, "dy": dy, "gamma": gamma, "beta": beta, "y": y, "dx": dx, "y_eval": y_eval}
        case |= {"before": before, "after": after, "dgamma": dgamma, "dbeta": dbeta}
        yield {k: np.ravel(v).tolist() for k, v in case.items()} | {
            "eps": eps,
            "momentum": momentum,
        }


def norm_cases(rng):
    """Take each norm of activations (n, c, s) without parameters, forward and backward."""
    for shape, groups in (((3, 4, 5), 2), ((2, 6, 4), 3), ((1, 4, 2), 4), ((4, 2, 20), 1)):
        yield from norms_of(shape, groups, rng)


def norms_of(shape, groups, rng):
    """Take each norm once; eps is large, so that a wrong one is seen."""
    forwards = {
        "batch": (batch_norm_forward, batch_norm_backward, {}),
        "layer": (layer_norm_forward, layer_norm_backward, {"axes": (1, 2)}),
        "instance": (instance_norm_forward, instance_norm_backward, {}),
        "group": (group_norm_forward, group_norm_backward, {"num_groups": groups}),
    }
    for norm, (forward, backward, options) in forwards.items():
        x, dy = rng.normal(2, 3, shape), rng.normal(size=shape)
        y, cache = forward(x, eps=0.1, **options)
        dx = backward(dy, cache)[0]
        arrays = {k: v.ravel().tolist() for k, v in {"x": x, "dy": dy, "y": y, "dx": dx}.items()}
        yield {"norm": norm, "shape": shape, "groups": groups, "eps": 0.1, **arrays}


def example_case():
    """Return x_hat of the example of the chapter on alternatives: two examples, four features."""
    x = np.array([[1.0, 3, 5, 7], [3, 7, 1, 5]])
    outputs = {"batch": batch_norm_forward(x, eps=0.0), "layer": layer_norm_forward(x, eps=0.0)}
    outputs["group"] = group_norm_forward(x, 2, eps=0.0)
    return {"x": x.ravel().tolist(), **{k: y.ravel().tolist() for k, (y, _) in outputs.items()}}


def sphere_cases(rng):
    """Take m = 3 values and an eps: x_hat and its length."""
    for _ in range(50):
        x, eps = rng.uniform(-10, 10, (3, 1)), float(rng.choice([0.0, 0.1, 1.0, 6.0, 60.0]))
        x_hat, cache = batch_norm_forward(x, eps=eps)
        length = float(np.linalg.norm(x_hat))
        yield {
            "xHat": x_hat[:, 0].tolist(),
            "length": length,
            "var": float(cache.var[0]),
            "eps": eps,
        }


def propagation_case(activation, norm, scale):
    """Send a signal and a gradient through a small network of `signal_propagation`."""
    config = signal_propagation.Config(activation=activation, depth=5, width=7)
    rng = np.random.default_rng(3)
    blocks = signal_propagation.build(config, scale, norm, [rng])
    x, g = rng.normal(size=(2, 1, 6, 7))  # (k, m, d)
    levels = [_log_rms(x)], [_log_rms(g)]
    case = {"x": x[0].T.tolist(), "g": g[0].T.tolist(), "norm": norm == "batch"}
    for block in blocks:
        x = block(x)
        levels[0].append(_log_rms(x))
    for block in reversed(blocks):
        g = block.backward(g)
        levels[1].insert(0, _log_rms(g))
    weights = [block.parameters["0.weight"][0].T / scale for block in blocks]  # (d_out, d_in)
    case |= {"weights": [w.tolist() for w in weights], "scale": scale}
    case |= {"relu": activation == "relu", "activations": levels[0], "gradients": levels[1]}
    return case


def _log_rms(x):
    return float(0.5 * np.log10(np.square(x).mean()))


def training_case(norm, rng):
    """Train a network on the digits: its weights before, after 1 step and after 20."""
    data, widths, rate, m = digits(), (64, 16, 16, 10), 0.3, 16
    layers = []
    for i, (d_in, d_out) in enumerate(pairwise(widths)):
        hidden = i < len(widths) - 2
        layers.append(Linear(d_in, d_out, bias=not (hidden and norm), rng=rng))
        if hidden:
            layers += [BatchNorm(d_out), ReLU()] if norm else [ReLU()]
    network = Sequential(*layers)
    for name, p in network.parameters.items():
        if not name.endswith("weight"):
            p += rng.normal(0, 0.3, p.shape)  # gamma, beta and biases other than at the start
    optimizer, losses, states = SGD(network, rate), [], [state_of(layers)]
    batches = [rng.choice(len(data.x_train), m, replace=False) for _ in range(STEPS)]
    for batch in batches:
        loss, dlogits = softmax_cross_entropy(network(data.x_train[batch]), data.y_train[batch])
        network.backward(dlogits)
        optimizer.step()
        losses.append(float(loss))
        states.append(state_of(layers))
    logits = network.eval()(data.x_test)
    return {
        "norm": norm,
        "rate": rate,
        "x": [data.x_train[batch].T.tolist() for batch in batches],
        "labels": [data.y_train[batch].tolist() for batch in batches],
        "losses": losses,
        "states": [states[0], states[1], states[-1]],
        "x_test": data.x_test.T.tolist(),
        "labels_test": data.y_test.tolist(),
        "logits": logits.T.tolist(),
        "accuracy": float((logits.argmax(axis=1) == data.y_test).mean()),
    }


def state_of(layers):
    """Return the layers as mlp.mjs stores them: weights (d_out, d_in), statistics by feature."""
    found = []
    for layer in layers:
        if isinstance(layer, Linear):
            p = layer.parameters
            found.append({"weight": p["weight"].T.tolist(), "bias": None, "gamma": None})
            if "bias" in p:
                found[-1]["bias"] = p["bias"].tolist()
        elif isinstance(layer, BatchNorm):
            pairs = zip(layer.running.mean, layer.running.var, strict=True)
            running = [{"mean": float(a), "variance": float(b)} for a, b in pairs]
            found[-1] |= {k: v.tolist() for k, v in layer.parameters.items()}
            found[-1] |= {"running": running}
    return found


def write(folder, rng):
    """Write bn.json, propagation.json, mlp.json and digits.bin."""
    bn = {"batchNorm": [*batch_norm_cases(rng)], "norms": [*norm_cases(rng)]}
    bn |= {"example": example_case(), "sphere": [*sphere_cases(rng)]}
    (folder / "bn.json").write_text(json.dumps(bn), "utf8")
    every = product(("relu", "linear"), ("none", "batch"), (0.5, 1.7))
    deep = [propagation_case(*options) for options in every]
    (folder / "propagation.json").write_text(json.dumps(deep), "utf8")
    mlp = [training_case(norm, rng) for norm in (False, True)]
    (folder / "mlp.json").write_text(json.dumps(mlp), "utf8")
    (folder / "digits.bin").write_bytes(explorable_figures.digits())

"""Converters between frameworks: each agrees with the real library, or with its formula.

PyTorch, Keras and ONNX's reference evaluator are installed with the tests. Flax is not: its
documented formula stands in for it, and where Flax is installed it is run too.
"""

import os

os.environ["KERAS_BACKEND"] = "torch"  # before Keras is imported

import itertools

import keras
import numpy as np
import pytest
import torch
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from bnlib.conventions import CONVENTIONS, convert

# Keras converts its variables in a way that NumPy has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
D, M = 3, 4
PAIRS = list(itertools.permutations(CONVENTIONS, 2))


def fresh(framework):
    values = np.ones(D), np.zeros(D), np.zeros(D), np.ones(D)
    return dict(zip(CONVENTIONS[framework].names, values, strict=True))


class PyTorch:
    """One layer of a framework: a step in train mode, its arrays, a prediction."""

    def __init__(self, arrays=None, options=None):
        self.layer = torch.nn.BatchNorm1d(D, dtype=torch.float64, **(options or {}))
        if arrays is not None:
            state = {n: torch.from_numpy(np.asarray(a)) for n, a in arrays.items()}
            self.layer.load_state_dict(state, strict=True)

    def step(self, x):
        return self.layer.train()(torch.from_numpy(x)).detach().numpy()

    def predict(self, x):
        return self.layer.eval()(torch.from_numpy(x)).detach().numpy()

    def arrays(self):
        return {n: t.numpy().copy() for n, t in self.layer.state_dict().items()}


class Keras:
    def __init__(self, arrays=None, options=None):
        self.layer = keras.layers.BatchNormalization(dtype="float64", **(options or {}))
        self.layer.build((None, D))
        if arrays is not None:
            assert [w.name for w in self.layer.weights] == list(arrays)
            self.layer.set_weights(list(arrays.values()))

    def step(self, x):
        return self.layer(x, training=True).detach().numpy()

    def predict(self, x):
        return self.layer(x, training=False).detach().numpy()

    def arrays(self):
        return {
            w.name: a for w, a in zip(self.layer.weights, self.layer.get_weights(), strict=True)
        }


class Onnx:
    def __init__(self, arrays=None, options=None):
        self.values = arrays or fresh("onnx")
        self.options = options or {}

    def run(self, x, training):
        outputs = ["y", "mean", "var"] if training else ["y"]
        names = ["x", *self.values]
        node = helper.make_node(
            "BatchNormalization", names, outputs, training_mode=training, **self.options
        )
        infos = [
            [helper.make_tensor_value_info(n, TensorProto.DOUBLE, None) for n in side]
            for side in (names, outputs)
        ]
        model = helper.make_model(
            helper.make_graph([node], "g", *infos), opset_imports=[helper.make_opsetid("", 15)]
        )
        return ReferenceEvaluator(model).run(None, {"x": x, **self.values})

    def step(self, x):
        y, mean, var = self.run(x, 1)
        self.values = {**self.values, "input_mean": mean, "input_var": var}
        return y

    def predict(self, x):
        return self.run(x, 0)[0]

    def arrays(self):
        return dict(self.values)


class FlaxFormula:
    def __init__(self, arrays=None, options=None):
        self.values = arrays or {
            "scale": np.ones(D), "bias": np.zeros(D), "mean": np.zeros(D), "var": np.ones(D)
        }  # fmt: skip
        self.momentum, self.epsilon = (
            {"momentum": 0.99, "epsilon": 1e-5} | (options or {})
        ).values()

    def normalize(self, x, mean, var):
        y = (x - mean) / np.sqrt(var + self.epsilon)
        return y * self.values["scale"] + self.values["bias"]

    def step(self, x):
        mean = x.mean(0)
        var = np.maximum(0, np.square(x).mean(0) - mean**2)
        for name, new in (("mean", mean), ("var", var)):
            old = self.values[name]
            self.values[name] = self.momentum * old + (1 - self.momentum) * new
        return self.normalize(x, mean, var)

    def predict(self, x):
        return self.normalize(x, self.values["mean"], self.values["var"])

    def arrays(self):
        return dict(self.values)


def same(result, expected, *frameworks, rtol=1e-10):
    """Compare; Keras computes in float32, and attributes of ONNX nodes are float32."""
    rtol = 1e-5 if "keras" in frameworks else 1e-6 if "onnx" in frameworks else rtol
    np.testing.assert_allclose(result, expected, rtol=rtol, atol=rtol)


REAL = {"pytorch": PyTorch, "keras": Keras, "flax": FlaxFormula, "onnx": Onnx}


def trained(framework, rng, options=None, steps=30):
    """A layer with random scale and shift that has seen some mini-batches."""
    names = CONVENTIONS[framework].names
    start = REAL[framework]().arrays()
    start.update({names[0]: rng.uniform(0.5, 2, D), names[1]: rng.normal(size=D)})
    layer = REAL[framework](start, options)
    for _ in range(steps):
        layer.step(rng.normal(3, 2, (M, D)))
    return layer


def options_of(framework, weight=0.2, eps=1e-2):
    convention = CONVENTIONS[framework]
    momentum = weight if convention.momentum_weighs == "new" else 1 - weight
    return {"momentum": momentum, convention.eps_name: eps}


# ------------------------------------------------------------------ the table


@pytest.mark.parametrize("framework", CONVENTIONS)
def test_table_describes_one_step_of_the_framework(framework, rng):
    x = rng.normal(3, 2, (M, D))
    layer, convention = REAL[framework](), CONVENTIONS[framework]
    start = layer.arrays()
    y = layer.step(x)
    same(y, (x - x.mean(0)) / np.sqrt(x.var(0) + convention.eps), framework)
    weight = convention.momentum
    if convention.momentum_weighs == "old":
        weight = 1 - weight
    after = layer.arrays()
    assert [n for n in after if n != "num_batches_tracked"] == list(convention.names)
    *_, mean, var = convention.names
    batch = {mean: x.mean(0), var: x.var(0, ddof=int(convention.unbiased))}
    for name, value in batch.items():
        expected = (1 - weight) * start[name] + weight * value
        same(after[name], expected, framework)


def test_default_axis_of_the_table():
    assert keras.layers.BatchNormalization().axis == CONVENTIONS["keras"].channel_axis
    assert torch.nn.BatchNorm2d(D)(torch.randn(2, D, 4, 5)).shape == (2, D, 4, 5)
    assert CONVENTIONS["pytorch"].channel_axis == CONVENTIONS["onnx"].channel_axis == 1


# ------------------------------------------------------------------ predictions and training


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_converted_layer_predicts_the_same(source, target, rng):
    options = options_of(source)
    layer = trained(source, rng, options)
    converted = REAL[target](*convert(layer.arrays(), options, source=source, target=target))
    x = rng.normal(3, 2, (8, D))
    same(converted.predict(x), layer.predict(x), source, target)


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_defaults_of_the_source_go_along(source, target, rng):
    layer = trained(source, rng)
    converted = REAL[target](*convert(layer.arrays(), source=source, target=target))
    x = rng.normal(3, 2, (8, D))
    same(converted.predict(x), layer.predict(x), source, target)


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_state_is_what_the_target_would_have_collected(source, target, rng):
    batches = rng.normal(3, 2, (12, M, D))
    options = options_of(source)
    layer = REAL[source](None, options)
    for x in batches[:6]:
        layer.step(x)
    converted = REAL[target](
        *convert(layer.arrays(), options, source=source, target=target, m=M, steps=6)
    )
    direct = REAL[target](None, options_of(target))
    for x in batches[:6]:
        direct.step(x)
    for name in CONVENTIONS[target].names:
        same(converted.arrays()[name], direct.arrays()[name], source, target)
    for x in batches[6:]:  # and it goes on in the same way
        same(converted.step(x), direct.step(x), source, target)
    for name, value in direct.arrays().items():
        same(converted.arrays()[name], value, source, target)


def test_forgotten_start_needs_no_steps(rng):
    layer = trained("pytorch", rng, {"momentum": 0.5}, steps=80)
    arrays, options = layer.arrays(), {"momentum": 0.5}
    forgotten, counted = (
        convert(arrays, options, source="pytorch", target="keras", m=M, steps=steps)[0]
        for steps in (None, 80)
    )
    np.testing.assert_allclose(forgotten["moving_variance"], counted["moving_variance"])
    np.testing.assert_allclose(forgotten["moving_variance"], 0.75 * arrays["running_var"])


# ------------------------------------------------------------------ round trips


@pytest.mark.parametrize(("source", "target"), PAIRS)
@pytest.mark.parametrize("sizes", [{}, {"m": 8}, {"m": 2, "steps": 30}], ids=str)
def test_round_trip(source, target, sizes, rng):
    options = options_of(source, weight=0.1)
    arrays = trained(source, rng, options).arrays()
    before = {n: a.copy() for n, a in arrays.items()}
    there = convert(arrays, options, source=source, target=target, **sizes)
    back, options_back = convert(*there, source=target, target=source, **sizes)
    assert list(back) == [n for n in arrays if n in back]
    for name in CONVENTIONS[source].names:
        np.testing.assert_allclose(back[name], arrays[name], rtol=1e-14)
    assert options_back == options
    for name, value in arrays.items():
        np.testing.assert_array_equal(value, before[name])


def test_momenta_stay_decimal_numbers():
    arrays = {"running_mean": np.zeros(1), "running_var": np.ones(1)}
    for momentum, expected in (
        (0.1, 0.9),
        (0.01, 0.99),
        (0.003, 0.997),
        (1.0, 0.0),
        (1e-5, 0.99999),
    ):
        options = {"momentum": momentum, "eps": 1e-5}
        there = convert(arrays, options, source="pytorch", target="flax")
        assert there[1] == {"momentum": expected, "epsilon": 1e-5}
        assert convert(*there, source="flax", target="pytorch")[1] == options
        assert convert(*there, source="flax", target="onnx")[1]["momentum"] == expected


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_dtype_stays(dtype):
    arrays = {"mean": np.zeros(2, dtype), "var": np.ones(2, dtype)}
    converted, _ = convert(arrays, source="flax", target="onnx", m=4)
    assert {a.dtype for a in converted.values()} == {np.dtype(dtype)}


OVERFLOWS = {np.float16: 5e4, np.float32: 3e38, np.float64: 1.5e308}


@pytest.mark.parametrize("dtype", OVERFLOWS)
def test_finite_variance_that_becomes_infinite_is_refused(dtype):
    var = np.array([OVERFLOWS[dtype], 4], dtype)
    arrays = {"moving_mean": np.zeros(2, dtype), "moving_variance": var}
    with pytest.raises(ValueError, match=r"running_var: expected finite values.*float"):
        convert(arrays, source="keras", target="pytorch", m=3)  # 3 / 2 of it
    converted, _ = convert(arrays, source="keras", target="pytorch", m=1000)
    np.testing.assert_allclose(converted["running_var"], var * dtype(1000 / 999), rtol=1e-3)


def test_variance_that_rounding_made_negative_passes_if_eps_makes_up_for_it():
    arrays = {"moving_mean": np.zeros(2), "moving_variance": np.array([-1e-9, 2.0])}
    converted, _ = convert(arrays, source="keras", target="pytorch")
    np.testing.assert_array_equal(converted["running_var"], arrays["moving_variance"])
    converted, _ = convert(arrays, source="keras", target="pytorch", m=3)
    np.testing.assert_array_equal(converted["running_var"], [0, 3])
    with pytest.raises(ValueError, match=r"moving_variance: expected finite variances"):
        convert(arrays, {"epsilon": 1e-9}, source="keras", target="pytorch")


def test_count_of_mini_batches_stays_with_pytorch():
    arrays = {"running_mean": np.zeros(2), "running_var": np.ones(2)}
    counted = arrays | {"num_batches_tracked": np.array(7)}
    for given, options, count in (
        (counted, {}, 7),
        (counted, {"m": 4, "steps": 5}, 5),
        (arrays, {}, 0),
    ):
        converted, _ = convert(given, source="pytorch", target="pytorch", **options)
        assert converted["num_batches_tracked"] == count


def test_result_shares_no_memory():
    arrays = {"mean": np.zeros(2), "var": np.ones(2)}
    converted, _ = convert(arrays, source="flax", target="keras")
    converted["moving_mean"] += 1
    assert not arrays["mean"].any()


# ------------------------------------------------------------------ absent parameters


def test_absent_parameters_stay_absent_where_they_may():
    arrays = {"running_mean": np.zeros(2), "running_var": np.ones(2)}
    layer = keras.layers.BatchNormalization(scale=False, center=False)
    layer.build((None, 2))
    layer.set_weights(list(convert(arrays, source="pytorch", target="keras")[0].values()))
    assert list(convert(arrays, source="pytorch", target="onnx")[0]) == [*CONVENTIONS["onnx"].names]


def test_shift_alone_gets_a_weight_of_one_in_pytorch():
    arrays = {"beta": np.ones(2), "moving_mean": np.zeros(2), "moving_variance": np.ones(2)}
    converted, _ = convert(arrays, source="keras", target="pytorch")
    np.testing.assert_array_equal(converted["weight"], 1)
    arrays["gamma"] = arrays.pop("beta")
    assert "bias" not in convert(arrays, source="keras", target="pytorch")[0]


# ------------------------------------------------------------------ errors

GOOD = {"running_mean": np.zeros(2), "running_var": np.ones(2)}
BAD = {
    "source": ({}, {}, {"source": "tensorflow"}, "source.*'tensorflow'"),
    "target": ({}, {}, {"target": "Keras"}, "target.*'Keras'"),
    "unknown array": ({"gamma": np.ones(2)}, {}, {}, r"arrays.*\['gamma'\]"),
    "shape": ({"weight": np.ones(3)}, {}, {}, r"weight: expected shape \(2,\).*\(3,\)"),
    "axes": ({"running_mean": np.ones((1, 2))}, {}, {}, r"running_mean.*\(1, 2\)"),
    "negative": ({"running_var": -np.ones(2)}, {}, {}, "running_var.*>= 0"),
    "nan": ({"running_var": np.full(2, np.nan)}, {}, {}, "running_var.*finite"),
    "option": ({}, {"epsilon": 1e-3}, {}, r"options.*\['epsilon'\]"),
    "cumulative": ({}, {"momentum": None}, {}, "momentum.*cumulative"),
    "momentum": ({}, {"momentum": 1.5}, {}, "momentum.*1.5"),
    "eps": ({}, {"eps": -1e-5}, {}, "eps"),
    "m": ({}, {}, {"m": 1}, "m: .*1"),
    "fraction": ({}, {}, {"m": 2.5}, "m: .*2.5"),
    "steps": ({}, {}, {"m": 4, "steps": -1}, "steps.*-1"),
    "half a step": ({}, {}, {"m": 4, "steps": 2.5}, "steps: expected an int .*2.5"),
    "steps in words": ({}, {}, {"m": 4, "steps": "3"}, "steps: expected an int .*'3'"),
    "momentum in words": ({}, {"momentum": "0.1"}, {}, "momentum: expected a number .*'0.1'"),
    "two momenta": ({}, {"momentum": [0.1, 0.2]}, {}, r"momentum: expected a number .*\[0.1, 0.2"),
    "eps in words": ({}, {"eps": "0.1"}, {}, "eps: expected a finite number .*'0.1'"),
    "steps without m": ({}, {}, {"steps": 3}, "steps.*m = None"),
    "impossible": ({"running_var": np.full(2, 0.5)}, {}, {"m": 4, "steps": 2}, "steps.*0.81.*0.5"),
}


@pytest.mark.parametrize(("arrays", "options", "keywords", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_named(arrays, options, keywords, message):
    keywords = {"source": "pytorch", "target": "keras"} | keywords
    with pytest.raises(ValueError, match=message):
        convert(GOOD | arrays, options, **keywords)


def test_missing_statistics_and_integers_are_named():
    with pytest.raises(ValueError, match="running_var"):
        convert({"running_mean": np.zeros(2)}, source="pytorch", target="keras")
    with pytest.raises(TypeError, match=r"running_var.*int"):
        convert(GOOD | {"running_var": np.ones(2, int)}, source="pytorch", target="keras")


# ------------------------------------------------------------------ Flax, where it is installed


def test_formula_of_flax_is_that_of_flax(rng):
    nnx = pytest.importorskip("flax.nnx")
    formula = FlaxFormula()
    layer = nnx.BatchNorm(D, rngs=nnx.Rngs(0))
    for x in rng.normal(3, 2, (5, 8, D)).astype(np.float32):
        np.testing.assert_allclose(layer(x), formula.step(x), rtol=1e-4, atol=1e-5)
    for name, value in formula.arrays().items():
        np.testing.assert_allclose(np.asarray(getattr(layer, name)[...]), value, rtol=1e-5)
    layer.eval()
    np.testing.assert_allclose(layer(x), formula.predict(x), rtol=1e-4, atol=1e-5)

import numpy as np
import pytest
import torch

from bnlib.layers import GroupNorm, InstanceNorm, LayerNorm, RMSNorm

F = torch.nn.functional
# name -> (layer from options, torch function of (x, gamma, beta, eps), shape of one example)
NORMS = {
    "layer": (
        lambda **o: LayerNorm(4, **o),
        lambda x, g, b, eps: F.layer_norm(x, (4,), g, b, eps),
        (4,),
    ),
    "layer-sequence": (
        lambda **o: LayerNorm(4, **o),
        lambda x, g, b, eps: F.layer_norm(x, (4,), g, b, eps),
        (5, 4),
    ),
    "layer-images": (
        lambda **o: LayerNorm((4, 3, 2), **o),
        lambda x, g, b, eps: F.layer_norm(x, (4, 3, 2), g, b, eps),
        (4, 3, 2),
    ),
    "rms": (
        lambda **o: RMSNorm(4, **o),
        lambda x, g, b, eps: F.rms_norm(x, (4,), g, eps),
        (4,),
    ),
    "group": (
        lambda **o: GroupNorm(2, 4, **o),
        lambda x, g, b, eps: F.group_norm(x, 2, g, b, eps),
        (4, 3, 2),
    ),
    "group-features": (
        lambda **o: GroupNorm(2, 8, **o),
        lambda x, g, b, eps: F.group_norm(x, 2, g, b, eps),
        (8,),
    ),
    "instance": (
        lambda **o: InstanceNorm(4, **o),
        lambda x, g, b, eps: F.instance_norm(x, weight=g, bias=b, eps=eps),
        (4, 3, 2),
    ),
}


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("m", [2, 3, 8])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_equals_torch(agrees, rng, name, m, affine, training):
    make, function, shape = NORMS[name]
    layer = make(affine=affine, eps=1e-3)
    layer.train() if training else layer.eval()
    for p in layer.parameters.values():
        p[...] = rng.uniform(0.5, 2, p.shape)

    def reference(x, gamma=None, beta=None):
        return function(x, gamma, beta, 1e-3)

    x = 2 + 3 * rng.standard_normal((m, *shape))
    agrees(layer, reference, x, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("affine", [True, False])
def test_seeds_equal_separate_layers(rng, name, affine):
    make, _, shape = NORMS[name]
    k, m = 3, 3  # as many examples as seeds, so that axes mixed up would not show as an error
    ensemble = make(affine=affine, seeds=k)
    for p in ensemble.parameters.values():
        p[...] = rng.uniform(0.5, 2, p.shape)
    x, dy = rng.standard_normal((2, k, m, *shape))
    y, dx = ensemble(x), ensemble.backward(dy)
    for i in range(k):
        alone = make(affine=affine)
        for key, p in alone.parameters.items():
            p[...] = ensemble.parameters[key][i]
        np.testing.assert_allclose(y[i], alone(x[i]), rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(dx[i], alone.backward(dy[i]), rtol=1e-11, atol=1e-13)
        for key, g in alone.gradients.items():
            np.testing.assert_allclose(ensemble.gradients[key][i], g, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LayerNorm(0), "normalized_shape: expected at least 1, got 0"),
        (lambda: RMSNorm(()), "normalized_shape: expected at least one axis"),
        (lambda: GroupNorm(3, 4), "num_groups: expected a divisor of num_channels=4, got 3"),
        (lambda: GroupNorm(0, 4), "num_groups: expected at least 1"),
        (lambda: InstanceNorm(0), "num_features: expected at least 1"),
        (lambda: LayerNorm(4, eps=-1.0), "eps: expected a finite number >= 0"),
        (lambda: LayerNorm(4, seeds=0), "seeds: expected at least 1"),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (LayerNorm(4), (2, 3), r"x: expected shape \(m, ..., 4\), got \(2, 3\)"),
        (LayerNorm((3, 4)), (3, 4), r"x: expected shape \(m, ..., 3, 4\), got \(3, 4\)"),
        (RMSNorm(4, seeds=2), (2, 4), r"x: expected shape \(2, m, ..., 4\), got \(2, 4\)"),
        (GroupNorm(2, 4), (2, 3, 4), r"x: expected shape \(n, 4, ...\), got \(2, 3, 4\)"),
        (InstanceNorm(4, seeds=2), (2, 4, 5), r"x: expected shape \(2, n, 4, ...\)"),
    ],
)
def test_bad_shapes_are_refused(layer, shape, message):
    with pytest.raises(ValueError, match=message):
        layer(np.ones(shape))


def test_repr():
    assert repr(LayerNorm(4)) == "LayerNorm(4)"
    assert repr(RMSNorm((3, 4), affine=False)) == "RMSNorm((3, 4), affine=False)"
    assert repr(GroupNorm(2, 4, seeds=3)) == "GroupNorm(2, 4, seeds=3)"
    assert repr(InstanceNorm(4)) == "InstanceNorm(4)"

"""Every layer on tensors that have no values: on the meta device, faked, and exported."""

import copy

import pytest
import torch
from family_modules import FAMILY
from torch._subclasses.fake_tensor import FakeTensorMode
from torch_modules import CASES

from bnlib import nn as bnn

EVERY = pytest.mark.parametrize("name", [*FAMILY, *CASES, "SyncBatchNorm"])
MODES = pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])


def make(name, **more):
    args, options, shape, *others = (FAMILY | CASES).get(name, ((3,), {}, (4, 3, 5)))
    return getattr(bnn, name)(*args, **options, **more), shape, (others or ((),))[0]


def refusing(name):
    """The layer, told to refuse statistics that are not finite where it knows how."""
    module, shape, others = make(name)
    for part in module.modules():
        if hasattr(part, "refuse_nonfinite"):
            part.refuse_nonfinite = True
    return module, shape, others


@EVERY
@MODES
@pytest.mark.parametrize("where", ["meta", "fake", "made fake"])
def test_output_has_the_shape_dtype_and_strides_of_the_real_one(name, training, where):
    module, shape, others = refusing(name)
    module.train(training)
    x = torch.randn(shape)
    inputs = x, *others
    expected = copy.deepcopy(module)(*inputs)
    if where == "meta":
        y = module.to("meta")(*(t.to("meta") for t in inputs))
    else:
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            if where == "made fake":
                module = refusing(name)[0].train(training)
            y = module(*map(mode.from_tensor, inputs))
    assert (y.shape, y.dtype, y.stride()) == (expected.shape, expected.dtype, expected.stride())


@pytest.mark.parametrize("name", [n for n in FAMILY if "BatchNorm" in n or "Renorm" in n])
def test_mean_over_all_mini_batches_on_the_meta_device(name):
    if name.startswith("Frozen") or "momentum" in FAMILY[name][1]:
        pytest.skip("has no momentum to choose")
    module, shape, others = make(name, momentum=None)
    y = module.to("meta")(torch.empty(shape, device="meta"), *(t.to("meta") for t in others))
    assert y.shape == shape


@EVERY
@pytest.mark.filterwarnings("ignore")
def test_exported_in_eval_mode(name):
    module, shape, others = refusing(name)
    inputs = torch.randn(shape), *others
    module.eval()
    exported = torch.export.export(module, inputs).module()
    torch.testing.assert_close(exported(*inputs), module(*inputs))


@pytest.mark.parametrize("name", ["MaskedBatchNorm1d", "ConditionalBatchNorm1d", "BatchNorm2d",
                                  "DecorrelatedBatchNorm1d", "BatchRenorm1d"])  # fmt: skip
@pytest.mark.filterwarnings("ignore")
def test_exported_in_train_mode_with_its_value_checks(name):
    module, shape, others = refusing(name)
    inputs = torch.randn(shape), *others
    exported = torch.export.export(copy.deepcopy(module), inputs).module()
    torch.testing.assert_close(exported(*inputs), module(*inputs))
    torch.testing.assert_close(dict(exported.named_buffers()), dict(module.named_buffers()))

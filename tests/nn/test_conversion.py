"""Exchange of classes in place, against copies that were not exchanged, in values and objects."""

import copy
import gc
import pickle
import warnings

import pytest
import torch
from family_modules import FAMILY, build, state
from torch import nn
from torch.ao import quantization
from torch.ao.quantization import quantize_fx
from torch.nn.utils import fusion, parametrize
from torch_modules import CASES, copies, distance, pair, step

from bnlib import nn as bnn
from bnlib import surgery

ALL_CASES = {**CASES, "SyncBatchNorm": ((3,), {}, (4, 3, 5, 6))}
WAYS = {"to_torch": (bnn.to_torch, bnn, nn), "from_torch": (bnn.from_torch, nn, bnn)}


@pytest.fixture(params=WAYS)
def way(request):
    """The exchange, the library that it takes layers of, and the one that they become."""
    return WAYS[request.param]


class Activated(nn.BatchNorm2d):
    """A subclass with a forward of its own and one more method."""

    def forward(self, input):
        return super().forward(input).relu()

    def answer(self):
        return 42


class OurActivated(bnn.BatchNorm2d):
    """The same of `bnlib.nn`."""

    def forward(self, input):
        return super().forward(input).relu()

    def answer(self):
        return 42


class Standardized(nn.LayerNorm):
    """A subclass that only fixes options."""

    def __init__(self, n):
        super().__init__(n, elementwise_affine=False)


class OurStandardized(bnn.LayerNorm):
    """The same of `bnlib.nn`."""

    def __init__(self, n):
        super().__init__(n, elementwise_affine=False)


class WithActivation(nn.BatchNorm2d):
    """Batch norm, dropout and activation in one, by a call of the function, as timm has it."""

    def __init__(self, c):
        super().__init__(c)
        self.drop, self.act = nn.Dropout(0.0), nn.ReLU()

    def forward(self, input):
        y = nn.functional.batch_norm(
            input, self.running_mean, self.running_var, self.weight, self.bias, self.training
        )
        return self.act(self.drop(y))


class OurWithActivation(bnn.BatchNorm2d):
    """One that derives from `bnlib.nn` and does not call its forward."""

    def forward(self, input):
        return 2 * input


class AnyAxes(nn.modules.batchnorm._BatchNorm):
    """A batch norm of no certain number of axes."""

    def _check_input_dim(self, input):
        pass


class Double(nn.Module):
    """A parametrization."""

    def forward(self, x):
        return 2 * x


def network(library):
    """Layers of one library, with what must survive an exchange of their classes."""
    shared = library.BatchNorm2d(4, eps=1e-3, momentum=None)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 1), shared, library.GroupNorm(2, 4), library.BatchNorm2d(4), shared,
        nn.Sequential(library.InstanceNorm2d(4, affine=True)), library.LayerNorm(5),
        library.RMSNorm(5), library.SyncBatchNorm(4), library.BatchNorm2d(4),
        nn.Flatten(), library.BatchNorm1d(80),
    )  # fmt: skip
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(1, 0.5)
    net.calls = []
    net[1].register_forward_hook(lambda module, *_: net.calls.append(type(module)))
    net[2].register_full_backward_hook(lambda module, *_: net.calls.append(type(module)))
    net[3].eval()
    net[3].weight.requires_grad_(False)
    net[3].note = ["an attribute"]
    net[8].process_group = None
    surgery.freeze(net, ["9"])
    return net


def objects(net):
    """All that an exchange of classes must leave the same object."""
    tensors = net.state_dict(keep_vars=True)
    attributes = {
        (name, key): value
        for name, module in net.named_modules()
        for key, value in vars(module).items()
    }
    return list(net.modules()), tensors, attributes


def assert_same_objects(net, before):
    modules, tensors, attributes = before
    now = objects(net)
    assert [id(m) for m in now[0]] == [id(m) for m in modules]
    assert {k: id(v) for k, v in now[1].items()} == {k: id(v) for k, v in tensors.items()}
    assert now[2].keys() == attributes.keys()
    assert all(now[2][key] is value for key, value in attributes.items())


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("name", ALL_CASES)
def test_exchanged_layer_is_exactly_of_the_other_library(way, name, train):
    exchange, source, target = way
    args, options, shape = ALL_CASES[name]
    layer = pair(name, *args, **options)[source is nn].train(train)
    twin = copy.deepcopy(layer)
    assert exchange(layer) is layer
    assert type(layer) is getattr(target, name)
    x, dy = torch.randn(shape), torch.randn(shape)
    got, expected = step(layer, x, dy), step(twin, x, dy)
    assert got.keys() == expected.keys()
    for key, value in expected.items():
        if value is not None:
            assert got[key].dtype == value.dtype
            assert distance(got[key], value) < 1e-5, key
    assert repr(layer) == repr(twin)


@pytest.mark.parametrize("name", ALL_CASES)
def test_there_and_back_is_the_same_class(way, name):
    exchange, source, _ = way
    layer = pair(name, *ALL_CASES[name][0])[source is nn]
    back = bnn.from_torch if exchange is bnn.to_torch else bnn.to_torch
    assert type(back(exchange(layer))) is getattr(source, name)


def test_exchange_keeps_every_object_and_mode(way):
    exchange, source, target = way
    net = network(source)
    before, modes = objects(net), [m.training for m in net.modules()]
    assert exchange(net) is net
    assert_same_objects(net, before)
    assert [m.training for m in net.modules()] == modes
    assert not net[3].weight.requires_grad
    assert net[1] is net[4]
    assert not any(isinstance(m, source.SyncBatchNorm) for m in net.modules())
    names = [type(m).__name__ for m in net.modules() if isinstance(m, (nn.LayerNorm, nn.RMSNorm))]
    assert names == ["LayerNorm", "RMSNorm"]
    norms = [m for m in net.modules() if hasattr(target, type(m).__name__)]
    assert all(type(m) is getattr(target, type(m).__name__) for m in norms)


def test_exchanged_model_trains_as_before_with_an_optimizer_made_before(way):
    exchange, source, target = way
    net = network(source)
    twin = copy.deepcopy(net)
    optimizers = [torch.optim.SGD(m.parameters(), 0.01, momentum=0.9) for m in (net, twin)]
    exchange(net)
    net.calls.clear()
    for _ in range(3):
        x, dy = torch.randn(6, 3, 4, 5), torch.randn(6, 80)
        outputs = []
        for model, optimizer in zip((net, twin), optimizers, strict=True):
            optimizer.zero_grad()
            outputs.append(model(x))
            outputs[-1].backward(dy)
            optimizer.step()
        assert distance(*outputs) < 1e-3
    called = [cls for cls in net.calls if cls.__module__.startswith(target.__name__)]  # not twin's
    assert called == 3 * [target.BatchNorm2d, target.BatchNorm2d, target.GroupNorm]
    for (name, got), expected in zip(
        net.state_dict().items(), twin.state_dict().values(), strict=True
    ):
        assert distance(got, expected) < 1e-3, name
    assert not net.train()[9].training  # frozen
    assert surgery.unfreeze(net) == ["9"]
    assert net.train()[9].training


def test_exchange_keeps_the_dtype(way):
    exchange, source, _ = way
    net = exchange(network(source).bfloat16())
    assert {t.dtype for t in net.parameters()} == {torch.bfloat16}
    assert net(torch.randn(6, 3, 4, 5).bfloat16()).dtype == torch.bfloat16


def test_exchange_of_layers_on_the_meta_device(way):
    exchange, source, target = way
    layer = source.LayerNorm(4, device="meta")
    assert type(exchange(layer)) is target.LayerNorm
    assert layer.weight.is_meta


def test_exchanged_model_can_be_copied_pickled_and_loaded(way):
    exchange, source, _ = way
    net = network(source)
    net.calls, net[1]._forward_hooks, net[2]._backward_hooks = [], {}, {}
    state_dict = copy.deepcopy(net.state_dict())
    exchange(net)
    for other in copies(net):
        assert [type(m) for m in other.modules()] == [type(m) for m in net.modules()]
        assert all(torch.equal(other.state_dict()[k], v) for k, v in state_dict.items())
        other.load_state_dict(state_dict, strict=True)


def test_refuse_nonfinite_comes_back():
    layer = bnn.BatchNorm1d(2, refuse_nonfinite=True)
    x = torch.tensor([[1.0, torch.nan], [2.0, 3.0]])
    bnn.to_torch(layer)(x)
    assert layer.running_mean.isnan().any()
    with pytest.raises(ValueError, match="refuse_nonfinite"):
        bnn.from_torch(layer)(x)


@pytest.mark.parametrize(
    ("exchange", "cls", "now", "shape"),
    [
        (bnn.from_torch, Activated, bnn.BatchNorm2d, (2, 3, 4, 5)),
        (bnn.from_torch, Standardized, bnn.LayerNorm, (4, 3)),
        (bnn.to_torch, OurActivated, nn.BatchNorm2d, (2, 3, 4, 5)),
        (bnn.to_torch, OurStandardized, nn.LayerNorm, (4, 3)),
    ],
)
def test_subclass_keeps_its_methods_and_goes_on_in_the_other_library(exchange, cls, now, shape):
    net = nn.Sequential(cls(3))
    twin, before = copy.deepcopy(net), objects(net)
    exchange(net)
    assert_same_objects(net, before)
    layer = net[0]
    assert isinstance(layer, cls)
    assert isinstance(layer, now)
    assert any(b.__module__.startswith("bnlib") for b in type(layer).__mro__) == (
        exchange is bnn.from_torch
    )
    assert layer.forward.__func__ in (vars(cls).get("forward"), now.forward)
    x, dy = torch.randn(shape), torch.randn(shape)
    for train in (True, False):
        got, expected = (step(m.train(train), x, dy) for m in (net, twin))
        assert all(distance(got[k], v) < 1e-5 for k, v in expected.items() if v is not None)
    if hasattr(cls, "answer"):
        assert net(x).min() == 0
        assert layer.answer() == 42
    for other in copies(net):
        assert type(other[0]) is type(layer)
    back = bnn.to_torch if exchange is bnn.from_torch else bnn.from_torch
    assert type(back(net)[0]) is cls


def refuses_nan(model, layer):
    """Whether the forward pass is that of `bnlib.nn`, which alone looks at this attribute."""
    layer.refuse_nonfinite = True
    try:
        model(torch.full((2, 3, 2, 2), torch.nan))
    except (ValueError, RuntimeError) as error:
        return "refuse_nonfinite" in str(error)
    return False


def test_super_finds_the_forward_of_the_other_library():
    theirs, ours = Activated(3), OurActivated(3)
    assert (refuses_nan(theirs, theirs), refuses_nan(ours, ours)) == (False, True)
    bnn.from_torch(theirs)
    bnn.to_torch(ours)
    assert (refuses_nan(theirs, theirs), refuses_nan(ours, ours)) == (True, False)


@pytest.mark.parametrize("cls", [WithActivation, AnyAxes])
def test_from_torch_leaves_a_layer_of_another_forward_and_says_so(cls):
    net = nn.Sequential(nn.BatchNorm2d(3), cls(3))
    with pytest.warns(UserWarning, match=rf"^1 \({cls.__name__}\) stays as it is: ") as caught:
        bnn.from_torch(net)
    assert len(caught) == 1
    assert type(net[1]) is cls
    assert type(net[0]) is bnn.BatchNorm2d


def test_from_torch_names_all_layers_that_stay():
    net = nn.Sequential(WithActivation(3), nn.Sequential(WithActivation(3)), nn.BatchNorm2d(3))
    with pytest.warns(UserWarning, match=r"^0 \(WithAct.*\), 1.0 \(WithAct.*\) stay as they are"):
        bnn.from_torch(net)


def test_from_torch_leaves_quantized_layers():
    layer = torch.ao.nn.quantized.LayerNorm(3, *nn.BatchNorm1d(3).parameters(), 1.0, 0)
    with pytest.warns(UserWarning, match=r"module \(LayerNorm\) stays"):
        bnn.from_torch(layer)
    assert type(layer) is torch.ao.nn.quantized.LayerNorm


def test_to_torch_leaves_a_subclass_of_another_forward_and_says_so():
    net = nn.Sequential(bnn.BatchNorm2d(3), OurWithActivation(3))
    with pytest.warns(UserWarning, match=r"^1 \(OurWithActivation\) stays as it is: has a forward"):
        bnn.to_torch(net)
    assert type(net[0]) is nn.BatchNorm2d
    assert type(net[1]) is OurWithActivation


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("name", FAMILY)
def test_to_torch_leaves_what_torch_has_not_and_says_so(name, train):
    module, shape, others = build(name)
    module.train(train)
    net = nn.Sequential(bnn.BatchNorm1d(2), module)
    before, twin, x = state(module), copy.deepcopy(module), torch.randn(shape)
    with pytest.warns(UserWarning, match=rf"^1 \({name}\) stays as it is: torch.nn has no such"):
        bnn.to_torch(net)
    assert type(net[0]) is nn.BatchNorm1d
    assert type(net[1]) is getattr(bnn, name)
    assert all(torch.equal(module.state_dict()[k], v) for k, v in before.items())
    assert distance(module(x, *others), twin(x, *others)) < 1e-5


def test_layers_of_the_target_stay_without_a_word(way):
    exchange, _, target = way
    net = network(target)
    classes = [type(m) for m in net.modules()]
    exchange(exchange(net))
    assert [type(m) for m in net.modules()] == classes
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bnn.from_torch(nn.Sequential(bnn.GhostBatchNorm2d(3), bnn.FrozenBatchNorm2d(3)))
        bnn.to_torch(nn.Sequential(WithActivation(3), nn.LazyBatchNorm1d()))


def test_from_torch_refuses_a_lazy_layer_and_changes_nothing():
    net = nn.Sequential(nn.BatchNorm1d(3), nn.LazyInstanceNorm1d())
    with pytest.raises(ValueError, match="lazy norm without parameters, got '1'"):
        bnn.from_torch(net)
    assert type(net[0]) is nn.BatchNorm1d
    net[1](torch.randn(2, 3, 4))
    assert type(bnn.from_torch(net)[1]) is bnn.InstanceNorm1d


@pytest.mark.parametrize(
    "function",
    [bnn.to_torch, bnn.from_torch, bnn.convert_sync_batchnorm, bnn.revert_sync_batchnorm],
)
def test_exchange_refuses_what_is_no_module(function):
    with pytest.raises(TypeError, match=r"module: expected a torch.nn.Module, got list"):
        function([nn.BatchNorm1d(3)])


def test_parametrized_layers_are_exchanged_each_for_itself(way):
    exchange, source, target = way
    net = nn.Sequential(source.BatchNorm1d(3), source.LayerNorm(3), source.BatchNorm1d(3))
    for layer in net:
        parametrize.register_parametrization(layer, "weight", Double())
    twin, before = copy.deepcopy(net), objects(net)
    exchange(net)
    assert_same_objects(net, before)
    assert isinstance(net[0], target.BatchNorm1d)
    x = torch.randn(5, 3)
    assert distance(net(x), twin(x)) < 1e-5
    assert distance(copy.deepcopy(net)(x), twin(x)) < 1e-5
    parametrize.remove_parametrizations(net[0], "weight")
    assert type(net[0]) is target.BatchNorm1d
    assert type(net[0].weight) is nn.Parameter
    assert distance(net(x), twin(x)) < 1e-5
    parametrize.remove_parametrizations(net[1], "weight")
    assert type(net[1]) is target.LayerNorm


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("library", [nn, bnn])
@pytest.mark.parametrize("name", ["BatchNorm1d", "SyncBatchNorm"])
def test_parametrizations_outlive_synchronization_and_its_end(library, name, when):
    twos, x = torch.full((3,), 2.0), torch.randn(5, 3)
    expected = nn.functional.batch_norm(x, None, None, twos, training=True)
    for reverted_first in (True, False):
        net = nn.Sequential(getattr(library, name)(3))
        plain = type(net[0])
        if when == "after":
            bnn.convert_sync_batchnorm(net)
        parametrize.register_parametrization(net[0], "weight", Double())
        bnn.convert_sync_batchnorm(net)
        assert isinstance(net[0], bnn.SyncBatchNorm)
        assert distance(copy.deepcopy(net)(x), expected) < 1e-5
        ends = [bnn.revert_sync_batchnorm, remove_parametrization]
        for end in ends if reverted_first else reversed(ends):
            end(net)
            assert torch.equal(net[0].weight, twos)
            assert distance(net(x), expected) < 1e-5
        assert not isinstance(net[0], bnn.SyncBatchNorm | nn.SyncBatchNorm)
        assert name == "SyncBatchNorm" or type(net[0]) is plain


def remove_parametrization(net):
    parametrize.remove_parametrizations(net[0], "weight")


def test_parametrized_relative_stays():
    layer = parametrize.register_parametrization(bnn.GhostBatchNorm1d(3), "weight", Double())
    with pytest.warns(UserWarning, match=r"ParametrizedGhostBatchNorm1d\) stays"):
        bnn.to_torch(layer)


def test_synchronized_layers_become_those_of_torch():
    group = object()
    net = nn.Sequential(bnn.BatchNorm2d(3), nn.BatchNorm2d(3), bnn.SyncBatchNorm(3))
    bnn.convert_sync_batchnorm(net, group)
    bnn.to_torch(net)
    assert {type(m) for m in net} == {nn.SyncBatchNorm}
    bnn.from_torch(net)
    assert {type(m) for m in net} == {bnn.SyncBatchNorm}
    assert [m.process_group for m in net] == 3 * [group]


def test_synchronized_subclass_waits_for_its_way_back():
    net = bnn.convert_sync_batchnorm(nn.Sequential(OurActivated(3)))
    with pytest.warns(UserWarning, match=r"revert_sync_batchnorm first"):
        bnn.to_torch(net)
    layer = bnn.to_torch(bnn.revert_sync_batchnorm(net))[0]
    assert not isinstance(layer, bnn.BatchNorm2d)


def test_exchanged_subclass_can_be_synchronized_and_pickled():
    net = bnn.from_torch(nn.Sequential(Activated(3)))
    exchanged = type(net[0])
    bnn.convert_sync_batchnorm(net)
    assert isinstance(net[0], bnn.SyncBatchNorm)
    for other in copies(net):
        assert type(other[0]) is type(net[0])
    assert type(bnn.revert_sync_batchnorm(net)[0]) is exchanged
    assert type(bnn.to_torch(net)[0]) is Activated


class WholeNorms(torch.fx.Tracer):
    def is_leaf_module(self, module, name):
        return not isinstance(module, nn.Sequential)


def traced(net):
    return torch.fx.GraphModule(net, WholeNorms().trace(net))


@pytest.mark.parametrize("wrap", [nn.DataParallel, traced])
def test_exchange_inside_a_wrapper(way, wrap):
    exchange, source, target = way
    net = network(source)
    net[2]._backward_hooks.clear()  # they cannot be traced
    wrapped, twin, x = wrap(net), copy.deepcopy(net), torch.randn(6, 3, 4, 5)
    exchange(wrapped)
    norms = [m for m in wrapped.modules() if isinstance(m, nn.BatchNorm1d)]
    assert [type(m) for m in norms] == [target.BatchNorm1d]
    assert distance(wrapped(x), twin(x)) < 1e-5


@pytest.mark.parametrize("fill", [nn.BatchNorm2d, Activated])
def test_compiled_model_follows_the_exchange(fill):
    net = nn.Sequential(fill(3))
    compiled = torch.compile(net, backend="eager")
    assert not refuses_nan(compiled, net[0])
    bnn.from_torch(compiled)
    assert refuses_nan(compiled, net[0])
    bnn.to_torch(compiled)
    assert not refuses_nan(compiled, net[0])
    assert torch.is_grad_enabled()


def test_made_classes_are_made_once():
    first, second = (type(bnn.from_torch(Activated(3))) for _ in range(2))
    assert first is second
    gc.collect()
    assert pickle.loads(pickle.dumps(bnn.from_torch(Activated(3)))).answer() == 42


def fold_targets(library):
    """Conv, norm, ReLU; conv, norm; with statistics that are not those of a new layer."""
    net = nn.Sequential(
        nn.Conv2d(2, 6, 3), library.BatchNorm2d(6), nn.ReLU(),
        nn.Conv2d(6, 4, 3), library.BatchNorm2d(4), nn.Flatten(),
        nn.Linear(36, 5), library.BatchNorm1d(5),
    )  # fmt: skip
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(0.5, 0.5)
    net(torch.randn(8, 2, 7, 7))
    return net


def batch_norms(model):
    return sum(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())


def by_fx(net, x):
    from torch.fx.experimental.optimization import fuse

    return fuse(net.eval())


def by_names(net, x):
    return quantization.fuse_modules(net.eval(), [["0", "1", "2"], ["3", "4"], ["6", "7"]])


def by_prepare_fx(net, x):
    mapping = quantization.get_default_qconfig_mapping("x86")
    return quantize_fx.prepare_fx(net.eval(), mapping, (x,))


def by_prepare_qat_fx(net, x):
    """Fused layers hold their batch norm until they are converted."""
    mapping = quantization.get_default_qat_qconfig_mapping("x86")
    prepared = quantize_fx.prepare_qat_fx(net.train(), mapping, (x,))
    prepared(x)
    return quantize_fx.convert_fx(prepared.eval())


@pytest.mark.filterwarnings("ignore")  # torch's own, of deprecation
@pytest.mark.parametrize("tool", [by_fx, by_names, by_prepare_fx, by_prepare_qat_fx])
def test_tools_of_torch_take_an_exchanged_model(tool):
    torch.manual_seed(1)
    ours = fold_targets(bnn)
    theirs = bnn.to_torch(copy.deepcopy(ours))
    x = torch.randn(4, 2, 7, 7)
    expected = theirs.eval()(x)
    fused = tool(theirs, x)
    assert batch_norms(fused) == 0
    if tool is not by_prepare_qat_fx:  # which rounds to 8 bits
        assert distance(fused(x), expected) < 1e-5
    if tool is by_names:
        with pytest.raises(AssertionError, match="did not find fuser method"):
            tool(ours, x)
    else:
        assert batch_norms(tool(ours, x)) == 3


def test_fusion_of_two_layers_takes_both():
    net = fold_targets(bnn).eval()
    x = torch.randn(4, 2, 7, 7)
    for model in (net, bnn.to_torch(copy.deepcopy(net))):
        fused = fusion.fuse_conv_bn_eval(model[0], model[1])
        assert distance(fused(x), net[:2](x)) < 1e-5


def operations(model, x):
    """The norms in an exported graph."""
    graph = torch.export.export(model, (x,)).graph
    return sorted(str(n.target) for n in graph.nodes if str(n.target).startswith("aten.batch_norm"))


@pytest.mark.parametrize("train", [True, False])
def test_export_has_the_operation_that_quantization_looks_for(train):
    net, x = fold_targets(bnn).train(train), torch.randn(4, 2, 7, 7)
    assert operations(net, x) == (0 if train else 3) * ["aten.batch_norm.default"]
    assert operations(bnn.to_torch(net), x) == 3 * ["aten.batch_norm.default"]

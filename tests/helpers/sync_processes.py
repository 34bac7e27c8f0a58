"""What the processes of tests/nn/test_sync_batch_norm.py do; they import it by this name."""

import copy
import importlib.util
import os
import sys

import torch
import torch.distributed as dist
from random_inputs import SEED
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch_modules import step

from bnlib import nn as bnn
from bnlib.nn._cpu import dispatch

SIZES = {2: [(2, 5), (0, 4), (1, 2)], 3: [(2, 5, 1), (0, 4, 0), (1, 0, 2)]}  # of three steps
CASES = {  # name: options, shape of an example, its dtype, memory format, tolerance
    "images": ({}, (3, 4, 2), "float64", torch.contiguous_format, 1e-11),
    "features": ({"momentum": None}, (3,), "float64", torch.contiguous_format, 1e-11),
    "volumes": ({"eps": 0.1}, (3, 2, 3, 2), "float64", torch.channels_last_3d, 1e-11),
    "no affine": ({"affine": False}, (3, 4), "float64", torch.contiguous_format, 1e-11),
    "no bias": ({"bias": False}, (3, 4), "float64", torch.contiguous_format, 1e-11),
    "no state": ({"track_running_stats": False}, (3, 2), "float64", torch.contiguous_format, 1e-11),
    "single": ({}, (3, 4, 2), "float32", torch.channels_last, 2e-4),
}


def variants(world_size: int) -> tuple[str, ...]:
    """What computes: without Numba, the definition does; two processes try the loops as well."""
    if world_size > 2 or not importlib.util.find_spec("numba"):
        return ("torch",)
    return ("torch", "numba")


def data(case: str, world_size: int):
    """Return the options, and for each step the sizes, the input and two random tensors."""
    options, shape, dtype, memory_format, _ = CASES[case]
    rng = torch.Generator().manual_seed(len(case) + SEED)
    steps = []
    for sizes in SIZES[world_size]:
        tensors = torch.randn(3, sum(sizes), *shape, generator=rng, dtype=torch.float64)
        x, dy, direction = tensors.to(getattr(torch, dtype))
        if len(shape) > 2:
            x = x.contiguous(memory_format=memory_format)
        steps.append((sizes, 3 * x + 100, dy, direction))
    return options, steps


def layer_for(case: str, build):
    """Build a layer with random parameters, always the same for a case."""
    options, _, dtype, *_ = CASES[case]
    layer = build(3, **options).to(getattr(torch, dtype))
    rng = torch.Generator().manual_seed(1 + SEED)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(1 + torch.randn(3, generator=rng) / 2)
    return layer


def derivatives(layer, x, dy, direction):
    """Return output, gradients, and the gradients of a penalty on the gradient of the input."""
    x, dy = x.detach().clone().requires_grad_(), dy.detach().clone().requires_grad_()
    parameters = dict(layer.named_parameters())
    y = layer(x)
    inputs = {"x": x, **parameters}
    first = torch.autograd.grad(y, inputs.values(), dy, retain_graph=True)
    (dx,) = torch.autograd.grad(y, x, dy, create_graph=True)
    penalty = (dx * direction).sum() + (dx * dx).sum()
    inputs2 = {"dy": dy, **{k: v for k, v in inputs.items() if k != "bias"}}
    second = torch.autograd.grad(penalty, inputs2.values())
    return {
        "y": y.detach(),
        **{f"d{name}": g for name, g in zip(inputs, first, strict=True)},
        **{f"penalty d{name}": g for name, g in zip(inputs2, second, strict=True)},
    }


def every_check(rank: int, world_size: int) -> dict:
    """Run all checks in one process; what comes out is compared by the parent."""
    found = {}
    for name in variants(world_size):
        with dispatch.use_kernel(name):
            for case in CASES:
                _, steps = data(case, world_size)
                layer = layer_for(case, bnn.SyncBatchNorm)
                results = []
                for sizes, *tensors in steps:
                    results.append(derivatives(layer, *(t.split(sizes)[rank] for t in tensors)))
                found[name, case] = results, layer.state_dict()
    with dispatch.use_kernel("torch"):
        for check in (few_values, not_finite, wrong_channels, eval_mode, subgroup, constant, half,
                      ddp, functional, compiled):  # fmt: skip
            found[check.__name__] = check(rank, world_size)
    return found


def failure(layer, x):
    """Return the error that a call raises, and whether the buffers stayed as they were."""
    before = copy.deepcopy(layer.state_dict())
    try:
        layer(x)
    except (ValueError, RuntimeError) as error:
        same = all(torch.equal(v, before[k]) for k, v in layer.state_dict().items())
        return type(error).__name__, str(error), same
    return None


def few_values(rank, world_size):
    return failure(bnn.SyncBatchNorm(3), torch.randn(int(rank == 0), 3))


def not_finite(rank, world_size):
    x = torch.randn(4, 3)
    if rank == 1:
        x[0, 0] = float("nan")
    return failure(bnn.SyncBatchNorm(3, refuse_nonfinite=True), x)


def wrong_channels(rank, world_size):
    layer = bnn.SyncBatchNorm(3)
    return [failure(layer, torch.randn(4, 2)), failure(layer, torch.randn(4, 3).double()),
            failure(layer, torch.randn(4)), failure(layer, torch.ones(4, 3).long())]  # fmt: skip


def eval_mode(rank, world_size):
    """Only the first process calls the layer: it would wait for ever if anything were sent."""
    layer = bnn.SyncBatchNorm(3).eval()
    return layer(torch.ones(1, 3)).sum().item() if rank == 0 else None


def subgroup(rank, world_size):
    """All but the last process normalize together; the last one does so by itself."""
    group = dist.new_group(range(world_size - 1))
    layer = bnn.SyncBatchNorm(1, momentum=1.0, process_group=group)
    layer(torch.tensor([[1.0], [3.0]]) + 10 * rank)
    return layer.running_mean.item(), layer.running_var.item()


def constant(rank, world_size):
    """A channel of equal values gives exactly the bias."""
    layer = bnn.SyncBatchNorm(1, dtype=torch.float64)
    with torch.no_grad():
        layer.bias.fill_(0.3)
    return float(
        (layer(torch.full((3 + rank, 1), 1e10 / 3, dtype=torch.float64)) - 0.3).abs().max()
    )


def half(rank, world_size):
    y = bnn.SyncBatchNorm(2)(torch.randn(3 + rank, 2, 4).bfloat16())
    return y.dtype, float(y.float().abs().max())


def ddp(rank, world_size):
    """Train a converted model in torch's wrapper; the loss is the mean over all processes."""
    model = model_to_train()
    bnn.convert_sync_batchnorm(model)
    model = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x, labels in batches(world_size):
        optimizer.zero_grad()
        part = slice(8 * rank, 8 * rank + 8)
        nn.functional.cross_entropy(model(x[part]), labels[part]).backward()
        optimizer.step()
    return model.module.state_dict()


def lines_of_the_book(rank, lines):
    """Run the lines that *Fine-tuning and freezing* shows; `launch` has joined the processes."""
    assert 'dist.init_process_group("gloo")' in lines
    size = dist.get_world_size()
    names = {
        "build": model_to_train,
        "my_part": lambda r: [tuple(each.chunk(size)[r] for each in b) for b in batches(2)],
        "convert_sync_batchnorm": bnn.convert_sync_batchnorm,
        "cross_entropy": nn.functional.cross_entropy,
    }
    exec(lines.replace('dist.init_process_group("gloo")', ""), globals() | names, names)
    assert isinstance(names["model"], DistributedDataParallel)
    return names["model"].module.state_dict()


def model_to_train():
    rng = torch.Generator().manual_seed(3 + SEED)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(36, 6),
        bnn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3),
    ).double()  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.5, generator=rng)
    return model


def batches(world_size):
    rng = torch.Generator().manual_seed(4 + SEED)
    for _ in range(3):
        x = torch.randn(8 * world_size, 1, 5, 5, generator=rng, dtype=torch.float64)
        yield x, torch.randint(3, (8 * world_size,), generator=rng)


def functional(rank, world_size):
    """Forward mode and torch.func.grad of the sum of squares, with parts of different sizes."""
    x, tangent, dy = torch.randn(
        3, 5, 2, generator=torch.Generator().manual_seed(5 + SEED), dtype=torch.float64
    )
    part = slice(0, 2) if rank == 0 else slice(2, 5) if rank == 1 else slice(5, 5)
    layer = bnn.SyncBatchNorm(2, track_running_stats=False).double()
    _, along = torch.func.jvp(layer, (x[part],), (tangent[part],))
    return along, torch.func.grad(lambda v: (dy[part] * layer(v)).sum())(x[part])


def compiled(rank, world_size):
    """Three steps, compiled and not, and what is raised if it must be one graph."""
    if world_size > 2:
        return None  # it takes seconds
    rng = torch.Generator().manual_seed(rank + SEED)
    parts = [torch.randn(size, 2, generator=rng) for size in ((4, 4, 1), (3, 6, 1))[rank]]
    found = []
    for compiles in (False, True):
        layer = bnn.SyncBatchNorm(2)
        if compiles:
            layer.compile(backend="aot_eager")
        found.append([step(layer, x, x**2) for x in parts])
    try:
        torch.compile(bnn.SyncBatchNorm(2), backend="aot_eager", fullgraph=True)(parts[0])
    except torch._dynamo.exc.Unsupported as error:
        return *found, str(error)


def fails(rank):
    """The second process fails while the first one waits for it."""
    if rank == 1:
        raise LookupError("the second process fails")
    bnn.SyncBatchNorm(1)(torch.randn(4, 1))


if __name__ == "__main__":  # started by torchrun
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    layer = bnn.SyncBatchNorm(1, momentum=1.0)
    layer(torch.tensor([[1.0], [3.0]]) + 10 * rank)
    assert os.environ["WORLD_SIZE"] == "2"
    sys.stdout.write(f"rank {rank}: mean {layer.running_mean.item():g}\n")
    dist.destroy_process_group()

"""Two processes with unequal loaders get the statistics of all of the data."""

import datetime

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from surgery.architectures import ResNet, build, example
from torch import nn

from bnlib.surgery import recalibrate

SHARES = ((0, 7), (7, 9))  # of the examples
TIMEOUT = datetime.timedelta(seconds=60)


def work(rank, store, task, results):
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=2, timeout=TIMEOUT
    )
    try:
        results[rank] = task(rank)
    finally:
        dist.destroy_process_group()


def in_two_processes(task, tmp_path):
    with mp.Manager() as manager:
        results = manager.dict()
        mp.spawn(work, (tmp_path / "store", task, results), nprocs=2)
        return [results[rank] for rank in range(2)]


def share(rank):
    return example(ResNet, 9)[slice(*SHARES[rank])].split(3)


def layerwise(rank):
    model = build(ResNet)
    recalibrate(model, share(rank), layerwise=True)
    return {key: value.numpy() for key, value in model.state_dict().items()}


def first_layer(rank):
    model = nn.BatchNorm1d(2).double()
    x = torch.arange(18, dtype=torch.float64).view(9, 2).square()
    batches = x[slice(*SHARES[rank])].split(4)
    pooled = recalibrate(model, batches)[""]
    return pooled.examples, pooled.count, pooled.mean.numpy(), pooled.var.numpy()


def one_without_data(rank):
    model = nn.BatchNorm1d(2)
    pooled = recalibrate(model, [torch.eye(2)] if rank else [])[""]
    return pooled.count


def one_fails(rank):
    model = nn.BatchNorm1d(2)
    try:
        recalibrate(model, [torch.eye(2), "abc"] if rank else [torch.eye(2)])
    except (RuntimeError, TypeError) as error:
        return type(error).__name__, str(error), model.running_mean.tolist()


def all_empty(rank):
    with pytest.raises(ValueError, match="empty"):
        recalibrate(nn.BatchNorm1d(2), [])


def test_layerwise_equals_one_process(tmp_path):
    model = build(ResNet)
    recalibrate(model, [example(ResNet, 9)], layerwise=True)
    for state in in_two_processes(layerwise, tmp_path):
        for key, value in model.state_dict().items():
            torch.testing.assert_close(torch.from_numpy(state[key]), value, rtol=1e-9, atol=1e-9)


def test_sums_are_merged(tmp_path):
    x = torch.arange(18, dtype=torch.float64).view(9, 2).square()
    for examples, count, mean, var in in_two_processes(first_layer, tmp_path):
        assert (examples, count) == (9, 9)
        torch.testing.assert_close(torch.from_numpy(mean), x.mean(0))
        torch.testing.assert_close(torch.from_numpy(var), x.var(0))


def test_process_without_data_helps(tmp_path):
    assert in_two_processes(one_without_data, tmp_path) == [2, 2]


def test_failure_is_raised_in_both(tmp_path):
    other, failed = in_two_processes(one_fails, tmp_path)
    assert other[0] == "RuntimeError"
    assert "another process" in other[1]
    assert failed[0] == "TypeError"
    assert other[2] == failed[2] == [0, 0]


def test_all_empty(tmp_path):
    in_two_processes(all_empty, tmp_path)

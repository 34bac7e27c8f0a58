"""Several processes on this machine that can talk to each other, for tests and lessons.

For real training use ``torchrun``; the code that runs in each process is the same.
"""

import os
import pathlib
import socket
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


def launch(
    function: Callable[..., Any], world_size: int, *arguments: Any, timeout: float = 120.0
) -> list[Any]:
    """Run a function in several processes that are joined by gloo.

    Processes are spawned and meet in a file, so no port and no network is needed.

    Parameters
    ----------
    function : callable
        Called as ``function(rank, *arguments)`` in each process. A function of an importable
        module: spawned processes import it.
    world_size : int
        Number of processes.
    *arguments
        Passed on, pickled: each process has its own copy.
    timeout : float
        Seconds until the processes are ended.

    Returns
    -------
    list
        What the function returned in each process, in the order of their ranks.

    Raises
    ------
    TimeoutError
        If they did not finish in time.
    torch.multiprocessing.ProcessRaisedException
        If the function raised in one of them; the others are ended.
    """
    with tempfile.TemporaryDirectory() as folder:
        # A file, because tensors that are passed to a process directly are shared with it.
        torch.save((function, arguments), pathlib.Path(folder, "call.pt"))
        context = torch.multiprocessing.spawn(
            _child, (world_size, folder, timeout), world_size, join=False
        )
        end = time.monotonic() + timeout
        try:
            while not context.join(timeout=0.2):
                if time.monotonic() > end:
                    raise TimeoutError(f"{world_size} processes did not finish in {timeout} s")
        finally:
            for process in context.processes:
                if process.is_alive():
                    process.kill()
                process.join()
        files = [pathlib.Path(folder, f"{rank}.pt") for rank in range(world_size)]
        return [torch.load(file, weights_only=False) for file in files]


def _child(rank: int, world_size: int, folder: str, timeout: float) -> None:
    torch.set_num_threads(1)
    function, arguments = torch.load(pathlib.Path(folder, "call.pt"), weights_only=False)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", _loopback())
    dist.init_process_group(
        "gloo",
        init_method=pathlib.Path(folder, "meeting").as_uri(),
        rank=rank,
        world_size=world_size,
        timeout=timedelta(seconds=timeout),
    )
    try:
        torch.save(function(rank, *arguments), pathlib.Path(folder, f"{rank}.pt"))
        dist.barrier()  # nobody leaves while another still talks
    finally:
        dist.destroy_process_group()


def _loopback() -> str:
    names = [name for _, name in socket.if_nameindex()]
    return next((name for name in ("lo", "lo0") if name in names), names[0])


def train_steps(
    rank: int, model: nn.Module, parts: Sequence[Sequence[Tensor]], upstream: Sequence[Tensor]
) -> dict[str, list[Tensor] | dict[str, Tensor]]:
    """Run forward and backward passes on a process's parts of some mini-batches.

    Parameters
    ----------
    rank : int
        Which process this is.
    model : Module
        Gets no step of an optimizer; its gradients add up.
    parts : sequence of sequences of Tensor
        ``parts[t][rank]`` is the part in step t.
    upstream : sequence of sequences of Tensor
        The gradients with respect to the outputs, likewise.

    Returns
    -------
    dict
        Lists ``y`` and ``dx`` over the steps, dicts ``gradients`` of the parameters and
        ``state`` at the end.
    """
    outputs, gradients = [], []
    for part, dy in zip(parts, upstream, strict=True):
        x = part[rank].clone().requires_grad_()
        y = model(x)
        y.backward(dy[rank])
        outputs.append(y.detach())
        gradients.append(x.grad)
    return {
        "y": outputs,
        "dx": gradients,
        "gradients": {name: p.grad for name, p in model.named_parameters() if p.grad is not None},
        "state": model.state_dict(),
    }

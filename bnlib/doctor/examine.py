"""Examine a model: make a case of it, check the rules, report."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sized
from typing import Any, cast

import torch
from torch import Tensor, nn

from bnlib.doctor.case import Case
from bnlib.doctor.observe import same_random_state, untouched
from bnlib.doctor.registry import chosen
from bnlib.doctor.report import Report, report_of
from bnlib.surgery._batch import check_forward
from bnlib.surgery._collect import Batches

MOST_BATCHES = 4
"""Mini-batches that a pass takes from the loader: more would make examining as slow as training."""


def examine(
    model: nn.Module | Mapping[str, Tensor],
    batches: Iterable[Any] | None = None,
    *,
    forward: Callable[[nn.Module, Any], Any] | None = None,
    loss: Callable[[Any, Any], Tensor] | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    select: Collection[str] | None = None,
    ignore: Collection[str] = (),
) -> Report:
    """Look for faults of the batch norms in a model.

    Parameters
    ----------
    model : torch.nn.Module or mapping of str to Tensor
        A model, which stays bit for bit as it was, or a state dict, of which less can be said.
    batches : iterable, optional
        Mini-batches as in training, such as the data loader: tensors, tuples or lists whose first
        entry is the model's input, or dicts of keyword arguments. Four are read: the first ones, or
        of a list the first three and the last. Without them no pass is made.
    forward : callable, optional
        ``forward(model, batch)`` shows the model a batch of another form. It gets a copy of the
        model.
    loss : callable, optional
        ``loss(output, batch)`` is a scalar. Without it, outputs get random gradients, which is
        enough for the rules of today.
    optimizer : torch.optim.Optimizer, optional
        That of the training. It is only read.
    select, ignore : collection of str, optional
        Names of rules: check only these, or all but these.

    Returns
    -------
    Report
        Its `skipped` says which rules could not be checked, and why.

    Raises
    ------
    TypeError, ValueError
        If an argument is of another kind, or names a rule that there is not. What the model itself
        raises on a batch comes through, with a note on the mode that it was run in.

    Notes
    -----
    Passes are made on copies, one pass for all rules that need it, with seeds of their own, so the
    model, its gradients and the random state are as before, whatever is raised. In train mode the
    copy keeps the modes of a model in train mode; a model in eval mode is put into train mode as
    by ``model.train()``.

    Examples
    --------
    >>> import torch
    >>> from bnlib.doctor import examine
    >>> net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4, momentum=0.99))
    >>> [(finding.rule, finding.where) for finding in examine(net).findings]
    [('large-momentum', ('1',))]
    """
    rules = chosen(select, ignore)
    _check(model, batches, forward, loss, optimizer)
    if not isinstance(model, nn.Module):
        return report_of(Case(model), rules)
    model = unwrapped(model)
    with torch.inference_mode(False), torch.enable_grad(), untouched(model):
        shown = [] if batches is None else _read(batches)
        case = Case(
            model,
            shown,
            show=forward,
            loss=loss,
            optimizer=optimizer,
            last_batch=_last_batch(batches),
        )
        try:
            return report_of(case, rules)
        except Exception as error:
            if _is_one_batch(batches):
                error.add_note("This looks like one mini-batch, not a list of them: write [batch].")
            raise


def assert_healthy(
    model: nn.Module | Mapping[str, Tensor],
    batches: Iterable[Any] | None = None,
    *,
    fail_on: str = "warning",
    **options: Any,
) -> None:
    """Raise AssertionError if a model has a batch-norm fault: one line of a test.

    Parameters
    ----------
    model, batches
        As for `examine`.
    fail_on : str
        The mildest severity that fails: ``error``, ``warning`` or ``note``.
    **options
        Further arguments of `examine`.

    Raises
    ------
    AssertionError
        With the report as its text, if there is such a fault, or if the model has norms and no rule
        could be checked: such a test could never fail.

    Examples
    --------
    >>> import torch
    >>> from bnlib.doctor import assert_healthy
    >>> assert_healthy(torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4)))
    """
    __tracebackhide__ = True  # pytest then shows the report and the line of the test
    examine(model, batches, **options).raise_if(fail_on)


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the model within DataParallel, DistributedDataParallel and `torch.compile`."""
    while True:
        if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            model = model.module
        elif isinstance(getattr(model, "_orig_mod", None), nn.Module):
            model = cast(nn.Module, model._orig_mod)
        else:
            return model


def _check(model: Any, batches: Any, forward: Any, loss: Any, optimizer: Any) -> None:
    check_forward(forward)
    if loss is not None and not callable(loss):
        raise TypeError(f"loss: expected a function of an output and a batch, got {loss!r}")
    if optimizer is not None and not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(f"optimizer: expected a torch.optim.Optimizer, got {optimizer!r}")
    if batches is None and (forward or loss):
        raise ValueError("batches: forward and loss need mini-batches to be called with")
    if isinstance(model, nn.Module):
        return
    if not isinstance(model, Mapping):
        raise TypeError(
            f"model: expected a torch.nn.Module or a state dict, got {type(model).__name__}"
        )
    if batches is not None or optimizer is not None:
        raise ValueError("model: a state dict cannot be run or trained; give the model itself")
    if not any(isinstance(value, Tensor) for value in model.values()):
        nested = [key for key, value in model.items() if isinstance(value, Mapping)]
        hint = f"; is it the entry {nested[0]!r} of it?" if nested else ""
        raise ValueError(f"model: expected a state dict, got a dict without tensors{hint}")


def _read(batches: Iterable[Any]) -> list[Any]:
    """Return the first mini-batches, and of a list the last one."""
    if isinstance(batches, list | tuple) and len(batches) > MOST_BATCHES:
        return [*batches[: MOST_BATCHES - 1], batches[-1]]
    with same_random_state():
        found = list(itertools.islice(Batches(batches, MOST_BATCHES, False), MOST_BATCHES))
    if not found:
        raise ValueError("batches: expected at least one mini-batch, got none")
    return found


def _is_one_batch(batches: Any) -> bool:
    """Whether a list or tuple looks like inputs with their labels."""
    if not isinstance(batches, list | tuple) or len(batches) < 2:
        return False
    if not all(isinstance(x, Tensor) and x.dim() for x in batches):
        return False
    return len({len(x) for x in batches}) == 1 < len({(x.dtype, x.dim()) for x in batches})


def _last_batch(loader: Any) -> tuple[int, int] | None:
    """Return the sizes of the last mini-batch of a data loader, and of the others."""
    if not isinstance(loader, torch.utils.data.DataLoader) or loader.batch_size is None:
        return None
    try:
        left = len(cast(Sized, loader.sampler)) % loader.batch_size
    except TypeError:  # a stream
        return None
    size = loader.batch_size
    return (size if loader.drop_last or not left else left), size

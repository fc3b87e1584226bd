"""The front door in code: ``monitor = steadygrad.watch(model, optimizer)``."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from steadygrad.errors import InputError
from steadygrad.frames import user_frame
from steadygrad.history import History
from steadygrad.records import Diagnosis
from steadygrad.session import Session, say


class Watch:
    """An open observation of the training in this thread. Built by :func:`watch`."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._calls = 0

    @property
    def history(self) -> History:
        """Everything observed so far, in bounded memory."""
        return self._session.history

    def step(self, loss: Tensor | float | None = None) -> None:
        """Mark the end of a training step. Optional: ``backward`` and ``optimizer.step`` are seen by themselves.

        Args:
            loss: a scalar. It is only checked; the recorded loss is the one that ``backward`` was called on.

        Raises:
            InputError: ``loss`` is not a scalar.
        """
        if isinstance(loss, Tensor) and loss.numel() != 1:
            raise InputError(
                f"step() takes the scalar loss, not a tensor of shape {tuple(loss.shape)}; reduce it first"
            )
        self._calls += 1
        if self._calls == 3 and self.history.steps == 0:
            say("step() was called three times, but this thread has run no optimizer step and no backward")

    def diagnosis(self) -> Diagnosis:
        """Symptoms, ranked causes, advice and the checks that could not be made, of the run so far."""
        return self._session.diagnosis()

    def close(self) -> Diagnosis:
        """Stop observing, store the diagnosis, and return it. Calling it again returns the same answer."""
        return self._session.close()

    @property
    def overhead_share(self) -> float:
        """Share of the time since the start that was spent observing."""
        return self._session.overhead[1]

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_active: list[Session] = []


def watch(
    model: nn.Module | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    *,
    folder: Path | str | None = None,
    every: int = 10,
    trace: bool = True,
) -> Watch:
    """Watch the training that follows in this thread.

    Args:
        model: named in findings as its ``named_parameters()`` name it; found by itself when left out.
        optimizer: an optimizer already built; found by itself when left out.
        folder: where to record the run; None keeps it in memory.
        every: sample detail every this many steps.
        trace: replay a failing step to find where a NaN was born.

    Returns:
        The open :class:`Watch`. Close it, or use it as a context manager. Under ``steadygrad run`` the run's own
        watch is returned: nothing is observed twice.

    Raises:
        InputError: an argument is of the wrong kind.

    Example:
        >>> import torch, steadygrad
        >>> model = torch.nn.Linear(4, 1)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> with steadygrad.watch(model, optimizer) as monitor:
        ...     for _ in range(3):
        ...         loss = model(torch.ones(8, 4)).square().mean()
        ...         optimizer.zero_grad()
        ...         loss.backward()
        ...         optimizer.step()
        ...         monitor.step(loss)
        >>> monitor.history.steps
        3
    """
    if model is not None and not isinstance(model, nn.Module):
        raise InputError(f"model must be a torch.nn.Module, not {type(model).__name__}; leave it out to have it found")
    if optimizer is not None and not isinstance(optimizer, torch.optim.Optimizer):
        raise InputError(f"optimizer must be a torch.optim.Optimizer, not {type(optimizer).__name__}")
    if _active and not _active[-1].closed:
        return Watch(_active[-1])
    session = Session(Path(folder).absolute() if folder is not None else None, every=every, trace=trace)
    activate(session)
    if model is not None:
        session.monitor.registry.add_root(model, user_frame(2))
    if optimizer is not None:
        session.monitor.optimizer_built(optimizer)
    return Watch(session)


def activate(session: Session) -> None:
    """Make this the session that :func:`watch` joins while it is open."""
    _active[:] = [session]

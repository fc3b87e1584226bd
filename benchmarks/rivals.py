"""How each tool is attached to a workload, as its own documentation says.

An adapter is a context manager: given a way to build the workload and an empty folder, it yields the iteration to be
timed. To add a tool, write one adapter and one line of :data:`CONTESTANTS`.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.workloads import Workload

Build = Callable[[], Workload]
Iteration = Callable[[], Any]
Adapter = Callable[[Build, Path], AbstractContextManager[Iteration]]

LOG_EVERY = 10  # how often a loop logs its loss, and TensorBoard its histograms


@contextlib.contextmanager
def plain(build: Build, _: Path) -> Iterator[Iteration]:
    """The loop by itself."""
    yield build().step


@contextlib.contextmanager
def steadygrad_watch(build: Build, _: Path) -> Iterator[Iteration]:
    """Attach by the Python API: ``monitor = steadygrad.watch(model, optimizer)``, ``monitor.step(loss)``."""
    import steadygrad

    workload = build()
    monitor = steadygrad.watch(workload.model, workload.optimizer)
    try:
        yield lambda: monitor.step(workload.step())
    finally:
        monitor.close()


@contextlib.contextmanager
def steadygrad_run(build: Build, folder: Path) -> Iterator[Iteration]:
    """Attach with no code in the loop, and record to disk: what ``steadygrad run`` does around a script."""
    import steadygrad

    monitor = steadygrad.watch(folder=folder / "run")
    try:
        yield build().step
    finally:
        monitor.close()


@contextlib.contextmanager
def steadygrad_stepper(build: Build, folder: Path) -> Iterator[Iteration]:
    """The loop with our stepper in place of backward, clip and step, watched with no further code, and recorded."""
    import steadygrad

    monitor = steadygrad.watch(folder=folder / "run")
    workload = build()
    stepper = steadygrad.Stepper(workload.optimizer, clip=steadygrad.clip.GlobalNorm(workload.max_norm))
    batches = itertools.cycle(workload.batches)

    def iteration() -> None:
        x, y = next(batches)
        stepper.step(workload.loss_of(workload.model, x, y))

    try:
        yield iteration
    finally:
        monitor.close()


@contextlib.contextmanager
def _wandb(build: Build, folder: Path, log: str) -> Iterator[Iteration]:
    os.environ |= {
        "WANDB_SILENT": "true",
        "WANDB_DIR": str(folder),
        "WANDB_CONSOLE": "off",
        "WANDB_ERROR_REPORTING": "0",
    }
    import wandb

    workload = build()
    run = wandb.init(mode="offline", project="benchmark", dir=str(folder))
    run.watch(workload.model, log=log, log_freq=100)
    count = itertools.count(1)

    def iteration() -> None:
        loss = workload.step()
        if next(count) % LOG_EVERY == 0:
            run.log({"loss": loss.item()})

    try:
        yield iteration
    finally:
        run.finish()


def wandb_gradients(build: Build, folder: Path) -> AbstractContextManager[Iteration]:
    """``run.watch(model, log="gradients", log_freq=100)``, offline."""
    return _wandb(build, folder, "gradients")


def wandb_all(build: Build, folder: Path) -> AbstractContextManager[Iteration]:
    """``run.watch(model, log="all", log_freq=100)``, offline."""
    return _wandb(build, folder, "all")


@contextlib.contextmanager
def tensorboard(build: Build, folder: Path) -> Iterator[Iteration]:
    """Histograms of every parameter and gradient, as commonly written by hand."""
    from torch.utils.tensorboard import SummaryWriter

    workload = build()
    writer = SummaryWriter(str(folder))
    count = itertools.count(1)

    def iteration() -> None:
        loss, step = workload.step(), next(count)
        if step % LOG_EVERY:
            return
        writer.add_scalar("loss", loss.item(), step)
        for name, parameter in workload.model.named_parameters():
            writer.add_histogram(name, parameter, step)
            writer.add_histogram(f"{name}.grad", parameter.grad, step)

    with writer:
        yield iteration


@contextlib.contextmanager
def torchmortem(build: Build, _: Path) -> Iterator[Iteration]:
    """``with Autopsy(model, optimizer=optimizer)`` and ``autopsy.step(loss=loss.item())``, default sampling."""
    from torchmortem import Autopsy

    workload = build()
    with Autopsy(workload.model, optimizer=workload.optimizer) as autopsy:
        yield lambda: autopsy.step(loss=workload.step().item())


@contextlib.contextmanager
def traintools(build: Build, _: Path) -> Iterator[Iteration]:
    """``GradientHealthMonitor.inspect`` after every backward; the loop logs nothing else."""
    from traintools import GradientHealthMonitor

    workload = build()
    monitor = GradientHealthMonitor(max_grad_norm=workload.max_norm)
    count = itertools.count(1)

    def inspect() -> None:
        lr = workload.optimizer.param_groups[0]["lr"]
        monitor.inspect(workload.model, step=next(count), lr=lr)

    workload.before_clip = inspect
    yield workload.step


@contextlib.contextmanager
def pulsegrad(build: Build, folder: Path) -> Iterator[Iteration]:
    """``pulsegrad.init()`` before training, nothing in the loop."""
    import pulsegrad as pug

    session = pug.init(run_dir=folder, console="off")
    try:
        yield build().step
    finally:
        if session is not None:
            session.close()


@dataclass(frozen=True)
class Contestant:
    """A tool under the name shown in the table."""

    title: str
    attach: Adapter
    package: str = ""  # on the package index; empty: part of the benchmark itself

    @property
    def version(self) -> str | None:
        """Installed version, "" for the plain loop, None when it is not installed."""
        if not self.package:
            return ""
        if importlib.util.find_spec(self.package) is None:
            return None
        try:
            return importlib.metadata.version(self.package)
        except importlib.metadata.PackageNotFoundError:
            return "source"


CONTESTANTS: dict[str, Contestant] = {
    "none": Contestant("plain loop again (noise floor)", plain),
    "steadygrad-watch": Contestant("steadygrad.watch, in memory", steadygrad_watch, "steadygrad"),
    "steadygrad-run": Contestant("steadygrad zero-code, recorded", steadygrad_run, "steadygrad"),
    "steadygrad-stepper": Contestant("steadygrad.Stepper, watched and recorded", steadygrad_stepper, "steadygrad"),
    "pulsegrad": Contestant("pulsegrad.init", pulsegrad, "pulsegrad"),
    "wandb-gradients": Contestant('wandb.watch log="gradients"', wandb_gradients, "wandb"),
    "wandb-all": Contestant('wandb.watch log="all"', wandb_all, "wandb"),
    "tensorboard": Contestant("TensorBoard histograms /10", tensorboard, "tensorboard"),
    "traintools": Contestant("traintools GradientHealthMonitor", traintools, "traintools"),
    "torchmortem": Contestant("torchmortem Autopsy", torchmortem, "torchmortem"),
}

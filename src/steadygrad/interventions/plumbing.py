"""What connects the parts of a training loop: cleared gradients, parameters in an optimizer, an uncut graph."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType, GetSetDescriptorType
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer

from steadygrad.frames import foreign, place, user_frame
from steadygrad.interventions.report import Report
from steadygrad.interventions.stage import Stage, parameters_of
from steadygrad.records import RemedySpec
from steadygrad.values import one_of
from steadygrad.wording import count


def zero_grad(stage: Stage, spec: RemedySpec, report: Report) -> None:
    """Clear gradients after every step; before every backward where the script updates its weights itself."""

    def clear(optimizer: Optimizer) -> None:
        report.applied("gradients are cleared after every step")
        if not stage.closure:
            optimizer.zero_grad()

    def clear_leaves(roots: list[Tensor]) -> None:
        if stage.by_hand:
            report.applied("gradients are cleared before every backward pass")
            for leaf in known.values():
                leaf.grad = None
            known.clear()

    def remember(leaves: list[Tensor]) -> None:
        if stage.by_hand:
            known.update({id(leaf): leaf for leaf in leaves})

    known: WeakValueDictionary[int, Tensor] = WeakValueDictionary()
    stage.after_step(clear)
    stage.before_backward(clear_leaves)
    stage.after_backward(remember)


def attach_parameters(stage: Stage, spec: RemedySpec, report: Report) -> None:
    """Give forgotten parameters to the optimizer, or ignore what cuts them off from the loss."""
    if one_of(spec, "optimizer", "reconnect") == "reconnect":
        return _reconnect(stage, report)
    loose: dict[int, Tensor] = {}

    def look(leaves: list[Tensor]) -> None:
        held = {id(p) for optimizer in stage.optimizers for p in parameters_of(optimizer)}
        loose.update({id(leaf): leaf for leaf in leaves if id(leaf) not in held and leaf.grad is not None})

    def attach(optimizer: Optimizer) -> None:
        if loose:
            values = count(sum(p.numel() for p in loose.values()), "value")
            given = f"{count(len(loose), 'forgotten tensor')} ({values})"
            report.applied(f"to {type(optimizer).__name__} were given {given}")
            optimizer.param_groups[-1]["params"].extend(loose.values())
            loose.clear()

    stage.after_backward(look)
    stage.before_step(attach)
    return None


def _reconnect(stage: Stage, report: Report) -> None:
    """``detach()``, ``.data`` and ``no_grad()`` do nothing in a training forward pass, nor on what it returned."""

    def cuts(tensor: Tensor, what: str) -> bool:
        inner = tensor.grad_fn is not None and tensor.dim() > 0  # neither a parameter nor a loss
        if not inner or not torch.is_grad_enabled() or not stage.here() or not _by_user(sys._getframe(2)):
            return False
        report.applied(f"{what} at {place(user_frame(3))} does nothing")
        return True

    def detach(original: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        return lambda tensor: tensor.view_as(tensor) if cuts(tensor, "detach()") else original(tensor)

    def data(original: GetSetDescriptorType) -> property:
        def get(tensor: Tensor) -> Any:
            return tensor.view_as(tensor) if cuts(tensor, "data") else original.__get__(tensor)

        return property(get, original.__set__)

    def numpy(original: Any) -> Any:
        return lambda tensor, *a, **k: original(tensor.detach() if tensor.requires_grad else tensor, *a, **k)

    stage.retain_graph = True  # what was cut off from one loss may now belong to the graph of another
    stage.patch(Tensor, "detach", detach)
    stage.patch(Tensor, "data", data)
    stage.patch(Tensor, "numpy", numpy)
    stage.patch(Tensor, "__array__", numpy)
    _ignore_no_grad(stage, report)


def _by_user(caller: FrameType) -> bool:
    """Whether the user's own line calls, or a decorator of torch around a function of the user's."""
    decorated = getattr(caller.f_locals.get("func"), "__code__", None) if _decorates(caller) else None
    return not foreign((decorated or caller.f_code).co_filename)


def _decorates(caller: FrameType) -> bool:
    return caller.f_code.co_name == "decorate_context"


def _ignore_no_grad(stage: Stage, report: Report) -> None:
    def enter(original: Any) -> Any:
        def __enter__(context: Any) -> Any:  # noqa: N807
            result = original(context)
            if stage.training_forward and stage.modules and _by_user(sys._getframe(1)):
                report.applied("no_grad() in the forward pass does nothing")
                torch.set_grad_enabled(True)
            return result

        return __enter__

    stage.patch(torch.no_grad, "__enter__", enter)
    stage.watch_modules()

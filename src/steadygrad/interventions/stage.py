"""The process-wide hooks that interventions share, put in place on demand and taken away again in one go.

Nothing is attached to the script's own objects. Hooks before an optimizer's step come in two places: ``before_step``
runs first of all, so that whoever measures gradients sees the treated ones; ``at_step`` runs last, right before the
update.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from threading import get_ident
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook
from torch.optim import optimizer as optimizers
from torch.optim.optimizer import (
    Optimizer,
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from steadygrad.graph import walk
from steadygrad.patching import given_closure, in_transform, real, tensors_of, wrap

_MISSING = object()

StepHook = Callable[[Optimizer], None]


class Stage:
    """Where interventions play: what they may listen to and what they may replace."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []
        self._installed: set[str] = set()
        self._thread = get_ident()
        self.optimizers: list[Optimizer] = []
        self.modules: list[nn.Module] = []  # those running now, the root first
        self.training_forward = False  # the running root was called with gradients on, in training mode
        self.by_module = False  # a model has been trained
        self.leave_out_update = False  # the next update is not made: what came before it was a rehearsal
        self.retain_graph = False
        self._in_backward = False
        self._root_of: WeakKeyDictionary[nn.Module, nn.Module] = WeakKeyDictionary()
        self._on_input: list[Callable[[nn.Module, Any, Any], tuple[Any, Any]]] = []
        self._on_root: list[Callable[[nn.Module], None]] = []
        self._after_root: list[Callable[[nn.Module, Any], None]] = []
        self._before_step: list[StepHook] = []
        self._at_step: list[StepHook] = []
        self._after_step: list[StepHook] = []
        self._seeds: list[Callable[[], float]] = []
        self._before_backward: list[Callable[[list[Tensor]], None]] = []
        self._after_backward: list[Callable[[list[Tensor]], None]] = []

    # -- taking away --------------------------------------------------------------------------------------------

    def undo(self) -> None:
        """Everything as it was before."""
        while self._undo:
            self._undo.pop()()

    def at_undo(self, restore: Callable[[], None]) -> None:
        """Also do this when everything is taken away."""
        self._undo.append(restore)

    def patch(self, holder: Any, name: str, make: Callable[[Any], Any]) -> None:
        """Wrap an attribute of a module or class, inherited ones too; not every torch has all of them."""
        own = vars(holder).get(name, _MISSING)
        original = getattr(holder, name, _MISSING)
        if original is _MISSING:
            return
        setattr(holder, name, wrap(original, make))
        self._undo.append(lambda: delattr(holder, name) if own is _MISSING else setattr(holder, name, own))

    def here(self) -> bool:
        """Only the thread that installed the remedies is treated, and no function transform."""
        return get_ident() == self._thread and not in_transform()

    # -- modules ------------------------------------------------------------------------------------------------

    def on_input(self, change: Callable[[nn.Module, Any, Any], tuple[Any, Any]]) -> None:
        """``change(model, args, kwargs)`` may replace what a root model is called with."""
        self.watch_modules()
        self._on_input.append(change)

    def on_root(self, prepare: Callable[[nn.Module], None]) -> None:
        """``prepare(model)`` before every training forward of a root model."""
        self.watch_modules()
        self._on_root.append(prepare)

    def after_root(self, look: Callable[[nn.Module, Any], None]) -> None:
        """``look(model, output)`` after every training forward of a root model."""
        self.watch_modules()
        self._after_root.append(look)

    def on_output(self, change: Callable[[nn.Module, Any, Any], Any]) -> None:
        """``change(module, args, output)`` may return another output of any module (None: keep it)."""
        self.watch_modules()
        self._undo.append(register_module_forward_hook(change).remove)

    @property
    def root(self) -> nn.Module | None:
        """The outermost module that is running."""
        return self.modules[0] if self.modules else None

    def watch_modules(self) -> None:
        """Know which modules are running."""
        if self._first("modules"):
            self.patch(nn.Module, "__call__", self._module_call)
            self.watch_backward()
            self.patch(torch, "compile", self._not_compiled)
            self.patch(nn.Module, "compile", lambda original: lambda module, *a, **k: None)

    def _not_compiled(self, original: Any) -> Any:
        """What a compiler traces cannot be treated; left uncompiled, it computes the same."""

        def compile(model: Any = None, **kwargs: Any) -> Any:
            return model if model is not None else (lambda function: function)

        return compile

    def _module_call(self, original: Any) -> Any:
        def __call__(module: nn.Module, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
            if self.modules:
                return self._inner_call(original, module, args, kwargs)
            if not self.here() or not is_model(module):
                return original(module, *args, **kwargs)
            if self._in_backward:
                return self._recomputed(original, module, args, kwargs)
            return self._root_call(original, module, args, kwargs)

        return __call__

    def _inner_call(self, original: Any, module: nn.Module, args: Any, kwargs: Any) -> Any:
        self._root_of[module] = self.modules[0]
        self.modules.append(module)
        try:
            return original(module, *args, **kwargs)
        finally:
            self.modules.pop()

    def _recomputed(self, original: Any, module: nn.Module, args: Any, kwargs: Any) -> Any:
        """A checkpoint runs part of the forward again in the backward pass: that part must come out the same."""
        self.modules.append(self._root_of.get(module, module))
        try:
            return self._inner_call(original, module, args, kwargs)
        finally:
            self.modules.clear()

    def _root_call(self, original: Any, module: nn.Module, args: Any, kwargs: Any) -> Any:
        self.training_forward = torch.is_grad_enabled() and module.training
        if self.training_forward:
            self.by_module = True
            for prepare in self._on_root:
                prepare(module)
        for change in self._on_input:
            args, kwargs = change(module, args, kwargs)
        self.modules.append(module)
        try:
            out = original(module, *args, **kwargs)
        finally:
            self.modules.clear()
        if self.training_forward:
            for look in self._after_root:
                look(module, out)
        self.training_forward = False
        return out

    # -- optimizers ---------------------------------------------------------------------------------------------

    def before_step(self, act: StepHook) -> None:
        """``act(optimizer)`` before anything else at a step: gradients may be changed here."""
        self.watch_steps()
        self._before_step.append(act)

    def at_step(self, act: StepHook) -> None:
        """``act(optimizer)`` right before the update, after gradients were measured."""
        self.watch_steps()
        self._at_step.append(act)

    def after_step(self, act: StepHook) -> None:
        """``act(optimizer)`` once the step is over."""
        self.watch_steps()
        self._after_step.append(act)

    def watch_steps(self) -> None:
        """Know when optimizers step, and leave out what is asked for."""
        self.watch_optimizers()
        if not self._first("steps"):
            return
        first = register_optimizer_step_pre_hook(self._step_begins)
        hooks = cast("OrderedDict[int, Any]", optimizers._global_optimizer_pre_hooks)
        hooks.move_to_end(first.id, last=False)
        self._undo.append(first.remove)
        self._undo.append(register_optimizer_step_pre_hook(self._update_begins).remove)
        self._undo.append(register_optimizer_step_post_hook(self._step_ended).remove)

    def watch_optimizers(self) -> None:
        """Know every optimizer that is built."""
        if self._first("optimizers"):
            self.patch(Optimizer, "__init__", self._optimizer_init)

    def _optimizer_init(self, original: Any) -> Any:
        def __init__(optimizer: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
            original(optimizer, *args, **kwargs)
            self.optimizers.append(optimizer)

        return __init__

    def _step_begins(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        self.closure = given_closure(args, kwargs)
        if self.leave_out_update and not self.closure:
            for parameter in parameters_of(optimizer):
                parameter.grad = None
        for act in self._before_step:
            act(optimizer)

    def _update_begins(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        for act in self._at_step:
            act(optimizer)

    def _step_ended(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        for act in self._after_step:
            act(optimizer)
        self.leave_out_update = False

    closure = False  # whether the running step was given a closure

    # -- backward -----------------------------------------------------------------------------------------------

    def seed(self, factor: Callable[[], float]) -> None:
        """Multiply the gradient of scripts that update their weights themselves by ``factor()`` at every backward."""
        self.watch_backward()
        self._seeds.append(factor)

    def before_backward(self, act: Callable[[list[Tensor]], None]) -> None:
        """``act(losses)`` before a backward pass."""
        self.watch_backward()
        self._before_backward.append(act)

    def after_backward(self, act: Callable[[list[Tensor]], None]) -> None:
        """``act(leaves)`` after a backward pass: the tensors that may have received a gradient."""
        self.watch_backward()
        self._after_backward.append(act)

    def watch_backward(self) -> None:
        """Know when gradients are computed."""
        self.watch_optimizers()
        if self._first("backward"):
            self.patch(torch.autograd, "backward", self._backward)
            self.patch(torch.autograd, "grad", self._grad)

    @property
    def by_hand(self) -> bool:
        """The script has built no optimizer (yet): it updates its weights itself."""
        return not self.optimizers

    def _factor(self) -> float:
        factor = 0.0 if self.leave_out_update and self.by_hand else 1.0
        self.leave_out_update = self.leave_out_update and not self.by_hand
        for each in self._seeds:
            factor *= each()
        return factor

    def _backward(self, original: Any) -> Any:
        def backward(
            tensors: Any, grad_tensors: Any = None, retain_graph: bool | None = None, *args: Any, **kwargs: Any
        ) -> Any:
            roots = tensors_of(tensors)
            if not self.here() or not real(roots):
                return original(tensors, grad_tensors, retain_graph, *args, **kwargs)
            for act in self._before_backward:
                act(roots)
            leaves = leaves_of(roots) if self._after_backward else []
            factor = self._factor()
            if factor != 1.0 and grad_tensors is None:
                grad_tensors = [torch.full_like(t, factor) for t in roots]
            self._in_backward = True
            try:
                result = original(tensors, grad_tensors, self.retain_graph or retain_graph, *args, **kwargs)
            finally:
                self._in_backward = False
            for look in self._after_backward:
                look(leaves)
            return result

        return backward

    def _grad(self, original: Any) -> Any:
        def grad(outputs: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            result = original(outputs, inputs, *args, **kwargs)
            leaves = tensors_of(inputs)
            if not self.here() or not self.by_hand or not leaves or not all(t.is_leaf for t in leaves):
                return result
            factor = self._factor()
            return result if factor == 1.0 else tuple(None if g is None else g * factor for g in result)

        return grad

    def _first(self, what: str) -> bool:
        fresh = what not in self._installed
        self._installed.add(what)
        return fresh


def is_model(module: nn.Module) -> bool:
    """Not a loss: it has parameters of its own."""
    return not isinstance(module, nn.modules.loss._Loss) and next(module.parameters(), None) is not None


def parameters_of(optimizer: Optimizer) -> Iterator[Tensor]:
    """Every tensor an optimizer updates."""
    for group in optimizer.param_groups:
        yield from group["params"]


def leaves_of(roots: list[Tensor]) -> list[Tensor]:
    """The leaf tensors behind losses."""
    with contextlib.suppress(RuntimeError):
        return list(walk(roots).leaves.values())
    return []

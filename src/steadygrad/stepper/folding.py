"""Folded clipping: the clip coefficient and the skip flag go into a fused optimizer's own kernel.

A fused optimizer divides every gradient by its attribute ``grad_scale`` while it reads them anyway, and does nothing
where its attribute ``found_inf`` is 1. So the pass that reads and writes all gradients only to scale them disappears.
The attributes are those that ``torch.amp.GradScaler`` uses, but they are not documented for anyone else: what is relied
on is tried out on small tensors before the first use (:func:`verified`), and :func:`refusal` names what keeps an
optimizer from it. Folding is never needed: scaled normally, the result is the same to 1e-6.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer

from steadygrad.clip.gradients import Gradients

_dtype = attrgetter("dtype")
#: Only these very classes: a subclass with a ``step`` of its own need not look at the attributes.
FUSED = (Adam, AdamW, SGD, Adagrad)
#: Their kernels have a rule for sharded tensors; those of SGD and Adagrad have none.
SHARDED = (Adam, AdamW)
_ATTRIBUTES = ("grad_scale", "found_inf")
#: Takes lists of parameters, gradients and two kinds of state; then ``grad_scale`` and ``found_inf``.
_Kernel = Callable[[list[list[Tensor]], Tensor | None, Tensor | None], None]


def alike(gradients: Gradients) -> bool:
    """Whether all gradients and parameters are ordinary tensors, contiguous both: the usual case, quickly found."""
    ordinary = gradients.layouts is None  # nothing had to be unpacked to be read
    return ordinary and all(map(Tensor.is_contiguous, gradients.parameters))


def refusal(optimizer: Optimizer, gradients: Gradients, *, on_device: bool = False) -> str:
    """Why this optimizer's next step cannot be folded; an empty string when it can.

    Args:
        optimizer: with its gradients in place.
        gradients: all of its gradients; those of other optimizers may be among them.
        on_device: the skip flag is to be decided by the kernel. Then the state must exist already: the kernel would
            leave uninitialised momentum behind, and a skipped first step would not count as the first.
    """
    if type(optimizer) not in FUSED:
        return f"{type(optimizer).__name__} has no fused kernel"
    if not all(group.get("fused") for group in optimizer.param_groups):
        return "not every parameter group is fused"
    if any(getattr(optimizer, name, None) is not None for name in _ATTRIBUTES):
        return "grad_scale or found_inf is set already"
    if not alike(gradients):
        reason = _layout_refuses(optimizer)
        if reason:
            return reason
    return _types_refuse(optimizer, gradients) or (_state_refuses(optimizer) if on_device else "")


def _pairs(optimizer: Optimizer) -> list[tuple[Tensor, Tensor]]:
    return [(p, p.grad) for group in optimizer.param_groups for p in group["params"] if p.grad is not None]


def _layout_refuses(optimizer: Optimizer) -> str:
    for parameter, gradient in _pairs(optimizer):
        if type(gradient) is not Tensor and not (_is_sharded(gradient) and isinstance(optimizer, SHARDED)):
            return f"a gradient is a {type(gradient).__name__}"
        if gradient.layout != torch.strided or gradient.is_complex():
            return "a gradient is sparse or complex"
        if gradient.stride() != parameter.stride():
            return "a gradient is laid out in another way than its parameter"
    return ""


def _types_refuse(optimizer: Optimizer, gradients: Gradients) -> str:
    if list(map(_dtype, gradients.tensors)) != list(map(_dtype, gradients.parameters)):
        return "a gradient has another type than its parameter"
    for members in gradients.groups:
        device, dtype = gradients.tensors[members[0]].device.type, gradients.tensors[members[0]].dtype
        if not verified(type(optimizer).__name__, device, dtype):
            return f"this torch's fused kernel for {dtype} on {device} does not do what folding relies on"
    return ""


def _state_refuses(optimizer: Optimizer) -> str:
    stateless = type(optimizer) is SGD and not any(group["momentum"] for group in optimizer.param_groups)
    if not stateless and not all(optimizer.state.get(parameter) for parameter, _ in _pairs(optimizer)):
        return "a parameter has no optimizer state yet"
    return ""


def _is_sharded(tensor: Tensor) -> bool:
    return type(tensor).__name__ == "DTensor"


@contextlib.contextmanager
def folded(optimizer: Optimizer, grad_scale: Tensor | None, found_inf: Tensor | None = None) -> Iterator[None]:
    """Set the attributes for one step, and take them back whatever happens: left behind, they rescale every later one.

    Args:
        optimizer: one that :func:`refusal` has nothing against.
        grad_scale: 0-dim float32; gradients are divided by it. None: not at all.
        found_inf: 0-dim float32, exactly 0.0 or 1.0; 1.0 skips. Other values make the kernel do damage.
    """
    given = {"grad_scale": grad_scale, "found_inf": found_inf}
    try:
        for name, value in given.items():
            if value is not None:
                setattr(optimizer, name, value)
        yield
    finally:
        for name, value in given.items():
            if value is not None:
                optimizer.__dict__.pop(name, None)


def realign(optimizer: Optimizer) -> None:
    """Give gradients of fused optimizers the strides of their parameters.

    The fused kernels walk both in memory order. On the CPU torch does not check, and the update is silently wrong.
    """
    for group in optimizer.param_groups:
        if group.get("fused"):
            for p in group["params"]:
                g = p.grad
                if g is not None and g.layout == torch.strided and type(g) is Tensor and g.stride() != p.stride():
                    p.grad = torch.empty_like(p, dtype=g.dtype, requires_grad=False).copy_(g)


# -- what is relied on, tried out ---------------------------------------------------------------------------------


@functools.cache
def verified(kind: str, device: str, dtype: torch.dtype) -> bool:
    """Whether this torch's fused kernel divides by ``grad_scale``, skips on ``found_inf``, and ``step`` reads both.

    Calls the kernels themselves rather than an optimizer, whose hooks others may be watching.
    """
    code = getattr(inspect.unwrap(getattr(torch.optim, kind).step), "__code__", None)
    if code is None or not set(_ATTRIBUTES) <= set(code.co_consts):
        return False
    try:
        with torch.no_grad():
            return _divides(_KERNELS[kind], device, dtype) and _skips(_KERNELS[kind], device, dtype)
    except (RuntimeError, TypeError, AttributeError, NotImplementedError):
        return False


def _tensors(device: str, dtype: torch.dtype) -> list[list[Tensor]]:
    made = [torch.tensor([values], dtype=dtype).to(device) for values in ([0.5, -1.0], [3.0, 4.0])]
    state = [torch.full((1, 2), 0.25, dtype=dtype, device=device) for _ in range(2)]
    return [[made[0]], [made[1]], [state[0]], [state[1]]]


def _divides(kernel: _Kernel, device: str, dtype: torch.dtype) -> bool:
    by_kernel, by_hand = _tensors(device, dtype), _tensors(device, dtype)
    by_hand[1][0].div_(4.0)
    kernel(by_kernel, torch.full((), 4.0, device=device), None)
    kernel(by_hand, None, None)
    loose = 1e-6 if dtype in (torch.float32, torch.float64) else 1e-2
    return all(torch.allclose(a[0], b[0], rtol=loose) for a, b in zip(by_kernel, by_hand, strict=True))


def _skips(kernel: _Kernel, device: str, dtype: torch.dtype) -> bool:
    tried, untouched = _tensors(device, dtype), _tensors(device, dtype)
    tried[1][0].fill_(float("nan"))
    kernel(tried, torch.full((), 4.0, device=device), torch.ones((), device=device))
    return all(torch.equal(tried[i][0], untouched[i][0]) for i in (0, 2, 3))


def _adam(kernel: Any) -> _Kernel:
    def run(tensors: list[list[Tensor]], grad_scale: Tensor | None, found_inf: Tensor | None) -> None:
        params, grads, first, second = tensors
        steps = [torch.ones((), device=params[0].device)]
        kernel(
            params, grads, first, second, [], steps, lr=0.1, beta1=0.9, beta2=0.99, weight_decay=0.1, eps=1e-8,
            amsgrad=False, maximize=False, grad_scale=grad_scale, found_inf=found_inf,
        )  # fmt: skip

    return run


def _sgd(tensors: list[list[Tensor]], grad_scale: Tensor | None, found_inf: Tensor | None) -> None:
    params, grads, momentum, _ = tensors
    torch._fused_sgd_(
        params, grads, momentum, weight_decay=0.1, momentum=0.9, lr=0.1, dampening=0.1, nesterov=False,
        maximize=False, is_first_step=False, grad_scale=grad_scale, found_inf=found_inf,
    )  # fmt: skip


def _adagrad(tensors: list[list[Tensor]], grad_scale: Tensor | None, found_inf: Tensor | None) -> None:
    params, grads, sums, _ = tensors
    torch._fused_adagrad_(
        params, grads, sums, [torch.ones((), device=params[0].device)], lr=0.1, lr_decay=0.0, weight_decay=0.1,
        eps=1e-8, maximize=False, grad_scale=grad_scale, found_inf=found_inf,
    )  # fmt: skip


#: By class name: mypy takes an optimizer class for something that cannot be hashed.
_KERNELS: dict[str, _Kernel] = {
    "Adam": _adam(torch._fused_adam_),
    "AdamW": _adam(torch._fused_adamw_),
    "SGD": _sgd,
    "Adagrad": _adagrad,
}

"""One call of a module, as a sampled step keeps it: its tensors while they last, then their numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Guard = Callable[..., Any]


def unguarded(observe: Callable[..., Any], *args: Any) -> Any:
    """The guard of a monitor that nothing is attached to: just call."""
    return observe(*args)


def on_gradient(tensor: Tensor, keep: Callable[[Tensor], None], guard: Guard) -> None:
    """Call ``keep`` with the gradient that reaches a tensor in the backward pass.

    The hook is put on the operation, not on the tensor: a tensor with hooks warns when it is pickled.
    """
    node, position = tensor.grad_fn, tensor.output_nr
    if node is None:
        return

    def before(grads: tuple[Tensor | None, ...]) -> None:
        grad = grads[position]
        if grad is not None:
            guard(keep, grad)

    node.register_prehook(before)


class RecurrentCall:
    """One call of ``nn.RNN``, ``nn.LSTM`` or ``nn.GRU``, kept until its gradient is known."""

    def __init__(self, call: Call, args: tuple[Any, ...], out: Any, *, guard: Guard):
        assert isinstance(call.module, nn.RNNBase)
        self.site, self.module, self.args, self.call = call.site, call.module, args, call
        self.output = out[0] if isinstance(out, tuple) else None
        self.hidden_grad: Tensor | None = None
        hidden = first_tensor(out[1]) if isinstance(out, tuple) else None
        if hidden is not None and hidden.requires_grad:
            on_gradient(hidden, self._keep_hidden, guard)

    def _keep_hidden(self, grad: Tensor) -> None:
        self.hidden_grad = grad.detach()


#: Batch statistics are compared with the running ones on about this many values.
BATCHNORM_SAMPLE = 1 << 16


@torch.no_grad()
def batchnorm_numbers(module: nn.modules.batchnorm._BatchNorm, x: Tensor) -> dict[str, float]:
    """Samples per channel, and how far the running statistics are from the batch's (in running standard deviations)."""
    found = {
        "channel_samples": float(x.numel() / max(1, x.shape[1])) if x.dim() > 1 else 1.0,
        "batch_rows": float(x.shape[0]),
    }
    mean, var = module.running_mean, module.running_var
    if mean is None or var is None or x.dim() < 2 or x.numel() <= x.shape[1]:
        return found
    values = x.detach().reshape(x.shape[0], x.shape[1], -1)
    values = values[:, :, :: (x.numel() // BATCHNORM_SAMPLE) | 1]  # the variance of a whole batch takes milliseconds
    batch_var, batch_mean = torch.var_mean(values.float(), (0, 2), correction=0)
    shift = ((batch_mean - mean).abs() / (var + module.eps).sqrt()).median()
    scale = (batch_var + module.eps).div(var + module.eps).log().abs().median()
    return found | {"stat_shift": float(shift), "stat_scale": float(scale)}


def version(tensor: Tensor | None) -> int:
    """How often a tensor has been written to; inference tensors do not count."""
    return 0 if tensor is None or tensor.is_inference() else tensor._version


class Call:
    """One call of a site: its input and output while they last, then their numbers."""

    __slots__ = ("after", "before", "before_version", "grad", "kind", "module", "numel", "out", "seen",
                 "site", "version")  # fmt: skip

    def __init__(self, site: int, kind: str, module: nn.Module, before: Tensor | None, out: Tensor):
        self.site, self.kind, self.module = site, kind, module
        self.before, self.out = before, out
        self.before_version = version(before)
        self.version = version(out)
        self.numel = out.numel()
        self.seen: dict[str, float] = {}
        self.grad: Tensor | None = None


def model_input(args: tuple[Any, ...]) -> Tensor | None:
    """What a model is given: the first tensor, or of a batch that is a dict the largest one of real numbers."""
    batch = args[0] if args else None
    held = [v for v in batch.values() if isinstance(v, Tensor)] if isinstance(batch, dict) else []
    real = [v for v in held if v.is_floating_point()]
    return max(real, key=Tensor.numel) if real else first_tensor(args)


def first_tensor(value: Any) -> Tensor | None:
    """The first tensor in a (possibly nested) argument or output."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, dict):
        value = list(value.values())
    elif hasattr(value, "__dataclass_fields__"):
        value = list(vars(value).values())
    if isinstance(value, list | tuple):
        for item in value:
            found = first_tensor(item)
            if found is not None:
                return found
    return None

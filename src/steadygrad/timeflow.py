"""How the gradient travels back through time in ``nn.RNN``, ``nn.LSTM`` and ``nn.GRU``.

Parameter norms cannot show it: every time step adds to the same weight. So a few sequences of the batch are run once
more through the module on copies, and the loss's own gradient at the output is carried back to each time step's input.

Shapes legend: T = time steps, B = sequences kept (at most four).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import grad as differentiate  # by name, before attach wraps it: this is no step of the script

_SEQUENCES = 4


def output_gradient(module: nn.RNNBase, output: Tensor, grad: Tensor | None, hidden: Tensor | None) -> Tensor | None:
    """dL/d(output), also where the script reads only the last hidden state (forward direction)."""
    if grad is not None or hidden is None or output.dim() != 3 or hidden.dim() != 3:
        return grad
    full = torch.zeros_like(output)
    last = full.select(1 if module.batch_first else 0, -1)
    last[:, : hidden.shape[-1]] = hidden[-2 if module.bidirectional else -1]
    return full


def active_share(module: nn.RNNBase, grad_output: Tensor) -> float:
    """Share of time steps at which the loss reads the output directly."""
    if grad_output.dim() != 3:
        return 0.0
    per_step = grad_output.detach().movedim(1 if module.batch_first else 0, 0).flatten(1).abs().amax(1)
    return float((per_step > 0).float().mean())


def flow_through_time(module: nn.RNNBase, args: tuple[Any, ...], grad_output: Tensor) -> list[float]:
    """RMS of dL/d(input) at each time step, first to last, of the gradient injected at the last time step that has one.

    Random state, parameters and their gradients are left as they were. Returns [] where it cannot be measured (packed
    sequences, unbatched input).
    """
    x = args[0] if args else None
    if not isinstance(x, Tensor) or x.dim() != 3 or grad_output.dim() != 3:
        return []
    time = 1 if module.batch_first else 0
    keep = slice(0, _SEQUENCES)
    rows = (keep,) if module.batch_first else (slice(None), keep)
    vector = grad_output.detach()[rows].clone()
    per_step = vector.movedim(time, 0).flatten(1).norm(dim=1)
    alive = (per_step > 0).nonzero()
    if not len(alive):
        return []
    last = int(alive[-1])
    mask = torch.zeros_like(per_step)
    mask[last] = 1.0
    vector = (vector.movedim(time, 0) * mask[:, None, None]).movedim(0, time)
    state = _state(args[1] if len(args) > 1 else None, keep)
    devices = [x.device] if x.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.enable_grad():
        probe = x.detach()[rows].clone().requires_grad_()
        output, _ = module.forward(probe, state) if state is not None else module.forward(probe)
        (gradient,) = differentiate((output * vector).sum(), probe)
    size = gradient.movedim(time, 0)[: last + 1].flatten(1).pow(2).mean(1).sqrt()
    values: list[float] = size.tolist()
    return values


def _state(hidden: Any, keep: slice) -> Any:
    if isinstance(hidden, Tensor):
        return hidden.detach()[:, keep].contiguous()
    if isinstance(hidden, tuple):
        return tuple(h.detach()[:, keep].contiguous() for h in hidden)
    return None

"""A small training with every part a step can change, and its whole state to be compared bit for bit."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop

Make = Callable[[list[nn.Parameter]], Optimizer]

#: The optimizers whose kernels a clip can be folded into, and some that have none.
FUSED: dict[str, Make] = {
    "adam": lambda p: Adam(p, lr=0.01, fused=True),
    "amsgrad": lambda p: Adam(p, lr=0.01, amsgrad=True, fused=True),
    "adamw": lambda p: AdamW(p, lr=0.01, weight_decay=0.1, fused=True),
    "sgd": lambda p: SGD(p, lr=0.05, fused=True),
    "momentum": lambda p: SGD(p, lr=0.05, momentum=0.9, dampening=0.1, weight_decay=0.01, fused=True),
    "nesterov": lambda p: SGD(p, lr=0.05, momentum=0.9, nesterov=True, fused=True),
    "adagrad": lambda p: Adagrad(p, lr=0.05, fused=True),
}
UNFUSED: dict[str, Make] = {
    "foreach adamw": lambda p: AdamW(p, lr=0.01, foreach=True),
    "loop adam": lambda p: Adam(p, lr=0.01, foreach=False),
    "momentum sgd": lambda p: SGD(p, lr=0.05, momentum=0.9),
    "rmsprop": lambda p: RMSprop(p, lr=0.01, momentum=0.9),
}
ALL = FUSED | UNFUSED


def network(seed: int = 0) -> nn.Sequential:
    """No bias before the BatchNorm: its gradient is rounding noise, which Adam would make large."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, 16, bias=False), nn.BatchNorm1d(16), nn.Tanh(), nn.Linear(16, 3))


def batches(n: int, rows: int = 16, seed: int = 1) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(n):
        x = torch.randn(rows, 8, generator=generator)
        yield x, x[:, :3].sin() + 0.1 * torch.randn(rows, 3, generator=generator)


def mse(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    x, y = batch
    return nn.functional.mse_loss(model(x), y)


def state_of(*parts: Any) -> list[Any]:
    """Everything that a step may change, as it is now: of modules, optimizers, schedulers, scalers, clippers."""
    return [copy.deepcopy(part.state_dict()) for part in parts]


def same(a: Any, b: Any) -> bool:
    """Whether two states agree to the bit. NaN equals NaN: what was there before is what counts."""
    if isinstance(a, Tensor):
        if not isinstance(b, Tensor) or a.dtype != b.dtype or a.shape != b.shape:
            return False
        return a.detach().numpy(force=True).tobytes() == b.detach().numpy(force=True).tobytes()
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return isinstance(b, list | tuple) and len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def distance(a: nn.Module, b: nn.Module) -> float:
    """Largest difference between the parameters of two models, relative to the largest entry."""
    pairs = list(zip(a.parameters(), b.parameters(), strict=True))
    scale = max(float(p.detach().abs().max()) for p, _ in pairs)
    return max(float((p - q).detach().abs().max()) for p, q in pairs) / scale

"""Gradient clipping with one contract: each clipper is called between ``backward`` and the optimizer's step.

>>> import torch
>>> from steadygrad.clip import GlobalNorm
>>> model = torch.nn.Linear(4, 1)
>>> (1000 * model(torch.ones(2, 4))).sum().backward()
>>> info = GlobalNorm(1.0)(model)
>>> bool(info.clipped), round(float(info.norm_after), 4)
(True, 1.0)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from steadygrad.clip.adaptive import AdaGC, Quantile, ZScore
    from steadygrad.clip.base import Clipper
    from steadygrad.clip.compose import Chain, Scheduled
    from steadygrad.clip.distributed import Sharded
    from steadygrad.clip.fixed import BlockRMS, GlobalNorm, PerTensorNorm, Value
    from steadygrad.clip.info import ClipInfo
    from steadygrad.clip.thresholds import advise
    from steadygrad.clip.unitwise import AdaptiveUnit

_HOME = {
    "AdaGC": "adaptive",
    "AdaptiveUnit": "unitwise",
    "BlockRMS": "fixed",
    "Chain": "compose",
    "ClipInfo": "info",
    "Clipper": "base",
    "GlobalNorm": "fixed",
    "PerTensorNorm": "fixed",
    "Quantile": "adaptive",
    "Scheduled": "compose",
    "Sharded": "distributed",
    "Value": "fixed",
    "ZScore": "adaptive",
    "advise": "thresholds",
}
__all__ = [
    "AdaGC",
    "AdaptiveUnit",
    "BlockRMS",
    "Chain",
    "ClipInfo",
    "Clipper",
    "GlobalNorm",
    "PerTensorNorm",
    "Quantile",
    "Scheduled",
    "Sharded",
    "Value",
    "ZScore",
    "advise",
]


def __getattr__(name: str) -> Any:
    """Import on first use, so that threshold advice on a stored run needs no torch."""
    if name in _HOME:
        return getattr(import_module(f"steadygrad.clip.{_HOME[name]}"), name)
    raise AttributeError(f"module 'steadygrad.clip' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

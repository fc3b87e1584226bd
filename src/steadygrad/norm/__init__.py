"""BatchNorm looked into: running against batch statistics, training against evaluation mode, and exact recalibration.

>>> import torch
>>> from steadygrad import norm
>>> model = torch.nn.Sequential(torch.nn.BatchNorm1d(4))
>>> data = torch.randn(512, 4) + 3
>>> norm.inspect(model, data).gap > 0.9
True
>>> _ = norm.recalibrate(model, data.split(64))
>>> norm.inspect(model, data).gap < 0.001
True
"""

from __future__ import annotations

from steadygrad.norm.inspect import Inspection, LayerStatistics, inspect
from steadygrad.norm.layers import Moments, batchnorm_layers, frozen
from steadygrad.norm.recalibrate import Recalibrated, recalibrate

__all__ = [
    "Inspection",
    "LayerStatistics",
    "Moments",
    "Recalibrated",
    "batchnorm_layers",
    "frozen",
    "inspect",
    "recalibrate",
]

"""Initialisers with the right fans, the right rule for every weight, and an audit of scales before any training.

>>> import torch
>>> from steadygrad import init
>>> net = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
>>> [choice.rule for choice in init.auto_(net, generator=torch.Generator().manual_seed(0))]
['kaiming', 'xavier']
"""

from __future__ import annotations

from steadygrad.init.audit import Audit, Scale, audit
from steadygrad.init.auto import RULES, Choice, auto_, plan
from steadygrad.init.gains import gain
from steadygrad.init.lsuv import Scaled, lsuv_
from steadygrad.init.rules import (
    identity_,
    kaiming_,
    norm_layers_,
    normal_,
    orthogonal_,
    residual_,
    truncated_normal_,
    uniform_,
    xavier_,
)
from steadygrad.init.weights import Fans, Weight, fans, weights

__all__ = [
    "RULES",
    "Audit",
    "Choice",
    "Fans",
    "Scale",
    "Scaled",
    "Weight",
    "audit",
    "auto_",
    "fans",
    "gain",
    "identity_",
    "kaiming_",
    "lsuv_",
    "norm_layers_",
    "normal_",
    "orthogonal_",
    "plan",
    "residual_",
    "truncated_normal_",
    "uniform_",
    "weights",
    "xavier_",
]

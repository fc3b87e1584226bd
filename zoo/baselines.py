"""What the answers are compared with: the published rules of another tool, and a random guess.

The rules are those of torchmortem 0.1.1 as its source states them, over the same recorded statistics; where it names
several findings, the first in its own order counts. It has no rule for most root causes: the cause is the one that its
advice for the finding puts first.
"""

from __future__ import annotations

import random

import numpy as np

from steadygrad.diagnosis import CAUSES
from steadygrad.history import History
from steadygrad.online import median
from steadygrad.view import View


def rival(history: History) -> list[str]:
    """Causes by absolute thresholds: norms over 1e3, ratios outside [1e-5, 1e-1], |activation| over 0.95 and so on."""
    view = View(history)
    found: list[str] = []
    sites, signal = view.flow("signal", len(view.samples) // 2) if view.samples else ([], np.zeros(0))
    if len(sites) > 1 and signal[0] > 0 and signal[-1] / signal[0] >= 100:
        found.append("saturating-activation")
    norms = view.main.grad_norm.values() if view.main is not None else np.zeros(0)
    if len(norms) and norms.max() > 1e3:
        found.append("long-recurrence")
    zeros = view.site("out_zeros")
    shares = [median(column) for column in zeros.T]
    if any(share > 0.5 for share in shares):
        found.append("dying-relu")
    top = view.site("out_rms")
    if top.size and (np.nan_to_num(np.median(top, axis=0)) > 0.95).any():
        found.append("saturating-activation")
    ratio = view.matrix_ratio[np.isfinite(view.matrix_ratio)]
    if len(ratio) and np.median(ratio) > 1e-1:
        found.append("learning-rate-too-high")
    if len(ratio) and np.median(ratio) < 1e-5:
        found.append("learning-rate-too-low")
    values = view.main.loss.values() if view.main is not None else np.zeros(0)
    if len(values) >= 20:
        last = values[-20:]
        if np.mean(np.diff(last) > 0) >= 0.8 and last[-1] > 1.5 * last[0]:
            found.append("learning-rate-too-high")
        if float(np.ptp(last)) < 1e-5:
            found.append("learning-rate-too-low")
    return list(dict.fromkeys(found))


def guess(name: str) -> list[str]:
    """Three causes drawn at random, the same ones every time for a script."""
    codes = [rule.code for rule in CAUSES]
    return random.Random(name).sample(codes, 3)

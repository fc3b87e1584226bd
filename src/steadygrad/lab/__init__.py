"""The lab: every claim of the textbooks put to the test, over several seeds, with a verdict and its pictures.

>>> from steadygrad.lab import EXPERIMENTS
>>> EXPERIMENTS["xavier-vs-kaiming"].claim
'Kaiming initialisation trains ReLU nets faster than Xavier.'
"""

from __future__ import annotations

from steadygrad.lab.experiment import Condition, Experiment, Picture, Run
from steadygrad.lab.experiments import EXPERIMENTS
from steadygrad.lab.running import Result, perform
from steadygrad.lab.verdict import Verdict, judge
from steadygrad.lab.workers import Workers

__all__ = [
    "EXPERIMENTS",
    "Condition",
    "Experiment",
    "Picture",
    "Result",
    "Run",
    "Verdict",
    "Workers",
    "judge",
    "perform",
]

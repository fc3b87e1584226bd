"""The experiments, one file per family, in the order in which they are told."""

from __future__ import annotations

from steadygrad.lab.experiment import Experiment
from steadygrad.lab.experiments import (
    batchnorm,
    clipping,
    depth,
    initial,
    optimizers,
    ranks,
    rates,
    recipes,
    statistics,
    thresholds,
)

FAMILIES = (depth, initial, clipping, thresholds, rates, optimizers, batchnorm, recipes, statistics, ranks)
EXPERIMENTS: dict[str, Experiment] = {e.name: e for family in FAMILIES for e in family.EXPERIMENTS}

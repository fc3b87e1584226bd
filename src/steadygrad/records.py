"""The plain data that crosses layers: what was observed, what was found, why, and what may help.

Shapes legend (arrays are float32 numpy vectors):
    P = parameters, in the order of the run's parameter table
    M = module sites, in order of first execution (a site is a module, or a functional activation inside one)

Nothing here imports torch, so stored runs can be read, diagnosed and drawn where torch is not installed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]
Json = Mapping[str, Any]

#: In a per-parameter norm vector: the parameter had no gradient at this step (``.grad is None``).
NO_GRADIENT = -1.0

PARAMETER_STATS = (
    "grad_l1",  # sum of |g|
    "grad_mean",
    "grad_std",
    "grad_max",  # max of |g|
    "grad_zeros",  # share of exact zeros
    "weight_norm",  # L2 norm before the update
    "update_norm",  # L2 norm of (after - before), whatever the optimizer
)
SITE_STATS = (
    "out_rms",  # root mean square of the output
    "out_mean",
    "out_max",  # max of |output|
    "out_zeros",  # share of exact zeros
    "dead_units",  # share of units that are zero for every sample of the batch
    "saturated",  # share of inputs in the flat tails (sigmoid, tanh, gates); NaN elsewhere
    "in_rms",  # root mean square of the input
    "signal",  # L2 norm of dL/d(output), the backward signal
    "signal_first",  # the same for the first call in the step (reused modules: the earliest time step)
    "signal_last",  # the same for the last call
    "calls",  # how often the site ran in this forward
    "channel_samples",  # BatchNorm in training: values averaged per channel
    "batch_rows",  # BatchNorm in training: size of the batch dimension
    "stat_shift",  # BatchNorm: |batch mean - running mean| in running standard deviations, median over channels
    "stat_scale",  # BatchNorm: |log(batch variance / running variance)|, median over channels
)


@dataclass(frozen=True, slots=True)
class ParameterInfo:
    """One row of the parameter table. ``optimizer`` is None for a trainable tensor that no optimizer holds."""

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    role: str  # weight | bias | norm | embedding | recurrent | other
    module: str  # dotted name of the owning module, "" at the root
    module_type: str  # class name, e.g. "Linear"
    trainable: bool
    optimizer: int | None = None
    fan_in: int = 0
    init_rms: float = float("nan")  # root mean square of the values when first seen
    weight_decay: float = 0.0
    model: str = ""  # the variable of its model, where the name begins with it to tell several models apart


@dataclass(frozen=True, slots=True)
class SiteInfo:
    """One row of the site table: a module, or a functional activation called inside one."""

    index: int
    name: str  # dotted module name; "name:relu" for a functional call inside it
    type: str  # class name, or the function's name
    kind: str  # linear | conv | recurrent | norm | activation | attention | embedding | dropout | loss | other
    activation: str = ""  # relu, tanh, ... for kind == "activation"
    params: tuple[int, ...] = ()  # parameters held directly


@dataclass(frozen=True, slots=True)
class OptimizerInfo:
    """One optimizer as built: class name and the hyper-parameters of its first group."""

    index: int
    type: str
    hyper: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Clip:
    """A gradient clip seen in the step: ``norm`` before it, the threshold, and the factor applied."""

    kind: str  # norm | value
    threshold: float
    norm: float
    coefficient: float


@dataclass(frozen=True, slots=True)
class Amp:
    """A loss scaler's state at the step: its scale, and whether the optimizer step was skipped."""

    scale: float
    skipped: bool


@dataclass(frozen=True, slots=True)
class Detail:
    """What only sampled steps carry: one P-vector per parameter statistic, one M-vector per site statistic."""

    parameters: Mapping[str, Vector] = field(default_factory=dict)
    sites: Mapping[str, Vector] = field(default_factory=dict)
    batch: Mapping[str, float] = field(default_factory=dict)  # input_*, target_* statistics


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One optimizer step. ``stream`` numbers the optimizers, so that a GAN's two losses are never mixed."""

    step: int  # 1 is the first step of this stream
    stream: int = 0
    loss: float | None = None
    lr: float | None = None
    grad_norm: float | None = None  # global L2 norm before any clip
    clip: Clip | None = None
    amp: Amp | None = None
    norms: Vector | None = None  # P: gradient L2 norm before any clip, NO_GRADIENT where there was none
    detail: Detail | None = None
    flags: tuple[str, ...] = ()  # things seen in this step, e.g. "stale-gradient"


@dataclass(frozen=True, slots=True)
class Fact:
    """Something observed once about the run rather than at every step (graph, origin of a NaN, loss call ...)."""

    kind: str
    step: int
    data: Json


@dataclass(frozen=True, slots=True)
class Symptom:
    """Something wrong that was observed. ``severity`` is "warning" or "critical"."""

    code: str
    severity: str
    location: str
    first_step: int
    last_step: int
    evidence: Mapping[str, float]
    message: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class Cause:
    """Why: a ranked explanation with the evidence for and against it."""

    code: str
    confidence: float
    location: str
    evidence: tuple[str, ...]
    against: tuple[str, ...] = ()
    remedies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Advice:
    """One remedy put into words with this run's numbers, and the lines to paste."""

    remedy: str
    cause: str
    why: str
    risk: str
    patch: str


@dataclass(frozen=True, slots=True)
class NotRun:
    """A check that could not be made, and why: silence is not a clean bill of health."""

    check: str
    why: str


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The whole answer for a run. ``verdict`` is healthy, unhealthy or unknown."""

    verdict: str
    symptoms: tuple[Symptom, ...] = ()
    causes: tuple[Cause, ...] = ()
    advice: tuple[Advice, ...] = ()
    checks_not_run: tuple[NotRun, ...] = ()


@dataclass(frozen=True, slots=True)
class RemedySpec:
    """One remedy with its parameter and place, as text ``code[:value][@place]`` (see ``steadygrad.remedies.spec``)."""

    code: str
    value: str = ""
    place: str = ""


@dataclass(frozen=True, slots=True)
class Candidate:
    """Remedies to try together. ``kind`` is "remedy", or for the controls "no-op" and "random"."""

    specs: tuple[RemedySpec, ...]
    cause: str  # the code of the cause it is meant for, "" for controls
    why: str
    kind: str = "remedy"
    changes_loss_scale: bool = False  # its loss can only be compared relative to its own first value


@dataclass(frozen=True, slots=True)
class TrialResult:
    """What came of running the script with a candidate in place."""

    candidate: Candidate
    seed: int
    status: str  # finished | stopped-early | non-finite | crashed | not-applicable | cut
    steps: int = 0
    loss: float | None = None  # robust loss at the end
    curve: tuple[tuple[int, float], ...] = ()  # (step, loss), thinned
    symptoms: tuple[str, ...] = ()  # codes
    verdict: str = ""
    seconds: float = 0.0
    note: str = ""

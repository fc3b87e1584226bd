"""Synthetic runs for the tests: a plain stack of layers, told step by step what it is to have shown.

run = Net(layers=6, activation="tanh")
run.train(100, loss=lambda step: 2.3, signal=lambda step: shrinking)
run.history()
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from steadygrad.history import History
from steadygrad.records import (
    NO_GRADIENT,
    Amp,
    Clip,
    Detail,
    Fact,
    OptimizerInfo,
    ParameterInfo,
    SiteInfo,
    StepRecord,
)

WIDTH = 64
EARLY = (1, 2, 3, 5)
Vectors = dict[str, np.ndarray]


def falling(step: int) -> float:
    """A loss as a healthy run has it: an exponential fall with some scatter."""
    return 0.3 + 2.0 * math.exp(-step / 40) + 0.02 * math.sin(37.0 * step)


def flat(step: int) -> float:
    """A loss that does not move."""
    return 2.3 + 0.01 * math.sin(37.0 * step)


def noise(step: int, size: float = 1.0) -> float:
    """The same pseudo-random number in [-size, size] for a step, on every machine."""
    return size * math.sin(1e4 * math.sin(step * 12.9898))


class Net:
    """A run of ``layers`` linear layers with an activation between each two.

    The first layer is site 0 and parameters 0 and 1; what :meth:`train` is given is one value for all steps, or a
    function of the step.
    """

    def __init__(self, layers: int = 5, activation: str = "relu", *, optimizer: str = "SGD", **hyper: float) -> None:
        self.parameters: list[ParameterInfo] = []
        self.sites: list[SiteInfo] = []
        self.optimizers = [OptimizerInfo(0, optimizer, {"lr": 0.1, **hyper})]
        self.events: list[StepRecord | Fact] = []
        for layer in range(layers):
            self.linear(f"layers.{layer}")
            if layer < layers - 1 and activation:
                self.activation(f"act.{layer}", activation)

    # -- tables ---------------------------------------------------------------------------------------------------

    def linear(self, name: str, kind: str = "linear", role: str = "weight", gain: float = 1.0) -> Net:
        """A layer with weight and bias."""
        rows = (
            self.parameter(f"{name}.weight", (WIDTH, WIDTH), role, gain=gain),
            self.parameter(f"{name}.bias", (WIDTH,), "bias"),
        )
        return self.site(name, "Linear", kind, rows)

    def parameter(
        self,
        name: str,
        shape: tuple[int, ...],
        role: str,
        *,
        optimizer: int | None = 0,
        trainable: bool = True,
        gain: float = 1.0,
    ) -> int:
        """A row of the parameter table."""
        row, fan_in = len(self.parameters), shape[-1] if len(shape) > 1 else 0
        init = gain / math.sqrt(fan_in) if fan_in else 0.0
        self.parameters.append(
            ParameterInfo(
                row, name, shape, "float32", role, name.rpartition(".")[0], "Linear", trainable, optimizer, fan_in, init
            )
        )
        return row

    def activation(self, name: str, activation: str) -> Net:
        """An activation after the last layer."""
        return self.site(name, activation.title(), "activation", (), activation)

    def site(self, name: str, type: str, kind: str, params: tuple[int, ...] = (), activation: str = "") -> Net:
        """A row of the site table."""
        self.sites.append(SiteInfo(len(self.sites), name, type, kind, activation, params))
        return self

    def change(self, row: int, **values: object) -> Net:
        """Another value in a row of the parameter table."""
        self.parameters[row] = replace(self.parameters[row], **values)  # type: ignore[arg-type]
        return self

    # -- what a statistic looks like over the layers --------------------------------------------------------------

    def along_depth(self, first: float, last: float) -> np.ndarray:
        """An M-vector that runs from ``first`` at the first layer to ``last`` at the last one, evenly in decades."""
        return np.geomspace(first, last, len(self.sites)).astype(np.float32)

    def at(self, kind: str, value: float) -> np.ndarray:
        """An M-vector with ``value`` at the sites of a kind (or of an activation), NaN elsewhere."""
        return np.array([value if kind in (s.kind, s.activation) else np.nan for s in self.sites], np.float32)

    # -- steps ----------------------------------------------------------------------------------------------------

    def fact(self, kind: str, step: int = 1, **data: object) -> Net:
        """A fact, in order with the steps."""
        self.events.append(Fact(kind, step, data))
        return self

    def train(
        self,
        steps: int,
        *,
        loss: Callable[[int], float] | float | None = falling,
        gradient: Callable[[int], float | Sequence[float]] | float = 1.0,
        ratio: Callable[[int], float | Sequence[float]] | float = 2e-3,
        rate: Callable[[int], float] | float = 0.1,
        weight: Callable[[int], float | Sequence[float]] | float = 8.0,
        signal: Callable[[int], np.ndarray] | None = None,
        stats: Callable[[int], Vectors] | None = None,
        clip: Callable[[int], Clip | None] | None = None,
        amp: Callable[[int], Amp | None] | None = None,
        flags: Callable[[int], tuple[str, ...]] = lambda _: (),
        batch: Callable[[int], dict[str, float]] = lambda _: {"batch_size": 32.0},
        stream: int = 0,
        every: int = 10,
    ) -> Net:
        """Append steps. ``gradient`` is the norm of every parameter's gradient, ``ratio`` update over weight norm."""
        size = len(self.parameters)
        for step in range(1, steps + 1):
            trained = np.array([p.trainable and p.optimizer == stream for p in self.parameters])
            norms = np.where(trained, np.broadcast_to(value_at(gradient, step), size), NO_GRADIENT).astype(np.float32)
            detail = None
            if step in EARLY or step % every == 0:
                weights = np.broadcast_to(value_at(weight, step), size).astype(np.float32)
                got = norms > NO_GRADIENT
                parameters = {
                    "weight_norm": np.where(trained, weights, np.nan),
                    "update_norm": np.where(trained, weights * value_at(ratio, step), np.nan),
                    "grad_max": np.where(got, norms, np.nan),
                    "grad_std": np.where(got, norms / WIDTH, np.nan),
                    "grad_zeros": np.where(got, 0.0, np.nan),
                }
                detail = Detail(single(parameters), single(self._sites(step, signal, stats)), batch(step))
            skipped = (taken := amp(step) if amp else None) is not None and taken.skipped
            total = float(np.sqrt((norms[norms > NO_GRADIENT].astype(float) ** 2).sum()))
            self.events.append(
                StepRecord(
                    step=step,
                    stream=stream,
                    loss=None if loss is None else float(value_at(loss, step)),
                    lr=float(value_at(rate, step)),
                    grad_norm=None if skipped else total,
                    clip=clip(step) if clip else None,
                    amp=taken,
                    norms=None if skipped else norms,
                    detail=None if skipped else detail,
                    flags=flags(step),
                )
            )
        return self

    def _sites(
        self, step: int, signal: Callable[[int], np.ndarray] | None, stats: Callable[[int], Vectors] | None
    ) -> Vectors:
        count = len(self.sites)
        vectors = {
            "out_rms": np.ones(count),
            "in_rms": np.ones(count),
            "out_zeros": self.at("relu", 0.5),
            "dead_units": self.at("relu", 0.02),
            "saturated": np.fmax(self.at("sigmoid", 0.05), self.at("tanh", 0.05)),
            "calls": np.ones(count),
            "signal": signal(step) if signal is not None else np.ones(count),
        }
        return vectors | (stats(step) if stats is not None else {})

    # -- results --------------------------------------------------------------------------------------------------

    def history(self, events: Sequence[StepRecord | Fact] | None = None) -> History:
        """The history of this run, or of other events with the tables of this run."""
        history = History()
        for event in self.events if events is None else events:
            history.add(event)
        history.parameters, history.sites = list(self.parameters), list(self.sites)
        history.optimizers = list(self.optimizers)
        return history


def value_at(value, step):
    """What a function of the step, or a constant, gives at a step."""
    return np.asarray(value(step) if callable(value) else value, dtype=float)


def single(vectors: Vectors) -> Vectors:
    """As the monitor makes them: float32."""
    return {key: np.asarray(vector, dtype=np.float32) for key, vector in vectors.items()}


def interleaved(net: Net, *runs: Sequence[StepRecord | Fact]) -> Net:
    """Put the events of several optimizers in turns, as a GAN's."""
    net.events = [event for together in zip(*runs, strict=True) for event in together]
    return net


def rescaled(event: StepRecord | Fact, *, loss: float = 1.0, gradient: float = 1.0) -> StepRecord | Fact:
    """The same step measured in other units of the loss, or of the gradient. The weights and updates stay."""
    if isinstance(event, Fact):
        return event
    detail = event.detail
    if detail is not None:
        parameters = {
            k: v * gradient if k in ("grad_l1", "grad_mean", "grad_std", "grad_max") else v
            for k, v in detail.parameters.items()
        }
        sites = {k: v * gradient if k.startswith("signal") else v for k, v in detail.sites.items()}
        detail = replace(detail, parameters=single(parameters), sites=single(sites))
    clip = event.clip
    if clip is not None:
        clip = replace(clip, threshold=clip.threshold * gradient, norm=clip.norm * gradient)
    norms = event.norms
    return replace(
        event,
        loss=None if event.loss is None else event.loss * loss,
        grad_norm=None if event.grad_norm is None else event.grad_norm * gradient,
        norms=None
        if norms is None
        else np.where(norms == NO_GRADIENT, NO_GRADIENT, norms * gradient).astype(np.float32),
        clip=clip,
        detail=detail,
    )


def spoiled(event: StepRecord | Fact) -> StepRecord | Fact:
    """The same step with NaN in place of every number that was measured."""
    if isinstance(event, Fact):
        return event
    nan, detail, clip = math.nan, event.detail, event.clip
    if detail is not None:
        detail = Detail(
            {k: np.full_like(v, nan) for k, v in detail.parameters.items()},
            {k: np.full_like(v, nan) for k, v in detail.sites.items()},
            dict.fromkeys(detail.batch, nan),
        )
    return replace(
        event,
        loss=nan,
        lr=nan,
        grad_norm=nan,
        norms=None if event.norms is None else np.full_like(event.norms, nan),
        clip=None if clip is None else replace(clip, threshold=nan, norm=nan, coefficient=nan),
        amp=None if event.amp is None else replace(event.amp, scale=nan),
        detail=detail,
    )

"""Every detector against the same suite: it fires, it stays silent, and units, NaN and short runs do not upset it.

The table is ``CASES``: for each symptom code synthetic runs on which it must fire, and runs that look alike and on
which it must not. A code of the vocabulary without such rows fails the suite.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
from histories import WIDTH, Net, falling, flat, interleaved, noise, rescaled, spoiled
from hypothesis import given, settings
from hypothesis import strategies as st

from steadygrad.detectors import DETECTORS, Detector, checks_not_run, detect
from steadygrad.history import History
from steadygrad.records import PARAMETER_STATS, SITE_STATS, Amp, Clip, Detail, Fact, StepRecord, Symptom
from steadygrad.view import View

CODES = (
    "exploding-gradients",
    "vanishing-gradients",
    "non-finite",
    "loss-spike",
    "diverging-loss",
    "stalled-loss",
    "oscillating-loss",
    "dead-units",
    "saturated-units",
    "oversized-updates",
    "undersized-updates",
    "zero-gradients",
    "activation-drift",
    "unreliable-batchnorm",
    "ineffective-clipping",
    "replica-drift",
)


@dataclass(frozen=True)
class Case:
    """A run, and whether the code is to fire on it. ``why`` is the clause of the vocabulary that it stands for."""

    code: str
    fires: bool
    why: str
    build: Callable[[], Net]

    @property
    def id(self) -> str:
        return f"{self.code}-{'fires' if self.fires else 'silent'}-{self.why.replace(' ', '_')}"


CASES: list[Case] = []


def fires(code: str, why: str) -> Callable[[Callable[[], Net]], Callable[[], Net]]:
    return _row(code, True, why)


def silent(code: str, why: str) -> Callable[[Callable[[], Net]], Callable[[], Net]]:
    return _row(code, False, why)


def _row(code: str, fires: bool, why: str) -> Callable[[Callable[[], Net]], Callable[[], Net]]:
    def add(build: Callable[[], Net]) -> Callable[[], Net]:
        CASES.append(Case(code, fires, why, build))
        return build

    return add


# -- healthy runs: nothing at all fires ---------------------------------------------------------------------------


def healthy() -> Net:
    return Net().train(200)


def healthy_adam() -> Net:
    return Net(optimizer="AdamW", weight_decay=0.01).train(200, rate=1e-3, gradient=lambda s: 1 + noise(s, 0.5))


def healthy_deep_residual() -> Net:
    net = Net(12)
    slow = net.along_depth(1.0, 3.0)
    return net.train(200, stats=lambda _: {"out_rms": slow}, signal=lambda _: net.along_depth(1.5, 0.7))


def healthy_clipped() -> Net:
    return Net(activation="tanh").train(
        200, clip=lambda s: Clip("norm", 1.0, 2.0, 0.5) if s % 3 else Clip("norm", 1.0, 0.5, 1.0)
    )


HEALTHY = (healthy, healthy_adam, healthy_deep_residual, healthy_clipped)


# -- exploding-gradients ------------------------------------------------------------------------------------------


@fires("exploding-gradients", "grows over steps")
def growing_gradient() -> Net:
    return Net().train(120, loss=lambda s: 2.3 * 1.05**s, gradient=lambda s: 1.07**s)


@fires("exploding-gradients", "grows over steps until it is not finite")
def growing_to_inf() -> Net:
    return Net().train(
        60, loss=lambda s: 2.3 + s if s < 50 else math.nan, gradient=lambda s: 2.0**s if s < 50 else math.nan
    )


@fires("exploding-gradients", "grows from output to input")
def growing_over_depth() -> Net:
    net = Net(10)
    return net.train(60, loss=flat, signal=lambda _: net.along_depth(1e6, 1.0))


@fires("exploding-gradients", "grows through time")
def growing_over_time() -> Net:
    net = Net(1, activation="").linear("rnn", kind="recurrent", role="recurrent").linear("head")
    net.fact("time-flow", site=1, type="RNN", steps=40, flow=np.geomspace(1e8, 1.0, 40).tolist())
    return net.train(60, loss=flat)


@silent("exploding-gradients", "large but steady")
def large_and_steady() -> Net:
    return Net().train(200, gradient=lambda s: 1e6 * (1 + noise(s, 0.3)))


@silent("exploding-gradients", "single outlier step")
def one_outlier() -> Net:
    return Net().train(200, gradient=lambda s: 1e7 if s == 120 else 1.0)


@silent("exploding-gradients", "grows while the loss keeps improving")
def growing_but_learning() -> Net:
    return Net().train(200, gradient=lambda s: 1.0 + 0.3 * s)


@silent("exploding-gradients", "a closure evaluates the model many times in a step, and converges")
def evaluated_by_a_closure() -> Net:
    net = Net(1, activation="", optimizer="LBFGS")
    rows: dict[str, object] = {"parameters": [0, 1], "uses": [1, 1], "readers": ["Mm", "Add"]}
    net.fact("graph", nodes=4, chain=["MseLoss"], shortest=[1, 1], longest=[1, 1], **rows)
    measured = {"calls": np.array([13.0]), "signal_first": np.array([1.0]), "signal_last": np.array([1e-6])}
    return net.train(60, stats=lambda _: measured)


@silent("exploding-gradients", "grows slowly over depth")
def slowly_growing_over_depth() -> Net:
    net = Net(10)
    return net.train(100, signal=lambda _: net.along_depth(30.0, 1.0))


# -- vanishing-gradients ------------------------------------------------------------------------------------------


def starved(net: Net) -> np.ndarray:
    """Update ratios that follow the depth: next to nothing in front, the usual at the end."""
    return np.geomspace(1e-10, 2e-3, len(net.parameters))


@fires("vanishing-gradients", "shrinks with depth and early layers stand still")
def vanishing() -> Net:
    net = Net(10, "sigmoid")
    return net.train(100, loss=flat, signal=lambda _: net.along_depth(1e-8, 1.0), ratio=starved(net))


@fires("vanishing-gradients", "shrinks with depth until it is zero")
def underflowing() -> Net:
    net = Net(10, "sigmoid")
    signal = net.along_depth(1e-8, 1.0)
    signal[:4] = 0.0
    return net.train(100, loss=flat, signal=lambda _: signal, ratio=starved(net))


@fires("vanishing-gradients", "hidden by an adaptive optimizer")
def vanishing_under_adam() -> Net:
    net = Net(10, "sigmoid", optimizer="Adam")
    return net.train(100, loss=flat, signal=lambda _: net.along_depth(1e-8, 1.0), rate=1e-3)


@silent("vanishing-gradients", "whole gradient shrinks on convergence")
def converged() -> Net:
    net = Net(10)
    scale = lambda s: 10.0 ** (-s / 30)  # noqa: E731
    return net.train(
        200, gradient=scale, ratio=lambda s: 2e-3 * scale(s), signal=lambda s: np.full(len(net.sites), scale(s))
    )


@silent("vanishing-gradients", "sparse embeddings")
def sparse_embedding() -> Net:
    net = Net(4)
    net.parameters[0] = replace(net.parameters[0], role="embedding")
    net.sites[0] = replace(net.sites[0], kind="embedding")
    ratio = np.full(len(net.parameters), 2e-3)
    ratio[0] = 1e-9
    return net.train(100, ratio=ratio)


@silent("vanishing-gradients", "frozen layers")
def frozen_layers() -> Net:
    net = Net(8)
    for row in range(10):
        net.change(row, trainable=False, optimizer=None)
    signal = net.along_depth(1.0, 1.0)
    signal[:10] = np.nan
    return net.train(100, signal=lambda _: signal)


@silent("vanishing-gradients", "shrinks with depth while early layers keep learning")
def shrinking_but_learning() -> Net:
    net = Net(10)
    return net.train(200, signal=lambda _: net.along_depth(1e-5, 1.0))


# -- non-finite ---------------------------------------------------------------------------------------------------


@fires("non-finite", "NaN loss")
def nan_loss() -> Net:
    return Net().train(60, loss=lambda s: falling(s) if s < 40 else math.nan)


@fires("non-finite", "Inf gradient under a finite loss")
def inf_gradient() -> Net:
    net = Net()
    usual, broken = np.ones(len(net.parameters)), np.ones(len(net.parameters))
    broken[4] = math.inf
    return net.train(60, gradient=lambda s: broken if s == 40 else usual)


@fires("non-finite", "a scaler that never stops skipping")
def scaler_that_keeps_skipping() -> Net:
    return Net().train(200, amp=lambda s: Amp(2.0**16, s % 2 == 0))


@silent("non-finite", "a scaler that finds its scale")
def scaler_that_settles() -> Net:
    return Net().train(40, amp=lambda s: Amp(2.0 ** max(1, 16 - s), s <= 12))


@silent("non-finite", "huge but finite")
def huge_but_finite() -> Net:
    return Net().train(100, loss=lambda s: 1e30 * falling(s), gradient=1e15)


# -- loss-spike ---------------------------------------------------------------------------------------------------


@fires("loss-spike", "jumps and comes back")
def spike() -> Net:
    return Net().train(200, loss=lambda s: 60.0 if s == 120 else falling(s))


@fires("loss-spike", "two jumps")
def two_spikes() -> Net:
    return Net().train(300, loss=lambda s: 60.0 if s in (120, 200) else falling(s))


@silent("loss-spike", "noisy but stationary")
def noisy() -> Net:
    return Net().train(300, loss=lambda s: 5.0 + noise(s, 4.0))


@silent("loss-spike", "heavy tails are this loss's nature")
def heavy_tails() -> Net:
    return Net().train(300, loss=lambda s: 1.0 + 30.0 * noise(s) ** 8)


@silent("loss-spike", "the largest of many jumps of all sizes")
def long_tail() -> Net:
    tail = {60: 1.1, 95: 1.6, 130: 2.1, 170: 2.6, 215: 4.4, 260: 1.9}
    return Net().train(300, loss=lambda s: tail.get(s, 1.0 + noise(s, 0.02)))


@silent("loss-spike", "falling loss")
def steeply_falling() -> Net:
    return Net().train(200, loss=lambda s: 1e4 * math.exp(-s / 8) + 1.0)


# -- diverging-loss -----------------------------------------------------------------------------------------------


@fires("diverging-loss", "rises without end")
def diverging() -> Net:
    return Net().train(100, loss=lambda s: 2.3 * 1.05**s)


@fires("diverging-loss", "falls first and then rises far above its start")
def falls_then_rises() -> Net:
    return Net().train(200, loss=lambda s: falling(s) if s < 80 else 0.5 * 1.05 ** (s - 80))


@fires("diverging-loss", "leaves for good a level that it had held, without reaching its start")
def relapses() -> Net:
    return Net().train(300, loss=lambda s: 3 * math.exp(-s / 20) + 0.01 if s < 200 else 1.5 + math.sin(2.4 * s))


@fires("diverging-loss", "leaps a thousandfold at once, and scatters there")
def leaps_at_once() -> Net:
    return Net().train(150, loss=lambda s: 3.7 if s == 1 else 5e3 * (1 + noise(s, 0.5)) + 100 * s)


@silent("diverging-loss", "a cycle of the rate takes the loss up and down again")
def cycles() -> Net:
    return Net().train(300, loss=lambda s: (3 * math.exp(-s / 20) + 0.01) * (1 + 40 * (s % 60 < 25)))


def matched(step: int) -> float:
    """A detector's loss: small in batches whose targets no box meets yet, and falling once all of them are met."""
    early = (2.5, 34.0, 7.0, 21.0, 3.0, 57.0, 1.0, 57.0)
    return early[step - 1] if step <= len(early) else 15 + 40 * math.exp(-(step - 9) / 30) + math.sin(step)


@silent("diverging-loss", "the first batches differ manyfold, back and forth")
def first_batches_differ() -> Net:
    return Net(4).train(150, loss=matched)


@fires("diverging-loss", "far above even the largest of such first batches")
def first_batches_differ_and_worse_comes() -> Net:
    return Net(4).train(150, loss=lambda step: matched(step) if step < 30 else 6.0 * step)


@silent("diverging-loss", "warm-up bump")
def warm_up_bump() -> Net:
    return Net().train(200, loss=lambda s: falling(s) + 6.0 * math.exp(-(((s - 12) / 5) ** 2)))


def spreading(growth: float) -> Net:
    """A loss that falls and then rises above its start, with the spread of its targets."""
    return Net().train(
        300,
        loss=lambda s: 0.1 * math.exp(-s / 20) + 0.15 * s / 300,
        batch=lambda s: {"batch_size": 32.0, "target_std": 0.1 * (1 + (growth - 1) * s / 300)},
    )


@silent("diverging-loss", "targets that a network sets itself grow to their size")
def growing_targets() -> Net:
    return spreading(4.0)


@silent("diverging-loss", "the same, from a level that was held while the targets were next to nothing")
def growing_from_nothing() -> Net:
    return Net().train(
        300,
        loss=lambda s: 3e-3 * math.exp(-s / 5) + (1e-4 if s < 150 else 4e-3),
        batch=lambda s: {"batch_size": 32.0, "target_std": 0.01 if s < 150 else 0.09},
    )


@fires("diverging-loss", "targets that grow without bound")
def exploding_targets() -> Net:
    return spreading(4000.0)


@fires("diverging-loss", "the same loss, of targets that stay")
def steady_targets() -> Net:
    return spreading(1.0)


@silent("diverging-loss", "the adversarial losses of a GAN")
def gan() -> Net:
    net = Net()
    one = Net().train(150, loss=lambda s: 0.7 + 0.05 * s).events
    two = Net().train(150, loss=lambda s: 0.7 + 0.02 * s, stream=1).events
    return interleaved(net, one, two)


@silent("diverging-loss", "signed loss of a policy gradient")
def policy_gradient() -> Net:
    return Net().train(200, loss=lambda s: -0.5 + 0.02 * s + noise(s, 0.8))


# -- stalled-loss -------------------------------------------------------------------------------------------------


@fires("stalled-loss", "never moved")
def stalled() -> Net:
    return Net().train(150, loss=flat)


@fires("stalled-loss", "no better than a guess")
def no_better_than_a_guess() -> Net:
    net = Net()
    net.fact("loss-call", name="cross_entropy", reduction="mean", value=3.4, loss=3.4, classes=10, target_shape=[32])
    return net.train(200, loss=lambda s: 2.32 + 1.1 * math.exp(-s / 10) + noise(s, 0.01))


@silent("stalled-loss", "converged")
def converged_loss() -> Net:
    return Net().train(400, loss=lambda s: 0.01 + 2.3 * math.exp(-s / 15) + noise(s, 1e-4))


@silent("stalled-loss", "too short to tell")
def too_short() -> Net:
    return Net().train(12, loss=flat)


@silent("stalled-loss", "steps of a usual size, and data that may be noise")
def noisy_targets() -> Net:
    return Net().train(300, loss=lambda s: 1.0 + noise(s, 0.3))


@fires("stalled-loss", "as noisy, but the steps are far too large")
def noisy_and_thrown_about() -> Net:
    return Net().train(300, loss=lambda s: 1.0 + noise(s, 0.3), ratio=0.1)


@silent("stalled-loss", "slow but sure")
def slow_but_sure() -> Net:
    return Net().train(300, loss=lambda s: 2.3 - 0.003 * s + noise(s, 0.05))


# -- oscillating-loss ---------------------------------------------------------------------------------------------


@fires("oscillating-loss", "alternates around a level")
def alternating() -> Net:
    return Net().train(100, loss=lambda s: 2.0 + 1.2 * (-1) ** s)


@fires("oscillating-loss", "alternates with scatter")
def alternating_with_scatter() -> Net:
    return Net().train(150, loss=lambda s: 2.0 + 1.2 * (-1) ** s + noise(s, 0.2))


@silent("oscillating-loss", "mini-batch noise")
def mini_batch_noise() -> Net:
    return Net().train(200, loss=lambda s: falling(s) + 0.5 + noise(s, 0.4))


@silent("oscillating-loss", "alternates by next to nothing")
def tiny_alternation() -> Net:
    return Net().train(200, loss=lambda s: falling(s) + 0.005 * (-1) ** s)


# -- dead-units ---------------------------------------------------------------------------------------------------


@fires("dead-units", "most of a layer")
def dead() -> Net:
    net = Net()
    return net.train(100, loss=flat, stats=lambda _: {"dead_units": net.at("relu", 0.98)})


@fires("dead-units", "died in training")
def dying() -> Net:
    net = Net()
    return net.train(100, loss=flat, stats=lambda s: {"dead_units": net.at("relu", 0.0 if s < 20 else 1.0)})


@silent("dead-units", "half of the outputs are zero")
def ordinary_sparsity() -> Net:
    net = Net()
    return net.train(100, stats=lambda _: {"dead_units": net.at("relu", 0.1), "out_zeros": net.at("relu", 0.6)})


@silent("dead-units", "off for a batch now and then")
def off_now_and_then() -> Net:
    net = Net()
    return net.train(300, stats=lambda s: {"dead_units": net.at("relu", 1.0 if s % 50 == 0 else 0.05)})


@silent("dead-units", "zeros of dropout")
def dropout() -> Net:
    net = Net()
    net.site("drop", "Dropout", "dropout")
    return net.train(100, stats=lambda _: {"out_zeros": np.full(len(net.sites), 0.8)})


@silent("dead-units", "batches too small to tell")
def tiny_batches() -> Net:
    net = Net()
    dead = {"dead_units": net.at("relu", 0.9)}
    return net.train(100, loss=flat, stats=lambda _: dead, batch=lambda _: {"batch_size": 1.0})


# -- saturated-units ----------------------------------------------------------------------------------------------


@fires("saturated-units", "hidden tanh")
def saturated_tanh() -> Net:
    net = Net(activation="tanh")
    return net.train(100, loss=flat, stats=lambda _: {"saturated": net.at("tanh", 0.9)})


@fires("saturated-units", "hidden sigmoid")
def saturated_sigmoid() -> Net:
    net = Net(activation="sigmoid")
    return net.train(100, loss=flat, stats=lambda _: {"saturated": net.at("sigmoid", 0.8)})


@silent("saturated-units", "output sigmoid")
def output_sigmoid() -> Net:
    net = Net().activation("out", "sigmoid")
    return net.train(200, loss=flat, stats=lambda _: {"saturated": net.at("sigmoid", 0.99)})


@silent("saturated-units", "a large input now and then")
def briefly_saturated() -> Net:
    net = Net(activation="tanh")
    return net.train(200, stats=lambda s: {"saturated": net.at("tanh", 0.9 if s % 40 == 0 else 0.1)})


@silent("saturated-units", "ReLU has no flat tails")
def large_relu_inputs() -> Net:
    net = Net()
    return net.train(100, stats=lambda _: {"in_rms": np.full(len(net.sites), 50.0)})


# -- oversized-updates --------------------------------------------------------------------------------------------


@fires("oversized-updates", "sustained")
def oversized() -> Net:
    return Net().train(100, loss=lambda s: 3.0 + noise(s), ratio=0.6)


@fires("oversized-updates", "larger than the weights themselves")
def oversized_by_far() -> Net:
    return Net().train(100, loss=lambda s: 3.0 + 0.01 * s, ratio=4.0)


@silent("oversized-updates", "first steps only")
def large_first_steps() -> Net:
    return Net().train(200, ratio=lambda s: 0.4 if s <= 3 else 2e-3)


@silent("oversized-updates", "weights and biases that start at zero")
def zero_initialised() -> Net:
    net = Net()
    bias = np.array([p.role == "bias" for p in net.parameters])
    weight = np.where(bias, 0.0, 8.0)
    ratio = np.where(bias, 1.0, 2e-3)
    return net.train(200, loss=flat, weight=lambda s: weight + bias * 1e-3 * (s - 1), ratio=ratio)


@silent("oversized-updates", "norm scales")
def norm_scales() -> Net:
    net = Net()
    net.parameter("norm.weight", (WIDTH,), "norm")
    ratio = np.full(len(net.parameters), 2e-3)
    ratio[-1] = 0.8
    return net.train(200, loss=flat, ratio=ratio)


# -- undersized-updates -------------------------------------------------------------------------------------------


@fires("undersized-updates", "nothing can change in this run")
def undersized() -> Net:
    return Net().train(200, loss=flat, ratio=1e-8, rate=1e-8)


@fires("undersized-updates", "a schedule that ran out long before the end")
def faded_rate() -> Net:
    return Net().train(300, loss=flat, rate=lambda s: 0.1 * 0.7**s, ratio=lambda s: 2e-3 * 0.7**s)


@silent("undersized-updates", "end of a decay schedule")
def end_of_schedule() -> Net:
    decay = lambda s: 0.5 * (1 + math.cos(math.pi * s / 301))  # noqa: E731
    return Net().train(300, rate=lambda s: 0.1 * decay(s), ratio=lambda s: 2e-3 * decay(s))


@silent("undersized-updates", "small steps that do the job")
def small_but_learning() -> Net:
    return Net().train(200, ratio=5e-5)


# -- zero-gradients -----------------------------------------------------------------------------------------------


def with_extra(**values: object) -> Net:
    """A fifth layer whose parameters are special."""
    net = Net(4).linear("extra")
    for row in (8, 9):
        net.change(row, **values)
    return net


@fires("zero-gradients", "never receives one")
def never_receives() -> Net:
    net = with_extra(name="extra.weight")
    gradient = np.ones(10)
    gradient[8:] = -1.0
    return net.train(60, gradient=gradient)


@fires("zero-gradients", "only ever zeros")
def only_zeros() -> Net:
    net = with_extra()
    gradient = np.ones(10)
    gradient[8:] = 0.0
    return net.train(60, gradient=gradient)


@fires("zero-gradients", "in no optimizer")
def in_no_optimizer() -> Net:
    net = with_extra(optimizer=None)
    rows = list(range(10))
    net.fact(
        "graph",
        nodes=40,
        parameters=rows,
        shortest=[1] * 10,
        longest=[5] * 10,
        uses=[1] * 10,
        ops={},
        chain=[],
        norms=0,
    )
    return net.train(60)


@fires("zero-gradients", "never receives one while a scaler skips steps")
def never_receives_under_amp() -> Net:
    net = with_extra()
    gradient = np.ones(10)
    gradient[8:] = -1.0
    return net.train(60, gradient=gradient, amp=lambda s: Amp(2.0 ** max(4, 16 - s), s in (1, 2, 30)))


@silent("zero-gradients", "requires_grad is off")
def frozen() -> Net:
    return with_extra(optimizer=None, trainable=False).train(60)


@silent("zero-gradients", "an expert that gets some")
def rare_expert() -> Net:
    net = with_extra()
    usual, rare = np.ones(10), np.ones(10)
    usual[8:] = -1.0
    return net.train(60, gradient=lambda s: rare if s % 20 == 7 else usual)


# -- activation-drift ---------------------------------------------------------------------------------------------


@fires("activation-drift", "grows geometrically")
def growing_activations() -> Net:
    net = Net(10)
    return net.train(60, loss=flat, stats=lambda _: {"out_rms": net.along_depth(1.0, 1e6)})


@fires("activation-drift", "shrinks geometrically")
def shrinking_activations() -> Net:
    net = Net(10)
    return net.train(60, loss=flat, stats=lambda _: {"out_rms": net.along_depth(1.0, 1e-6)})


@silent("activation-drift", "a residual stream that grows slowly")
def residual_stream() -> Net:
    net = Net(24)
    return net.train(60, stats=lambda _: {"out_rms": np.sqrt(1.0 + np.arange(len(net.sites)))})


@silent("activation-drift", "normalised at every layer")
def normalised() -> Net:
    net = Net(12)
    return net.train(60, stats=lambda _: {"out_rms": np.tile([8.0, 1.0], 12)[: len(net.sites)]})


@silent("activation-drift", "one small output layer")
def small_output() -> Net:
    net = Net(8)
    scale = np.ones(len(net.sites))
    scale[-1] = 1e-4
    return net.train(60, stats=lambda _: {"out_rms": scale})


# -- unreliable-batchnorm -----------------------------------------------------------------------------------------


def batchnorm_net(
    rows: float, samples: float, *, shift: float = 0.3, scale: float = 0.6, loss: Callable[[int], float] = flat
) -> Net:
    net = Net(3).site("bn", "BatchNorm1d", "norm")
    stats = {
        "channel_samples": net.at("norm", samples),
        "batch_rows": net.at("norm", rows),
        "stat_shift": net.at("norm", shift),
        "stat_scale": net.at("norm", scale),
    }
    return net.train(200, loss=loss, stats=lambda _: stats)


@fires("unreliable-batchnorm", "one sample")
def one_sample() -> Net:
    return batchnorm_net(1, 1)


@fires("unreliable-batchnorm", "two samples")
def two_samples() -> Net:
    return batchnorm_net(2, 2)


@fires("unreliable-batchnorm", "two images")
def two_images() -> Net:
    return batchnorm_net(2, 2 * 64)


@fires("unreliable-batchnorm", "running statistics far off")
def running_statistics_far_off() -> Net:
    return batchnorm_net(64, 64, shift=30.0)


@silent("unreliable-batchnorm", "two volumes whose many positions have the variance of all")
def two_volumes() -> Net:
    return batchnorm_net(2, 2 * 64, scale=0.15, loss=falling)


@silent("unreliable-batchnorm", "batches of a fair size")
def fair_batches() -> Net:
    return batchnorm_net(32, 32, loss=falling)


@silent("unreliable-batchnorm", "frozen")
def frozen_batchnorm() -> Net:
    return Net(3).site("bn", "BatchNorm1d", "norm").train(200)


@silent("unreliable-batchnorm", "a short last batch now and then")
def short_last_batch() -> Net:
    net = Net(3).site("bn", "BatchNorm1d", "norm")
    short, usual = ({"channel_samples": net.at("norm", n), "batch_rows": net.at("norm", n)} for n in (1, 32))
    return net.train(200, stats=lambda s: short if s % 50 == 0 else usual)


# -- ineffective-clipping -----------------------------------------------------------------------------------------


@fires("ineffective-clipping", "every step by a large factor")
def choking_clip() -> Net:
    return Net().train(100, loss=flat, clip=lambda _: Clip("norm", 1e-4, 3.0, 3e-5))


@fires("ineffective-clipping", "by value, far below every entry")
def choking_value_clip() -> Net:
    return Net().train(100, loss=flat, clip=lambda _: Clip("value", 1e-7, 3.0, math.nan))


@silent("ineffective-clipping", "active on part of the steps")
def clip_on_some_steps() -> Net:
    return Net().train(
        100, loss=flat, clip=lambda s: Clip("norm", 0.02, 1.0, 0.02) if s % 2 else Clip("norm", 0.02, 0.01, 1.0)
    )


@silent("ineffective-clipping", "active on every step by little")
def mild_clip() -> Net:
    return Net().train(100, loss=flat, clip=lambda _: Clip("norm", 1.0, 2.0, 0.5))


@silent("ineffective-clipping", "no clipping at all")
def no_clip() -> Net:
    return Net().train(100, loss=flat)


def with_ranks(**found: object) -> Net:
    """A healthy run whose ranks know something together."""
    net = Net().train(100)
    net.events.append(Fact("ranks", 100, {"world": 4, "missing": [], **found}))
    return net


@fires("replica-drift", "weights that were equal are not any more")
def drifted() -> Net:
    drift = {"step": 30, "parameter": "layers.0.weight", "relative": 0.01, "from_start": False, "rank": 3}
    return with_ranks(drift=drift)


@fires("replica-drift", "the same gradients from the start, for different weights")
def never_broadcast() -> Net:
    return with_ranks(drift={"step": 1, "parameter": "layers.0.weight", "relative": 0.5, "from_start": True})


@silent("replica-drift", "replicas that are equal")
def equal_replicas() -> Net:
    return with_ranks()


@silent("replica-drift", "one process")
def one_process() -> Net:
    return Net().train(100)


@fires("non-finite", "the loss of another rank only")
def another_rank() -> Net:
    return with_ranks(nonfinite={"step": 41, "ranks": [2], "spread": False})


# -- the suite ----------------------------------------------------------------------------------------------------


def found_in(history: History) -> list[Symptom]:
    """What is detected. A rule that raises is noted in the view, for users to keep the others; here it is a failure."""
    view = View(history)
    found = detect(history, view)
    checks_not_run(view)
    assert view.failures == []
    return found


def codes(history: History) -> set[str]:
    return {symptom.code for symptom in found_in(history)}


@cache
def net_of(build: Callable[[], Net]) -> Net:
    return build()


BY_ID = {case.id: case for case in CASES}
every_case = pytest.mark.parametrize("case", CASES, ids=list(BY_ID))


def test_every_code_of_the_vocabulary_has_a_detector() -> None:
    assert sorted(d.code for d in DETECTORS) == sorted(CODES)


@pytest.mark.parametrize("code", CODES)
def test_every_detector_has_firing_and_silent_rows(code: str) -> None:
    rows = [case.fires for case in CASES if case.code == code]
    assert rows.count(True) >= 1
    assert rows.count(False) >= 2


def test_rows_have_names_of_their_own() -> None:
    assert len(BY_ID) == len(CASES)
    assert {case.code for case in CASES} == set(CODES)


@every_case
def test_fires_and_stays_silent(case: Case) -> None:
    history = net_of(case.build).history()
    found = [s for s in found_in(history) if s.code == case.code]
    assert bool(found) == case.fires, found
    for symptom in found:
        assert symptom.severity in ("warning", "critical")
        assert 1 <= symptom.first_step <= symptom.last_step <= history.steps
        assert symptom.message == symptom.message.strip()
        assert symptom.count >= 1
        assert symptom.evidence
        assert all(isinstance(v, float) for v in symptom.evidence.values()), symptom.evidence
        names = {"", *(p.name for p in history.parameters), *(s.name for s in history.sites), "layers"}
        assert symptom.location in names


@pytest.mark.parametrize(
    ("build", "onset"), [(diverging, 5), (falls_then_rises, 112), (relapses, 200), (leaps_at_once, 2)]
)
def test_a_divergence_begins_where_the_loss_leaves(build: Callable[[], Net], onset: int) -> None:
    """However wildly it scatters once it is up there."""
    (found,) = [s for s in found_in(net_of(build).history()) if s.code == "diverging-loss"]
    assert onset - 5 <= found.first_step <= onset + 5


@pytest.mark.parametrize("build", HEALTHY, ids=lambda build: build.__name__)
def test_healthy_runs_report_nothing(build: Callable[[], Net]) -> None:
    assert found_in(net_of(build).history()) == []


@pytest.mark.parametrize("case", [c for c in CASES if c.build is not no_better_than_a_guess], ids=lambda c: c.id)
@pytest.mark.parametrize("factor", [1e3, 1e-3])
def test_the_unit_of_the_loss_does_not_matter(case: Case, factor: float) -> None:
    """Except for what a guess would cost: that is known only for a loss function as it is."""
    net = net_of(case.build)
    assert codes(net.history([rescaled(e, loss=factor) for e in net.events])) == codes(net.history())


@every_case
@pytest.mark.parametrize("factor", [1e3, 1e-3])
def test_the_unit_of_the_gradient_does_not_matter(case: Case, factor: float) -> None:
    net = net_of(case.build)
    assert codes(net.history([rescaled(e, gradient=factor) for e in net.events])) == codes(net.history())


@every_case
def test_nan_everywhere_is_said_and_nothing_else(case: Case) -> None:
    net = net_of(case.build)
    assert "non-finite" in codes(net.history([spoiled(e) for e in net.events]))


@every_case
def test_nan_from_the_middle_on_does_not_raise(case: Case) -> None:
    net = net_of(case.build)
    half = len(net.events) // 2
    assert "non-finite" in codes(net.history([*net.events[:half], *(spoiled(e) for e in net.events[half:])]))


@every_case
def test_a_single_nan_detail_does_not_raise(case: Case) -> None:
    net = net_of(case.build)
    for position in (0, 1, len(net.events) - 1):
        events = list(net.events)
        events[position] = spoiled(events[position])
        codes(net.history(events))


@every_case
def test_the_beginning_of_a_run_never_raises(case: Case) -> None:
    net = net_of(case.build)
    for n in (0, 1, 2, 3, 5, 8, 13, 21, 34):
        codes(net.history(net.events[:n]))


@every_case
def test_a_run_without_sampled_details_never_raises(case: Case) -> None:
    net = net_of(case.build)
    codes(net.history([e if isinstance(e, Fact) else replace(e, detail=None) for e in net.events]))


@every_case
def test_the_same_history_gives_the_same_symptoms(case: Case) -> None:
    net = net_of(case.build)
    assert repr(detect(net.history())) == repr(detect(net.history()))


def test_an_empty_history_has_no_symptoms_and_says_what_was_not_checked() -> None:
    assert detect(History()) == []
    named = {check.check for check in checks_not_run(View(History()))}
    assert named >= set(CODES) - {"non-finite", "replica-drift"}  # the latter: a process alone has no replicas


def test_a_run_too_short_to_judge_says_so() -> None:
    checks = {c.check: c.why for c in checks_not_run(View(Net().train(12, loss=flat).history()))}
    assert "30 steps" in checks["stalled-loss"]
    assert "12" in checks["stalled-loss"]


@pytest.mark.parametrize(
    ("check", "word", "build"),
    [
        ("stalled-loss", "no loss", lambda: Net().train(60, loss=None)),
        ("saturated-units", "sigmoid", lambda: Net().train(60)),
        ("dead-units", "ReLU", lambda: Net(activation="tanh").train(60)),
        ("ineffective-clipping", "clip", lambda: Net().train(60)),
        ("unreliable-batchnorm", "BatchNorm", lambda: Net().train(60)),
        ("diverging-loss", "turns", gan),
        ("dead-units", "compiled", lambda: Net().fact("compiled").train(60)),
    ],
)
def test_a_check_that_cannot_be_made_is_named_with_the_reason(check: str, word: str, build: Callable[[], Net]) -> None:
    history = build().history()
    reasons = {c.check: c.why for c in checks_not_run(View(history))}
    assert word in reasons[check]
    assert check not in codes(history)


def test_a_rule_that_fails_is_named_and_the_others_are_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: View) -> Iterator[Symptom]:
        raise ZeroDivisionError("boom")
        yield

    monkeypatch.setattr("steadygrad.detectors.DETECTORS", (Detector("broken", broken), *DETECTORS))
    history = nan_loss().history()
    view = View(history)
    assert [s.code for s in detect(history, view)] == ["non-finite"]
    (check,) = view.failures
    assert check.check == "broken"
    assert "ZeroDivisionError: boom" in check.why
    assert check in checks_not_run(view)


def test_critical_symptoms_come_first() -> None:
    order = [s.severity for s in detect(growing_to_inf().history())]
    assert order == sorted(order, key=lambda severity: severity != "critical")


# -- anything at all ----------------------------------------------------------------------------------------------


def any_size(rng: random.Random) -> float:
    """A number that is not negative, or not a number."""
    return rng.choice([0.0, 1.0, math.nan, math.inf, 3e38, 1e-38, abs(rng.gauss(0, 1)), abs(rng.gauss(0, 1))])


def any_history(seed: int) -> History:
    """Steps with anything in them that a monitor could possibly measure, and with anything left out."""
    rng = random.Random(seed)
    net = Net(rng.randint(1, 5), rng.choice(["relu", "tanh", "sigmoid", ""])).site("bn", "BatchNorm1d", "norm")
    size, sites = len(net.parameters), len(net.sites)

    def vector(length: int) -> np.ndarray:
        return np.array([any_size(rng) for _ in range(length)], np.float32)

    for step in range(1, rng.randint(0, 60) + 1):
        detail = norms = None
        if rng.random() < 0.6:
            norms = np.where([rng.random() < 0.2 for _ in range(size)], -1.0, vector(size)).astype(np.float32)
            norms = norms[: rng.choice([size, size, rng.randint(0, size)])]
            seen = {k: vector(sites) for k in rng.sample(MEASURES, rng.randint(0, 8))}
            seen |= {k: np.float32(rng.choice([1.0, 2.0, 50.0])) * np.ones(sites, np.float32) for k in COUNTS}
            detail = Detail(
                {k: vector(size) for k in rng.sample(PARAMETER_STATS, rng.randint(0, 7))}, seen, {"batch_size": 32.0}
            )
        coefficient = min(1.0, any_size(rng) + 1e-9)
        clip = rng.choice([None, Clip(rng.choice(["norm", "value", "by hand"]), 1.0, any_size(rng), coefficient)])
        amp = rng.choice([None, Amp(any_size(rng), rng.random() < 0.5)])
        loss, rate, norm = (rng.choice([None, sign * any_size(rng)]) for sign in (rng.choice([1, -1]), 1, 1))
        net.events.append(StepRecord(step, rng.choice([0, 0, 0, 1]), loss, rate, norm, clip, amp, norms, detail))
    return net.history()


COUNTS = ("calls", "channel_samples", "batch_rows")
MEASURES = tuple(key for key in SITE_STATS if key not in COUNTS)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_no_record_makes_a_detector_raise(seed: int) -> None:
    assert codes(any_history(seed)) <= set(CODES)

"""The recipes, each part taken away in turn: a CNN on images, a recurrent net and a transformer on text."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from steadygrad import init
from steadygrad.clip import Clipper, GlobalNorm
from steadygrad.lab import pictures
from steadygrad.lab.data import digits, generator
from steadygrad.lab.experiment import Arms, Condition, Experiment, less_loss
from steadygrad.lab.experiments.clipping import char_rnn
from steadygrad.lab.experiments.clipping import prose as rnn_prose
from steadygrad.lab.experiments.rates import prose, transformer
from steadygrad.lab.training import minibatches, steps, train
from steadygrad.schedules import Constant, Cosine, InverseSqrt, Schedule, Step, Warmup


def cnn(seed: int, *, normed: bool = True) -> nn.Sequential:
    """Three convolutions for 3x32x32 images; the linear layer takes what they leave (32 channels of 4x4)."""
    layers: list[nn.Module] = []
    for ins, outs in ((3, 8), (8, 16), (16, 32)):
        layers += [
            nn.Conv2d(ins, outs, 3, padding=1),
            *([nn.BatchNorm2d(outs)] if normed else []),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * 4 * 4, 10))
    init.auto_(model, generator=generator(seed))
    return model


def _cnn(seed: int, scale: float) -> Arms:
    count = steps(50, scale)
    pair, _ = digits(seed, size=32, channels=3)
    parts: dict[str, tuple[bool, float, Clipper | None, Schedule]] = {
        "recipe": (True, 0.9, GlobalNorm(5.0), Cosine(count)),
        "without BatchNorm": (False, 0.9, GlobalNorm(5.0), Cosine(count)),
        "without momentum": (True, 0.0, GlobalNorm(5.0), Cosine(count)),
        "without clipping": (True, 0.9, None, Cosine(count)),
        "constant rate": (True, 0.9, GlobalNorm(5.0), Constant()),
    }
    arms: Arms = {}
    for name, (normed, momentum, clip, schedule) in parts.items():
        model = cnn(seed, normed=normed)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=momentum, weight_decay=5e-4)
        arms[name] = train(
            model, minibatches(pair, 16, seed), count,
            optimizer=optimizer, loss=F.cross_entropy, clip=clip, schedule=schedule,
        )  # fmt: skip
    return arms


def _part(label: str, arm: str, more: float = 1.1) -> Condition:
    return Condition(label, f"end loss, {arm} / recipe", less_loss("recipe", than=arm), math.log10(more))


CNN = Experiment(
    "cnn-recipe",
    "A CNN on images",
    "BatchNorm, momentum, a cosine and clipping at 5.0 each make a CNN train better.",
    "tutorial on decay, clipping and BatchNorm: convolutions, BatchNorm, SGD with momentum 0.9, weight decay, cosine, clipping at 5.0",
    _cnn,
    (
        _part("the part is BatchNorm", "without BatchNorm"),
        _part("the part is momentum", "without momentum"),
        _part("the part is clipping at 5.0", "without clipping"),
        _part("the part is the cosine", "constant rate"),
    ),
    lambda runs: [
        pictures.curves(
            runs,
            window=5,
            caption="Means over 5 steps. Digits as 3x32x32 images. Each curve lacks one part of the recipe.",
        )
    ],
    "As printed the linear layer expects 128*5*5 inputs, which no 32x32 image gives; it is sized correctly here.",
)


def _rnn(seed: int, scale: float) -> Arms:
    count = steps(120, scale)
    decay = Step(max(1, count // 3), gamma=0.5)
    parts: dict[str, tuple[Callable[..., torch.optim.Optimizer], float, Clipper | None, Schedule]] = {
        "recipe": (torch.optim.Adam, 0.01, GlobalNorm(1.0), decay),
        "without clipping": (torch.optim.Adam, 0.01, None, decay),
        "SGD for Adam": (torch.optim.SGD, 0.5, GlobalNorm(1.0), decay),
        "constant rate": (torch.optim.Adam, 0.01, GlobalNorm(1.0), Constant()),
    }
    arms: Arms = {}
    for name, (build, rate, clip, schedule) in parts.items():
        model = char_rnn(seed, spread=1.0)
        arms[name] = train(
            model, rnn_prose(seed), count,
            optimizer=build(model.parameters(), lr=rate), loss=F.cross_entropy, clip=clip, schedule=schedule,
        )  # fmt: skip
    return arms


RNN = Experiment(
    "rnn-recipe",
    "A recurrent net on text",
    "Clipping, Adam and a step decay each make a recurrent net train better.",
    "tutorial on decay, clipping and BatchNorm, recipes",
    _rnn,
    (
        _part("the part is clipping at 1.0", "without clipping", 1.02),
        _part("the part is Adam", "SGD for Adam", 1.02),
        _part("the part is the step decay", "constant rate", 1.02),
    ),
    lambda runs: [pictures.curves(runs, log=False, caption="Characters of English text, loss in nats.")],
    "A short run, and orthogonal recurrent weights, whose gradients do not explode. At least 2 % of the end loss counts.",
)


def _transformer(seed: int, scale: float) -> Arms:
    count = steps(150, scale)
    wave = max(1, count // 5)
    warm = InverseSqrt(wave)
    parts: dict[str, tuple[Clipper | None, Schedule]] = {
        "recipe": (GlobalNorm(1.0), Warmup(wave) >> warm),
        "without warm-up": (GlobalNorm(1.0), warm),
        "without clipping": (None, Warmup(wave) >> warm),
        "warm-up, then constant": (GlobalNorm(1.0), Warmup(wave) >> Constant()),
    }
    arms: Arms = {}
    for name, (clip, schedule) in parts.items():
        model = transformer(seed)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        arms[name] = train(
            model, prose(seed), count, optimizer=optimizer, loss=F.cross_entropy, clip=clip, schedule=schedule
        )
    return arms


TRANSFORMER = Experiment(
    "transformer-recipe",
    "A transformer on text",
    "Warm-up, clipping and an inverse-square-root decay each make a transformer train better.",
    "tutorial on decay, clipping and BatchNorm, recipes: warm-up, clipping, AdamW, inverse square root",
    _transformer,
    (
        _part("the part is warm-up", "without warm-up", 1.02),
        _part("the part is clipping at 1.0", "without clipping", 1.02),
        _part("the part is the inverse square root", "warm-up, then constant", 1.02),
    ),
    lambda runs: [
        pictures.curves(runs, log=False, caption="Characters of English text, loss in nats; pre-norm, AdamW 0.01.")
    ],
    "The decay begins when the warm-up ends. As printed the schedule divides by zero at step 0.",
)

EXPERIMENTS: tuple[Experiment, ...] = (CNN, RNN, TRANSFORMER)

"""Optimizer, schedule and clip that suit a kind of network, every value with its source and open to change.

>>> import torch
>>> from steadygrad import recipes
>>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU())
>>> optimizer, scheduler, clip = recipes.cnn(model, 1000)
>>> optimizer.__class__.__name__, optimizer.defaults["momentum"], str(scheduler.schedules[0])
('SGD', 0.9, 'warmup(50) > cosine(950)')
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter
from torch.optim import Optimizer

from steadygrad.clip import GlobalNorm
from steadygrad.errors import InputError
from steadygrad.schedules import Cosine, InverseSqrt, Schedule, ScheduledLR, Step, Warmup
from steadygrad.schedules.base import checked


@dataclass(frozen=True, slots=True)
class Setting:
    """One value of a recipe, and where it comes from; ``given`` where the caller chose it."""

    name: str
    value: Any
    source: str


@dataclass(frozen=True)
class Recipe:
    """What a recipe made. Unpacks as ``optimizer, scheduler, clip = recipe`` and prints its values with their sources.

    Attributes:
        optimizer: with parameter groups named ``decay`` and ``no_decay``.
        scheduler: to be stepped after each optimizer step.
        clip: to be called on the model between ``backward`` and the optimizer's step.
        settings: every value, and its source.
        remarks: what about the model does not fit the recipe.
    """

    optimizer: Optimizer
    scheduler: ScheduledLR
    clip: GlobalNorm
    settings: tuple[Setting, ...]
    remarks: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Any]:
        return iter((self.optimizer, self.scheduler, self.clip))

    def __str__(self) -> str:
        rows = [(setting.name, _shown(setting.value), setting.source) for setting in self.settings]
        widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
        lines = [f"{name:<{widths[0]}}  {value:<{widths[1]}}  {source}" for name, value, source in rows]
        return "\n".join([*lines, *(f"note: {remark}" for remark in self.remarks)])


def _shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


class _Card:
    """Collects the values of a recipe as they are decided."""

    def __init__(self) -> None:
        self.settings: list[Setting] = []

    def take(self, name: str, given: Any, own: Any, source: str) -> Any:
        """The caller's value, or else the recipe's."""
        value = own if given is None else given
        self.settings.append(Setting(name, value, source if given is None else "given"))
        return value


def cnn(
    model: nn.Module,
    steps: int,
    *,
    batch_size: int = 256,
    lr: float | None = None,
    momentum: float | None = None,
    nesterov: bool | None = None,
    weight_decay: float | None = None,
    warmup: int | None = None,
    schedule: Schedule | str | None = None,
    max_norm: float | None = None,
) -> Recipe:
    """SGD with momentum, cosine decay after a short warm-up, clipping: for convolutional networks with BatchNorm.

    Args:
        model: frozen parameters are left out.
        steps: optimizer steps of the whole run.
        batch_size: samples per step, over all ranks and accumulated batches; the rate is proportional to it.
        lr: default 0.1 for a batch of 256.
        momentum: default 0.9.
        nesterov: default True.
        weight_decay: default 5e-4; none for biases, norms and embeddings.
        warmup: steps, default 5 % of them.
        schedule: replaces warm-up and cosine.
        max_norm: default 5; ``inf`` measures only.

    Raises:
        InputError: a value that cannot be used, or a model without trainable parameters.

    Example:
        >>> recipe = cnn(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)), 1000, batch_size=128, max_norm=1.0)
        >>> print(recipe)
        optimizer     SGD                       He et al. 2016
        lr            0.05                      He et al. 2016: 0.1 for a batch of 256; in proportion: Goyal et al. 2017
        momentum      0.9                       He et al. 2016
        nesterov      True                      Zagoruyko and Komodakis 2016
        weight_decay  0.0005                    Zagoruyko and Komodakis 2016; norms and biases without: He et al. 2019
        warmup        50                        Goyal et al. 2017: 5 of 90 epochs
        schedule      warmup(50) > cosine(950)  Loshchilov and Hutter 2017; with warm-up: He et al. 2019
        max_norm      1                         given
    """
    card, steps = _Card(), _whole("steps", steps)
    card.take("optimizer", None, "SGD", "He et al. 2016")
    rate = 0.1 * _whole("batch_size", batch_size) / 256
    source = "He et al. 2016: 0.1 for a batch of 256; in proportion: Goyal et al. 2017"
    options = {
        "lr": card.take("lr", lr, rate, source),
        "momentum": card.take("momentum", momentum, 0.9, "He et al. 2016"),
        "nesterov": card.take("nesterov", nesterov, True, "Zagoruyko and Komodakis 2016"),
    }
    source = "Zagoruyko and Komodakis 2016; norms and biases without: He et al. 2019"
    decay = card.take("weight_decay", weight_decay, 5e-4, source)
    first = _warmup(card, warmup, round(0.05 * steps), steps, "Goyal et al. 2017: 5 of 90 epochs")
    source = "Loshchilov and Hutter 2017; with warm-up: He et al. 2019"
    chosen = card.take("schedule", schedule, Warmup(first) >> Cosine(steps - first), source)
    bound = card.take("max_norm", max_norm, 5.0, "customary; with BatchNorm it acts on outliers only")
    optimizer = _built(torch.optim.SGD, parameter_groups(model, weight_decay=decay), options)
    remark = "no norm layer was found; this rate is meant for networks with BatchNorm, without it try a tenth"
    remarks = () if any(map(is_norm, model.modules())) else (remark,)
    return Recipe(optimizer, ScheduledLR(optimizer, chosen), GlobalNorm(bound), tuple(card.settings), remarks)


def rnn(
    model: nn.Module,
    steps: int,
    *,
    lr: float | None = None,
    betas: tuple[float, float] | None = None,
    weight_decay: float | None = None,
    every: int | None = None,
    gamma: float | None = None,
    schedule: Schedule | str | None = None,
    max_norm: float | None = None,
) -> Recipe:
    """Adam with step decay and a tight clip: for recurrent networks.

    Args:
        model: frozen parameters are left out.
        steps: optimizer steps of the whole run.
        lr: default 1e-3.
        betas: default (0.9, 0.999).
        weight_decay: default 0; where given, decoupled (AdamW), and none for biases, norms and embeddings.
        every: steps between two drops, default a quarter of the run.
        gamma: factor of each drop, default 0.5.
        schedule: replaces the step decay.
        max_norm: default 1; ``inf`` measures only.

    Raises:
        InputError: a value that cannot be used, or a model without trainable parameters.

    Example:
        >>> recipe = rnn(nn.LSTM(8, 16), 1000)
        >>> print(recipe)
        optimizer     Adam                  Kingma and Ba 2015
        lr            0.001                 Kingma and Ba 2015
        betas         (0.9, 0.999)          Kingma and Ba 2015
        weight_decay  0                     Zaremba et al. 2014: dropout instead
        every         250                   a quarter of the run; Zaremba et al. 2014: a third, then each epoch
        gamma         0.5                   Zaremba et al. 2014, small LSTM
        schedule      step(250, gamma=0.5)  Zaremba et al. 2014
        max_norm      1                     Pascanu et al. 2013: recurrent gradients explode; 1 to 2 is usual
    """
    card, steps = _Card(), _whole("steps", steps)
    kind = torch.optim.AdamW if weight_decay else torch.optim.Adam
    source = "Loshchilov and Hutter 2019: decay apart from the gradient" if weight_decay else "Kingma and Ba 2015"
    card.take("optimizer", None, kind.__name__, source)
    options = {
        "lr": card.take("lr", lr, 1e-3, "Kingma and Ba 2015"),
        "betas": card.take("betas", betas, (0.9, 0.999), "Kingma and Ba 2015"),
    }
    decay = card.take("weight_decay", weight_decay, 0, "Zaremba et al. 2014: dropout instead")
    source = "a quarter of the run; Zaremba et al. 2014: a third, then each epoch"
    between = _whole("every", card.take("every", every, max(1, round(steps / 4)), source))
    drop = card.take("gamma", gamma, 0.5, "Zaremba et al. 2014, small LSTM")
    chosen = card.take("schedule", schedule, Step(between, gamma=drop), "Zaremba et al. 2014")
    source = "Pascanu et al. 2013: recurrent gradients explode; 1 to 2 is usual"
    bound = card.take("max_norm", max_norm, 1.0, source)
    optimizer = _built(kind, parameter_groups(model, weight_decay=decay), options)
    remark = "no torch.nn recurrent layer was found; if there is none, see cnn and transformer"
    remarks = () if any(isinstance(m, nn.RNNBase | nn.RNNCellBase) for m in model.modules()) else (remark,)
    return Recipe(optimizer, ScheduledLR(optimizer, chosen), GlobalNorm(bound), tuple(card.settings), remarks)


def transformer(
    model: nn.Module,
    steps: int,
    d_model: int,
    *,
    lr: float | None = None,
    betas: tuple[float, float] | None = None,
    eps: float | None = None,
    weight_decay: float | None = None,
    warmup: int | None = None,
    schedule: Schedule | str | None = None,
    max_norm: float | None = None,
) -> Recipe:
    """AdamW with warm-up, inverse square root decay and clipping: for Transformers.

    The peak rate is the original's at its own warm-up of 4000 steps, whatever the warm-up here: with a short one the
    formula would give rates at which models diverge. ``lr=1, schedule="noam(...)"`` is the formula itself.

    Args:
        model: frozen parameters are left out.
        steps: optimizer steps of the whole run.
        d_model: width of the model.
        lr: peak rate, default ``(4000 * d_model) ** -0.5``.
        betas: default (0.9, 0.98).
        eps: default 1e-9.
        weight_decay: default 0.1; none for biases, norms and embeddings, tied ones included.
        warmup: steps, default a tenth of them, at most 4000.
        schedule: replaces warm-up and decay.
        max_norm: default 1; ``inf`` measures only.

    Raises:
        InputError: a value that cannot be used, or a model without trainable parameters.

    Example:
        >>> recipe = transformer(nn.TransformerEncoderLayer(64, 4), 1000, 64)
        >>> print(recipe)
        optimizer     AdamW                            Loshchilov and Hutter 2019
        lr            0.00197642                       Vaswani et al. 2017: the peak of their schedule at this width
        betas         (0.9, 0.98)                      Vaswani et al. 2017
        eps           1e-09                            Vaswani et al. 2017
        weight_decay  0.1                              Brown et al. 2020; not for norms, biases and embeddings
        warmup        100                              Vaswani et al. 2017: 4000 steps; a tenth of shorter runs
        schedule      warmup(100) > inverse_sqrt(100)  Vaswani et al. 2017
        max_norm      1                                Brown et al. 2020
    """
    card, steps, width = _Card(), _whole("steps", steps), _whole("d_model", d_model)
    card.take("optimizer", None, "AdamW", "Loshchilov and Hutter 2019")
    source = "Vaswani et al. 2017: the peak of their schedule at this width"
    options = {
        "lr": card.take("lr", lr, (4000 * width) ** -0.5, source),
        "betas": card.take("betas", betas, (0.9, 0.98), "Vaswani et al. 2017"),
        "eps": card.take("eps", eps, 1e-9, "Vaswani et al. 2017"),
    }
    decay = card.take("weight_decay", weight_decay, 0.1, "Brown et al. 2020; not for norms, biases and embeddings")
    source = "Vaswani et al. 2017: 4000 steps; a tenth of shorter runs"
    first = _warmup(card, warmup, min(4000, round(0.1 * steps)), steps, source)
    own = Warmup(first) >> InverseSqrt(max(1, first))
    chosen = card.take("schedule", schedule, own, "Vaswani et al. 2017")
    bound = card.take("max_norm", max_norm, 1.0, "Brown et al. 2020")
    optimizer = _built(torch.optim.AdamW, parameter_groups(model, weight_decay=decay), options)
    return Recipe(optimizer, ScheduledLR(optimizer, chosen), GlobalNorm(bound), tuple(card.settings))


# -- which parameters decay ---------------------------------------------------------------------------------------

_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def is_norm(module: nn.Module) -> bool:
    """Whether a module normalises: torch's own, and others that are called so (``LlamaRMSNorm``)."""
    return isinstance(module, _NORMS) or type(module).__name__.endswith("Norm")


def parameter_groups(model: nn.Module, *, weight_decay: float) -> list[dict[str, Any]]:
    """Parameters in two groups, with and without weight decay, for any torch optimizer.

    Without: biases and all else with fewer than two dimensions, parameters of norm layers, and embeddings, also those
    that are tied to an output layer, and parameters named ``...embed...`` or ``...token``. Every trainable parameter is
    in exactly one group.

    Args:
        model: frozen parameters are left out.
        weight_decay: of the group ``decay``.

    Raises:
        InputError: no parameter is trainable, or a lazy one has no shape yet.

    Example:
        >>> model = nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 10, bias=False))
        >>> model[3].weight = model[0].weight
        >>> [(group["name"], group["weight_decay"], len(group["params"])) for group in parameter_groups(
        ...     model, weight_decay=0.1)]
        [('decay', 0.1, 1), ('no_decay', 0.0, 4)]
    """
    decay = checked("weight_decay", weight_decay)
    trained: dict[int, Tensor] = {}
    spared: set[int] = set()
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if isinstance(parameter, UninitializedParameter):
                raise InputError(f"{type(module).__name__}.{name} has no shape yet; call the model once before")
            if parameter.requires_grad:
                trained[id(parameter)] = parameter
                if _spared(module, name, parameter):
                    spared.add(id(parameter))
    if not trained:
        raise InputError(f"{type(model).__name__} has no parameter that requires a gradient: nothing to optimize")
    groups = [
        {"params": [p for key, p in trained.items() if key not in spared], "weight_decay": decay, "name": "decay"},
        {"params": [p for key, p in trained.items() if key in spared], "weight_decay": 0.0, "name": "no_decay"},
    ]
    return [group for group in groups if group["params"]]


def _spared(module: nn.Module, name: str, parameter: Tensor) -> bool:
    if parameter.dim() < 2 or is_norm(module) or isinstance(module, nn.Embedding | nn.EmbeddingBag):
        return True
    return "bias" in name or "embed" in name or name.endswith("token")


# -- checks -------------------------------------------------------------------------------------------------------


def _whole(name: str, value: object) -> int:
    number = checked(name, value, low=1)
    if number != int(number):
        raise InputError(f"{name} is a whole number, not {value!r}")
    return int(number)


def _warmup(card: _Card, given: int | None, own: int, steps: int, source: str) -> int:
    chosen = checked("warmup", card.take("warmup", given, own, source))
    if chosen > steps:
        raise InputError(f"the warm-up must fit into the {steps} steps of the run, and takes {chosen:g}")
    return int(chosen)


def _built(kind: type[Optimizer], groups: list[dict[str, Any]], options: dict[str, Any]) -> Optimizer:
    if not 0 < float(options["lr"]) < math.inf:
        raise InputError(f"lr must be a number above 0, not {options['lr']!r}")
    try:
        return kind(groups, **options)
    except (ValueError, TypeError) as error:
        raise InputError(f"torch's {kind.__name__} refuses these values: {error}") from error

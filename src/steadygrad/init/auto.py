"""The right rule for each weight, chosen by what the weight is and which activation follows it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from steadygrad.dryrun import Forward
from steadygrad.errors import InputError
from steadygrad.init.follow import behind, following
from steadygrad.init.gains import LINEAR, Activation, gain
from steadygrad.init.rules import Random, draw, norm_layers_, orthogonal_filler, set_biases, xavier_std
from steadygrad.init.weights import EMBEDDINGS, Weight, modules, weights

#: Rules that `auto_` can be told to use throughout; "auto" chooses.
RULES = ("auto", "xavier", "kaiming", "lecun", "orthogonal")
_XAVIER = frozenset({"linear", "tanh", "sigmoid", "softsign", "hardtanh", "hardsigmoid"})


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen for a weight: the rule, its gain, the standard deviation it gives, and why."""

    name: str
    rule: str
    gain: float
    std: float
    activation: str
    why: str


def auto_(
    target: nn.Module | Iterable[nn.Module],
    *,
    rule: str = "auto",
    batch: Any = None,
    within: nn.Module | None = None,
    forward: Forward | None = None,
    generator: Random = None,
) -> list[Choice]:
    """Initialise every trainable weight by the rule that suits it.

    ==================================== ======================================================================
    followed by                          rule
    ==================================== ======================================================================
    ReLU family, GELU, SiLU, ELU, ...    Kaiming normal, fan_in, with the gain of that activation
    tanh, sigmoid, nothing               Xavier uniform, gain 5/3 for tanh
    SELU                                 LeCun normal: Var = 1 / fan_in
    in recurrent layers                  Xavier by gate from the input, orthogonal by gate from the state;
                                         forget gates of an LSTM get a bias of 1 (Jozefowicz et al. 2015)
    in attention layers                  Xavier for each of query, key and value
    embeddings                           N(0, 1); N(0, 1/width) where it is tied to an output layer
    norm layers                          gamma 1, beta 0, fresh running statistics
    ==================================== ======================================================================

    Biases are 0. Tied weights are set once, frozen parameters are left alone.

    Args:
        target: the model, or the modules to initialise.
        rule: one of :data:`RULES`, for all linear and convolutional weights; ``auto`` chooses by the table above.
        batch: what to call the model on to see which activation follows what, functional ones included. Without it
            the model's graph is traced, or, where that fails, modules are taken in the order of registration.
        within: the model that ``target`` is a part of, where to look for activations; ``target`` by default.
        forward: ``forward(model, batch)``, where the model is called in another way.
        generator: where the random numbers come from; torch's global state by default.

    Returns:
        One :class:`Choice` per weight, in the order in which the weights are used.

    Raises:
        InputError: an unknown rule, or a target without trainable weights.

    Example:
        >>> net = nn.Sequential(nn.Linear(64, 32), nn.GELU(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1))
        >>> for choice in auto_(net):
        ...     print(choice.name, choice.rule, choice.activation, round(choice.gain, 3))
        0.weight kaiming gelu 1.534
        2.weight xavier tanh 1.667
        4.weight xavier linear 1.0
    """
    if not isinstance(target, nn.Module):
        target = list(target)
    choices = [(weight, choice) for weight, choice in _choose(target, rule, batch, within, forward)]
    for weight, choice in choices:
        _fill(weight, choice, generator)
    embedded = list(_embeddings(target, generator))
    norms = norm_layers_(target)
    if not choices and not embedded and not norms:
        raise InputError("auto_ found no trainable weight here; give the model, or modules that own weights")
    return [choice for _, choice in choices] + embedded


def plan(
    target: nn.Module | Iterable[nn.Module],
    *,
    rule: str = "auto",
    batch: Any = None,
    within: nn.Module | None = None,
    forward: Forward | None = None,
) -> list[Choice]:
    """What :func:`auto_` would choose, with nothing changed. Arguments and errors are the same.

    Example:
        >>> [choice.rule for choice in plan(nn.Sequential(nn.Conv2d(3, 8, 3), nn.SELU()))]
        ['lecun']
    """
    return [choice for _, choice in _choose(target, rule, batch, within, forward)]


def _choose(
    target: nn.Module | Iterable[nn.Module], rule: str, batch: Any, within: nn.Module | None, forward: Forward | None
) -> Iterator[tuple[Weight, Choice]]:
    if rule not in RULES:
        raise InputError(f"rule must be one of {', '.join(RULES)}, not {rule!r}; lsuv_ needs a batch and is separate")
    target = target if isinstance(target, nn.Module) else list(target)
    root = target if within is None else within
    found = following(root, batch=batch, forward=forward)
    mine = {id(w.tensor): w for w in weights(target)}
    named = [w for w in weights(root, frozen=True) if id(w.tensor) in mine]
    if within is not None and len(named) < len(mine):
        raise InputError("target must be a part of `within`; it has weights that the model does not have")
    rank = {name: i for i, name in enumerate(found.order)}
    named.sort(key=lambda w: rank.get(w.name, len(rank)))
    blind = not found.after and found.how == "registration"
    for weight in named:
        assumed = blind and weight is not named[-1]
        activation = Activation("relu") if assumed else behind(found, weight)
        why = "assumed: no activation seen" if assumed else f"seen by {found.how}"
        yield weight, _choice(weight, activation, rule, why)


def _choice(weight: Weight, activation: Activation, rule: str, why: str) -> Choice:
    if isinstance(weight.module, nn.RNNBase | nn.RNNCellBase):
        recurrent = "_hh" in weight.attribute
        rule, activation, why = "orthogonal" if recurrent else "xavier", LINEAR, "recurrent layer, gate by gate"
    elif isinstance(weight.module, nn.MultiheadAttention):
        rule, activation, why = "xavier", LINEAR, "attention, each of query, key, value"
    elif rule == "auto":
        rule = "lecun" if activation.name == "selu" else "xavier" if activation.name in _XAVIER else "kaiming"
    factor = 1.0 if rule == "lecun" else gain(activation.name, activation.parameter)
    if rule == "xavier" and activation.name not in ("tanh", "linear", "sigmoid"):
        factor = 1.0
    if rule == "xavier":
        std = xavier_std(weight, factor)
    elif rule == "orthogonal":
        std = factor / math.sqrt(max(weight.fans.fan_in, weight.fans.fan_out))
    else:
        std = factor / math.sqrt(weight.fans.fan_in)
    return Choice(weight.name, rule, factor, std, str(activation), why)


def _fill(weight: Weight, choice: Choice, generator: Random) -> None:
    distribution = "uniform" if choice.rule == "xavier" else "normal"
    if choice.rule == "orthogonal":
        weight.write(orthogonal_filler(weight, choice.gain, generator))
    else:
        weight.write(lambda value: draw(value, choice.std, distribution, generator))
    set_biases(weight, 0.0)
    if isinstance(weight.module, nn.LSTM | nn.LSTMCell) and "_ih" in weight.attribute:
        _open_forget_gate(weight)


@torch.no_grad()
def _open_forget_gate(weight: Weight) -> None:
    bias = getattr(weight.module, weight.biases[0], None)
    if isinstance(bias, Tensor) and bias.requires_grad:
        bias[bias.numel() // 4 : bias.numel() // 2] = 1.0


@torch.no_grad()
def _embeddings(target: nn.Module | Iterable[nn.Module], generator: Random) -> Iterator[Choice]:
    every = modules(target)
    held = [getattr(m, "weight", None) for _, m in every if not isinstance(m, EMBEDDINGS)]
    shared = {id(weight) for weight in held if isinstance(weight, Tensor)}
    done: set[int] = set()
    for name, module in every:
        if not isinstance(module, EMBEDDINGS) or not module.weight.requires_grad or id(module.weight) in done:
            continue
        done.add(id(module.weight))
        tied = id(module.weight) in shared
        std = 1 / math.sqrt(module.embedding_dim) if tied else 1.0
        module.weight.normal_(0, std, generator=generator)
        if module.padding_idx is not None:
            module.weight[module.padding_idx] = 0
        why = "embedding tied to an output layer" if tied else "embedding"
        yield Choice(f"{name}weight", "normal", 1.0, std, "linear", why)

"""Drawing the weights anew before the model first meets data."""

from __future__ import annotations

import math
from collections.abc import Callable
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from steadygrad.interventions.places import chosen
from steadygrad.interventions.report import Report
from steadygrad.interventions.stage import Stage, parameters_of
from steadygrad.kinds import fan_in_of, module_kind, parameter_role
from steadygrad.records import RemedySpec
from steadygrad.values import positive

#: ``draw(weight, fan in, fan out, generator)`` fills a matrix.
Draw = Callable[[Tensor, int, int, torch.Generator], object]
#: Drawn from a generator of our own, so that the script's random numbers stay what they are; other seeds of the script
#: give other draws.
SEED = 20210
#: Fewer entries than these show no distribution.
SEVERAL = 4
#: Biases of this spread are as large as signals.
LARGE = 0.7


class Redraw:
    """Draws the weights of every model anew, once, before its first training forward."""

    def __init__(self, stage: Stage, spec: RemedySpec, report: Report, draw: Draw, *, embeddings: bool = False) -> None:
        self._stage, self._place, self._report = stage, spec.place, report
        self._draw, self._embeddings = draw, embeddings
        self._biases_only = spec.value == "bias"
        self._generator: torch.Generator | None = None
        self._done = WeakTensorKeyDictionary()
        self._models: WeakSet[nn.Module] = WeakSet()
        stage.on_root(self.model)
        stage.after_backward(self.loose)

    @torch.no_grad()
    def model(self, model: nn.Module) -> None:
        """A model is about to run."""
        if model in self._models:
            return None
        self._models.add(model)
        if any(isinstance(p, nn.UninitializedParameter) for p in model.parameters()):
            return self._report.refused("lazy modules have no weights yet")
        modules = chosen(model, self._place)
        heads = [m for m in modules if module_kind(m) in ("linear", "conv")]
        head = None if self._place or not heads else heads[-1]  # its bias may hold what is known of the targets
        count = sum(self._weights(module, keep_bias=module is head) for module in modules)
        if count:
            self._report.applied(f"{count} tensors were set anew")
        return None

    def _weights(self, module: nn.Module, *, keep_bias: bool) -> int:
        count = 0
        for name, parameter in module.named_parameters(recurse=False):
            role = parameter_role(module, name, parameter)
            if parameter in self._done or not parameter.requires_grad or not parameter.is_floating_point():
                continue
            if self._biases_only:
                count += self._clear(parameter) if role == "bias" and not keep_bias else 0
            elif role in ("weight", "recurrent") and _is_matrix(module, parameter):
                self._redraw(parameter, fan_in_of(module, parameter), gates=_gates(module, parameter), role=role)
                count += 1
            elif role == "embedding" and self._embeddings and parameter.dim() == 2:
                self._fill(parameter, lambda w: _normal(w, 1 / math.sqrt(w.shape[1]), self._random))
                count += 1
            elif role == "bias" and _unwanted(parameter, module, is_head=keep_bias):
                parameter.zero_()
        return count

    @staticmethod
    def _clear(bias: Tensor) -> int:
        bias.zero_()
        return 1

    @property
    def _random(self) -> torch.Generator:
        if self._generator is None:
            self._generator = torch.Generator().manual_seed((SEED + torch.initial_seed()) % (1 << 63))
        return self._generator

    def _redraw(self, weight: Tensor, fan_in: int, *, gates: int = 1, role: str = "weight") -> None:
        fan_out = max(1, weight.numel() // max(1, weight.shape[1] if weight.dim() > 2 else fan_in)) // gates

        def fill(fresh: Tensor) -> None:
            for gate in fresh.chunk(gates):
                if role == "recurrent":
                    nn.init.orthogonal_(gate, generator=self._random)
                else:
                    self._draw(gate, max(1, fan_in), fan_out, self._random)

        self._fill(weight, fill)

    def _fill(self, weight: Tensor, fill: Callable[[Tensor], None]) -> None:
        """Filled on the CPU, where our generator is, whatever device the weight is on."""
        self._done[weight] = True
        fresh = torch.empty(weight.shape, device="cpu", dtype=torch.float32)
        if weight.is_meta:
            return
        fill(fresh)
        weight.copy_(fresh)

    @torch.no_grad()
    def loose(self, leaves: list[Tensor]) -> None:
        """Weights of no module are met in the first backward pass only; its gradient is dropped."""
        bare = [p for p in leaves if p.dim() == 2 and p not in self._done]
        if self._models or self._place or not bare:
            return
        for weight in bare:
            self._redraw(weight, weight.shape[0])
        for leaf in leaves:
            if leaf.grad is not None:
                leaf.grad.zero_()
        self._report.applied(f"{len(bare)} weight matrices were drawn anew after the first backward pass")


def _is_matrix(module: nn.Module, weight: Tensor) -> bool:
    """A module's own tensor ``[1, ..., n]`` is a row added to others, such as a class token."""
    return weight.dim() >= 2 and (module_kind(module) != "other" or weight.shape[-2] > 1)


def _unwanted(bias: Tensor, module: nn.Module, *, is_head: bool) -> bool:
    """Whether a bias is cleared with the weights beside it.

    That of the output layer may hold what is known of the targets, and that of a gate may keep it open: they go only
    where they are as large as signals, and look as if they had been drawn.
    """
    if not is_head and module_kind(module) in ("linear", "conv"):
        return True
    if module_kind(module) not in ("linear", "conv", "recurrent") or bias.numel() < SEVERAL:
        return False
    spread, mean = torch.std_mean(bias.float(), correction=0)
    return bool(spread > LARGE) and bool(mean.abs() < spread / 2)


def _gates(module: nn.Module, weight: Tensor) -> int:
    """How many matrices a recurrent weight holds one above the other."""
    size = getattr(module, "hidden_size", 0)
    stacked = isinstance(module, nn.RNNBase | nn.RNNCellBase) and size and weight.shape[0] % size == 0
    return weight.shape[0] // size if stacked else 1


def _normal(weight: Tensor, std: float, generator: torch.Generator) -> None:
    weight.normal_(0.0, std, generator=generator)


def reinit_kaiming(stage: Stage, spec: RemedySpec, report: Report) -> None:
    """Variance 2 / fan_in: keeps the scale through ReLU layers (He et al., 2015). ``bias``: only clear the biases."""
    gain = math.sqrt(2) if spec.value == "bias" else positive(spec, math.sqrt(2))
    Redraw(stage, spec, report, lambda w, into, out, g: _normal(w, gain / math.sqrt(into), g))


def reinit_xavier(stage: Stage, spec: RemedySpec, report: Report) -> None:
    """Variance 2 / (fan_in + fan_out): a compromise of both directions (Glorot and Bengio, 2010)."""
    gain = positive(spec, 1.0)

    def draw(weight: Tensor, into: int, out: int, generator: torch.Generator) -> None:
        _normal(weight, gain * math.sqrt(2 / (into + out)), generator)

    Redraw(stage, spec, report, draw, embeddings=True)


def reinit_orthogonal(stage: Stage, spec: RemedySpec, report: Report) -> None:
    """Orthogonal rows or columns (Saxe et al., 2014)."""
    gain = positive(spec, 1.0)
    Redraw(stage, spec, report, lambda w, into, out, g: nn.init.orthogonal_(w, gain, generator=g))


def reinit_lsuv(stage: Stage, spec: RemedySpec, report: Report) -> None:
    """Orthogonal, then scaled to outputs of variance 1 on the first batch (Mishkin and Matas, 2016)."""
    Redraw(stage, spec, report, lambda w, into, out, g: nn.init.orthogonal_(w, generator=g))
    _Unit(stage, spec)


class _Unit:
    """Scales each layer's weight, in the order in which layers run, by the spread of its first output.

    An output divided by its spread is what the scaled layer would have given, so one forward measures every layer. The
    weights themselves are scaled at the next update, when no graph needs their old values; that update is left out.
    """

    def __init__(self, stage: Stage, spec: RemedySpec) -> None:
        self._stage, self._place = stage, spec.place
        self._spreads: dict[nn.Module, float] = {}
        self._done: WeakSet[nn.Module] = WeakSet()
        stage.before_step(lambda optimizer: self.settle(list(parameters_of(optimizer))))
        stage.after_backward(lambda leaves: self.settle(leaves) if stage.by_hand else None)
        stage.on_output(self.measure)
        stage.at_undo(lambda: self.settle([p for m in self._spreads for p in m.parameters(recurse=False)]))

    @torch.no_grad()
    def settle(self, updated: list[Tensor]) -> None:
        """Scale the weights of the layers measured that are updated now: the graphs of others may still be needed."""
        ids = {id(p) for p in updated}
        for module, spread in list(self._spreads.items()):
            own = list(module.parameters(recurse=False))
            if ids.issuperset(map(id, own)):
                del self._spreads[module]
                for parameter in own:
                    parameter.div_(spread)

    def measure(self, module: nn.Module, args: object, out: object) -> Tensor | None:
        """The output as the scaled layer would give it."""
        root = self._stage.root
        if module in self._spreads and isinstance(out, Tensor):
            return out / self._spreads[module]
        if module in self._done or root is None or not self._stage.training_forward or not isinstance(out, Tensor):
            return None
        if module_kind(module) not in ("linear", "conv") or module not in chosen(root, self._place):
            return None
        self._done.add(module)
        spread = float(out.detach().std()) if out.numel() > 1 and not out.is_meta else 0.0
        if not (math.isfinite(spread) and spread > 0):
            return None
        self._spreads[module] = spread
        self._stage.leave_out_update = True
        return out / spread

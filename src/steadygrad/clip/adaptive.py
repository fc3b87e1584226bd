"""Clippers whose threshold follows the run's own norms.

Shapes legend: P = parameters that have a gradient, N = parameters given, W = norms remembered.

Statistics live on the device beside the gradients and are updated there, so nothing waits. A step that was not finite,
or whose gradients are all zero, leaves them exactly as they were.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from steadygrad.clip.base import ScalingClipper, at_least_zero, bounded, number
from steadygrad.clip.gradients import Gradients
from steadygrad.clip.info import ClipInfo
from steadygrad.errors import InputError


class AdaptiveClipper(ScalingClipper):
    """A scaling clipper with statistics: named tensors that follow the gradients' device."""

    def __init__(self, *, error_if_nonfinite: bool = False) -> None:
        super().__init__(error_if_nonfinite=error_if_nonfinite)
        self._state: dict[str, Tensor] = self._fresh()

    def _fresh(self) -> dict[str, Tensor]:
        """The statistics before the first step, on the CPU."""
        raise NotImplementedError

    def _follow(self, device: torch.device) -> None:
        if any(value.device != device for value in self._state.values()):
            self._state = {name: value.to(device, non_blocking=True) for name, value in self._state.items()}

    def _keep(self, info: ClipInfo, **new: Tensor) -> None:
        """Take these values, unless the step says nothing: a threshold learnt from zeros would never let go."""
        silent = info.non_finite | (info.norm_before == 0)
        for name, value in new.items():
            self._state[name] = torch.where(silent, self._state[name], value)

    def state_dict(self) -> dict[str, Any]:
        """Copies of the statistics, tensors on their device."""
        return {name: value.clone() for name, value in self._state.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a stored state; it moves to the gradients' device by itself.

        Raises:
            InputError: it is another clipper's, or was made with another window.
        """
        fresh = self._fresh()
        if state.keys() != fresh.keys():
            raise InputError(
                f"The state of {type(self).__name__} has {sorted(fresh)}, but this one has {sorted(state)}; "
                f"is it another clipper's?"
            )
        loaded = {name: torch.as_tensor(state[name]).detach().clone() for name in fresh}
        self._check(fresh, loaded)
        self._state = loaded

    def _check(self, fresh: dict[str, Tensor], loaded: dict[str, Tensor]) -> None:
        for name, value in loaded.items():
            if value.shape != fresh[name].shape:
                raise InputError(
                    f"{type(self).__name__} keeps {name} of shape {tuple(fresh[name].shape)}, but the state has "
                    f"{tuple(value.shape)}; build the clipper with the options it was saved with"
                )


class Quantile(AdaptiveClipper):
    """Clip the global norm at a quantile of the norms seen so far, this one included (AutoClip).

    ``max_norm = quantile(norms, q)``: Seetharaman, Wichern, Pardo, Le Roux, "AutoClip: adaptive gradient clipping for
    source separation networks" (MLSP 2020), which keeps every norm for ever; here the last ``window``. With ``q = 0.1``
    nine steps in ten are scaled: it normalises rather than guards.

    Args:
        q: the quantile, 0 to 1, interpolated linearly as ``numpy.quantile`` does.
        window: how many norms are remembered.
        eps: added to the norm, as in :class:`GlobalNorm`.
        error_if_nonfinite: raise instead of reporting NaN or Inf.

    Raises:
        InputError: an option out of range.

    Example:
        >>> clipper, weight = Quantile(0.5), torch.zeros(1, requires_grad=True)
        >>> for size in (1.0, 2.0, 9.0):
        ...     weight.grad = torch.full((1,), size)
        ...     info = clipper([weight])
        >>> round(float(weight.grad), 4)
        2.0
    """

    foldable = True

    def __init__(
        self, q: float = 0.1, *, window: int = 1000, eps: float = 1e-6, error_if_nonfinite: bool = False
    ) -> None:
        self.q = float(q)
        self.window = int(window)
        self.eps = number("eps", eps, low=0.0)
        if not 0 <= self.q <= 1:
            raise InputError(f"q must be between 0 and 1, got {q!r}; AutoClip's 10th percentile is 0.1")
        if self.window < 1:
            raise InputError(f"window must be at least 1, got {window!r}; 1000 is the default")
        super().__init__(error_if_nonfinite=error_if_nonfinite)

    def _fresh(self) -> dict[str, Tensor]:
        ring = torch.zeros(self.window, dtype=torch.float64, device="cpu")
        return {"ring": ring, "count": torch.zeros((), dtype=torch.int64, device="cpu")}

    def factors(self, gradients: Gradients, norms: Tensor, total: Tensor, factor: float) -> Tensor:
        """``[]``: the quantile bounds the joint norm."""
        bound = self.threshold(total) * factor
        return torch.where(total > bound, bound / (total + self.eps), 1.0)

    def threshold(self, norm: Tensor) -> Tensor:
        """The quantile of the remembered norms and this one, 0-dim."""
        self._follow(norm.device)
        place = torch.arange(self.window, device=norm.device)
        known = (self._state["count"] + 1).clamp_max(self.window)
        seen = torch.where(place < known, self._with(norm), math.inf).sort().values
        position = (known - 1).to(seen.dtype) * self.q
        below = position.floor()
        at = below.long()
        # Not seen[at]: torch reads a 0-dim index on the host.
        low, high = seen.gather(0, torch.stack([at, (at + 1).clamp_max(known - 1)])).unbind()
        share = position - below
        # The two forms of numpy's interpolation, so that the result is the same to the bit.
        return torch.where(share < 0.5, low + (high - low) * share, high - (high - low) * (1 - share))

    def _with(self, norm: Tensor) -> Tensor:
        place = torch.arange(self.window, device=norm.device)
        ring: Tensor = self._state["ring"]
        return torch.where(place == self._state["count"] % self.window, norm.to(ring.dtype), ring)

    def commit(self, info: ClipInfo) -> None:
        """Remember the norm, in place of the oldest once the window is full."""
        self._follow(info.norm_before.device)
        self._keep(info, ring=self._with(info.norm_before), count=self._state["count"] + 1)


class ZScore(AdaptiveClipper):
    """Clip only norms that stand out from the recent ones (ZClip).

    With the moving mean ``m`` and deviation ``s`` of the norms and ``score = (norm - m) / s``: where ``score > z`` the
    norm is clipped to ``m + z * s * z / score``, so that the larger a spike, the closer to the mean it ends. Never
    above ``max_norm``. Kumar et al., "ZClip: adaptive spike mitigation for LLM pre-training" (arXiv 2504.02507).

    Args:
        z: the score from which a norm is a spike.
        max_norm: clips on top of that, and alone during the warm-up; ``inf`` for none.
        decay: of the moving mean and variance, in [0, 1).
        warmup: steps whose plain mean and variance start the moving ones.
        eps: added to the deviation, and to the norm where it is divided by.
        error_if_nonfinite: raise instead of reporting NaN or Inf.

    Raises:
        InputError: an option out of range.

    Example:
        >>> clipper, weight = ZScore(max_norm=math.inf, warmup=3), torch.zeros(1, requires_grad=True)
        >>> for size in (1.0, 2.0, 3.0, 50.0):
        ...     weight.grad = torch.full((1,), size)
        ...     info = clipper([weight])
        >>> round(float(weight.grad), 2)
        2.09
    """

    foldable = True

    def __init__(
        self,
        z: float = 2.5,
        *,
        max_norm: float = 1.0,
        decay: float = 0.97,
        warmup: int = 25,
        eps: float = 1e-6,
        error_if_nonfinite: bool = False,
    ) -> None:
        self.z = number("z", z, low=0.0)
        self.max_norm = at_least_zero("max_norm", max_norm)
        self.decay = number("decay", decay, low=0.0, high=1.0)
        self.warmup = int(number("warmup", warmup, low=1.0, what="the first norms give the first mean"))
        self.eps = number("eps", eps, low=0.0)
        super().__init__(error_if_nonfinite=error_if_nonfinite)

    def _fresh(self) -> dict[str, Tensor]:
        zero = torch.zeros((), dtype=torch.float64, device="cpu")
        return {"count": zero, "mean": zero.clone(), "variance": zero.clone()}

    def decide(self, gradients: Gradients, norms: Tensor, factor: float = 1.0, bad: Tensor | None = None) -> ClipInfo:
        """As of every scaling clipper; keeps the norm that the statistics are to learn."""
        info = super().decide(gradients, norms, factor, bad)
        return replace(info, _plan=self._tamed(info.norm_before, factor))

    def factors(self, gradients: Gradients, norms: Tensor, total: Tensor, factor: float) -> Tensor:
        """``[]``: the tamed norm bounds the joint norm."""
        bound = self._tamed(total, factor).clamp_max(self.max_norm * factor)
        return torch.where(total > bound, bound / (total + self.eps), 1.0)

    def _tamed(self, norm: Tensor, factor: float) -> Tensor:
        """The norm itself, or what a spike is clipped to, 0-dim."""
        self._follow(norm.device)
        mean, deviation = self._state["mean"], self._state["variance"].sqrt()
        score, z = (norm - mean) / (deviation + self.eps), self.z * factor
        spike = (self._state["count"] >= self.warmup) & (score > z)
        return torch.where(spike, mean + z * deviation * z / score, norm)

    def commit(self, info: ClipInfo) -> None:
        """Learn the norm as it was, or what a spike was clipped to."""
        norm: Tensor = info._plan.to(torch.float64)
        self._follow(norm.device)
        count, mean, variance = (self._state[name] for name in ("count", "mean", "variance"))
        # In the warm-up each norm weighs the same (Welford), after it the newest weighs 1 - decay.
        warming = count < self.warmup
        weight = torch.where(warming, 1 / (count + 1), 1 - self.decay)
        new_mean = torch.where(warming, mean + weight * (norm - mean), self.decay * mean + weight * norm)
        welford = variance + weight * ((norm - mean) * (norm - new_mean) - variance)
        moving = self.decay * variance + weight * (norm - new_mean).square()
        self._keep(info, count=count + 1, mean=new_mean, variance=torch.where(warming, welford, moving))


class AdaGC(AdaptiveClipper):
    """Clip each tensor relative to a moving average of its own clipped norm.

    For the first ``warmup`` steps the global norm is clipped at ``absolute`` while ``gamma_i`` takes the smallest norm
    of each tensor. After that ``g_i *= min(1, relative * gamma_i / |g_i|)`` and ``gamma_i`` moves towards the clipped
    norm: Wang et al., "AdaGC: improving training stability for large language model pretraining" (arXiv 2502.11034). A
    gradient of zero teaches nothing here: in the published form a tensor that was zero once is zero for ever.

    Args:
        relative: how far above its average a tensor's norm may go; ``inf`` measures only, after the warm-up.
        absolute: threshold of the global norm during the warm-up; ``inf`` for none.
        decay: of the averages, in [0, 1).
        warmup: steps before the averages decide.
        error_if_nonfinite: raise instead of reporting NaN or Inf.

    Raises:
        InputError: an option out of range; later steps with more or fewer parameters than the first.

    Example:
        >>> clipper, weight = AdaGC(absolute=math.inf, warmup=1), torch.zeros(1, requires_grad=True)
        >>> for size in (2.0, 100.0):
        ...     weight.grad = torch.full((1,), size)
        ...     info = clipper([weight])
        >>> round(float(weight.grad), 4)
        2.1
    """

    def __init__(
        self,
        relative: float = 1.05,
        *,
        absolute: float = 1.0,
        decay: float = 0.98,
        warmup: int = 100,
        error_if_nonfinite: bool = False,
    ) -> None:
        self.relative = at_least_zero("relative", relative)
        self.absolute = at_least_zero("absolute", absolute)
        self.decay = number("decay", decay, low=0.0, high=1.0)
        self.warmup = int(number("warmup", warmup, low=1.0, what="the averages need a first norm"))
        super().__init__(error_if_nonfinite=error_if_nonfinite)
        self._where: tuple[Sequence[int], Tensor] | None = None

    def _fresh(self) -> dict[str, Tensor]:
        zero = torch.zeros((), dtype=torch.float64, device="cpu")
        return {"count": zero, "gamma": torch.zeros(0, dtype=torch.float64, device="cpu")}

    def _check(self, fresh: dict[str, Tensor], loaded: dict[str, Tensor]) -> None:
        super()._check({"count": fresh["count"]}, {"count": loaded["count"]})
        if loaded["gamma"].dim() != 1:
            raise InputError(f"AdaGC keeps one average per parameter, but the state has {loaded['gamma'].shape}")

    def decide(self, gradients: Gradients, norms: Tensor, factor: float = 1.0, bad: Tensor | None = None) -> ClipInfo:
        """As of every scaling clipper; keeps which parameters these are."""
        self._follow(norms.device)
        self._grow(gradients.given)
        return replace(super().decide(gradients, norms, factor, bad), _plan=self._index(gradients, norms.device))

    def _grow(self, given: int) -> None:
        known = len(self._state["gamma"])
        if known not in (0, given):
            raise InputError(
                f"AdaGC keeps one average per parameter, of {known} so far, but was given {given}; "
                f"pass the same parameters at every step, those without a gradient included"
            )
        if not known:
            self._state["gamma"] = self._state["count"].new_full((given,), math.inf)

    def _index(self, gradients: Gradients, device: torch.device) -> Tensor:
        """``[P]``: places in gamma; made anew only when other parameters have gradients."""
        positions = gradients.positions
        if self._where is None or self._where[0] != positions or self._where[1].device != device:
            self._where = (
                positions,
                torch.tensor(list(positions), device="cpu").to(device, torch.int64, non_blocking=True),
            )
        return self._where[1]

    def factors(self, gradients: Gradients, norms: Tensor, total: Tensor, factor: float) -> Tensor:
        """``[P]``: one for all during the warm-up, each by its own average later."""
        gamma = self._state["gamma"][self._index(gradients, norms.device)]
        early = bounded(total, self.absolute * factor)
        later = bounded(norms, self.relative * factor * gamma)
        return torch.where(self._state["count"] < self.warmup, early, later)

    def commit(self, info: ClipInfo) -> None:
        """Let the averages learn the clipped norms."""
        where, norms = info._plan, info.norms_after.to(torch.float64)
        self._follow(norms.device)
        gamma = self._state["gamma"][where]
        warming = (self._state["count"] < self.warmup) | torch.isinf(gamma)
        new = torch.where(warming, torch.minimum(gamma, norms), self.decay * gamma + (1 - self.decay) * norms)
        learned = torch.where(norms > 0, new, gamma)
        self._keep(info, count=self._state["count"] + 1, gamma=self._state["gamma"].index_put((where,), learned))

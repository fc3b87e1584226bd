"""The gradients of a call, as tensors that can be read and scaled in place.

Shapes legend: P = parameters that have a gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor, nn

from steadygrad.clip.norms import alike, joint, norms, on_host, wide
from steadygrad.clip.sharding import (
    Exchange,
    Layout,
    exchanges_of,
    is_dtensor,
    joint_over_ranks,
    local_part,
    over_ranks,
)
from steadygrad.errors import InputError

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


@dataclass
class Gradients:
    """The parameters of a call that have a gradient, each counted once.

    Attributes:
        parameters: ``[P]``, in the order given.
        tensors: the gradients' own numbers as dense real tensors, to be read and scaled in place: of sparse ones the
            stored values, of complex ones pairs.
        positions: where each parameter stands among all that were given, those without a gradient included.
        given: how many parameters were given.
        groups: indices of those of one device and type each.
        layouts: how each is spread over ranks, where any is.
        exchanges: the reductions over ranks that their norms need.
        by_hand: whether they are cut in a way that only the caller knows.
        stages: ranks that hold the other parameters of the model.
    """

    parameters: list[Tensor]
    tensors: list[Tensor]
    positions: Sequence[int]
    given: int
    groups: list[Sequence[int]] = field(repr=False)
    _names: list[str] | None = field(default=None, repr=False)
    layouts: list[Layout | None] | None = field(default=None, repr=False)
    exchanges: list[Exchange] = field(default_factory=list, repr=False)
    by_hand: bool = False
    stages: ProcessGroup | None = None

    @property
    def named(self) -> bool:
        """Whether the parameters came with names."""
        return self._names is not None

    def names(self) -> tuple[str, ...]:
        """Names in the order of :attr:`parameters`."""
        return self.naming()()

    def naming(self) -> Callable[[], tuple[str, ...]]:
        """How to get :meth:`names` later, without keeping any tensor alive."""
        names, positions = self._names, self.positions
        if names is None:
            return lambda: tuple(f"parameters[{i}]" for i in positions)
        return lambda: tuple(names[i] for i in positions)

    def norms(self, p: float = 2.0) -> tuple[Tensor, Tensor | None]:
        """The p-norm of each gradient, ``[P]``, over all ranks; and whether any rank met NaN or Inf, if others are."""
        return self.over_ranks(norms(self.tensors, p=p, groups=self.groups), p)

    def over_ranks(self, each: Tensor, p: float = 2.0, flag: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """The same from the norms of this rank's parts, ``[P]``; or whether any rank raised a flag, 0-dim."""
        return over_ranks(each, p, self.exchanges, flag) if self.exchanges else (each, flag)

    def joint(self, each: Tensor, p: float = 2.0, flag: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The joint norm from the norm of each, and whether it is not finite or any rank raised a flag, both 0-dim."""
        total = joint(each, p)
        bad = ~torch.isfinite(total) if flag is None else flag | ~torch.isfinite(total)
        return (total, bad) if self.stages is None else joint_over_ranks(total, bad, p, self.stages)

    def sizes(self) -> Tensor:
        """The number of entries of each whole parameter, ``[P]``, on the CPU."""
        own = torch.tensor([float(p.numel()) for p in self.parameters], dtype=torch.float64, device="cpu")
        if not self.by_hand or not len(own):
            return own
        return over_ranks(own.to(self.tensors[0].device, wide(self.tensors[0].device)), 1.0, self.exchanges)[0]


Parameters: TypeAlias = nn.Module | Tensor | Iterable[Tensor] | Iterable[tuple[str, Tensor]] | Gradients


def collect(parameters: Parameters) -> Gradients:
    """Find the gradients of a module, of tensors, or of ``(name, tensor)`` pairs.

    A parameter that comes twice is counted once. Pass the result wherever a clipper takes parameters, to look for the
    gradients only once.

    Raises:
        InputError: something in it is not a tensor.

    Example:
        >>> weight = torch.ones(2, requires_grad=True)
        >>> weight.sum().backward()
        >>> collect([("weight", weight), ("tied", weight)]).names()
        ('weight',)
    """
    if isinstance(parameters, Gradients):
        return parameters
    names, given = _unpack(parameters)
    try:
        grads = [p.grad for p in given]
    except AttributeError:
        raise _not_a_parameter(given) from None
    positions: Sequence[int] = range(len(given))
    chosen, tensors = given, [g for g in grads if g is not None]
    if len(tensors) < len(grads):
        positions = [i for i, g in enumerate(grads) if g is not None]
        chosen = [given[i] for i in positions]
    layouts: list[Layout | None] | None = None
    exchanges: list[Exchange] = []
    groups = alike(tensors)
    if not _ordinary(tensors, groups):
        with torch.no_grad():
            layouts = [_localize(p) if is_dtensor(g) else None for p, g in zip(chosen, tensors, strict=True)]
            tensors = [_numbers(p) for p in chosen]
        groups, exchanges = alike(tensors), exchanges_of(layouts)
    return Gradients(chosen, tensors, positions, len(given), groups, names, layouts, exchanges)


def _unpack(parameters: nn.Module | Tensor | Iterable[Tensor] | Iterable[tuple[str, Tensor]]) -> _Unpacked:
    """Names, where there are any, and tensors, each once."""
    if isinstance(parameters, nn.Module):
        parameters = parameters.named_parameters()
    items = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    if items and isinstance(items[0], tuple):
        pairs = {id(pair[-1]): pair for pair in reversed(items)}  # the first name of a tied parameter wins
        chosen = list(reversed(pairs.values()))
        return [str(pair[0]) for pair in chosen], [pair[-1] for pair in chosen]
    if len({*map(id, items)}) < len(items):
        items = list({id(item): item for item in items}.values())
    return None, items


def _not_a_parameter(items: Sequence[object]) -> InputError:
    wrong = next(type(item).__name__ for item in items if not isinstance(item, Tensor))
    return InputError(
        f"A clipper takes a module, tensors, or (name, tensor) pairs, but met {wrong}; "
        f"pass model, model.parameters() or model.named_parameters()"
    )


def _ordinary(grads: list[Tensor], groups: list[Sequence[int]]) -> bool:
    """Whether all are dense real tensors that own their numbers, so that they can be read and scaled as they are."""
    return (
        set(map(type, grads)) <= {Tensor}
        and {g.layout for g in grads} <= {torch.strided}
        and not any(grads[members[0]].is_complex() for members in groups)
        and all(map(Tensor.is_contiguous, grads))
    )


def _localize(parameter: Tensor) -> Layout:
    """How a gradient is spread over ranks; sums that are still to be made over ranks are made here."""
    assert parameter.grad is not None
    whole, _, layout = local_part(parameter.grad)
    if whole is not parameter.grad:
        parameter.grad = whole
    return layout


def _numbers(parameter: Tensor) -> Tensor:
    """A gradient's own memory, dense and real; a gradient that has no such is replaced by an equal one that has."""
    grad = parameter.grad
    assert grad is not None
    if is_dtensor(grad):
        return _real(local_part(grad)[1])
    if grad.layout == torch.sparse_coo:
        if not grad.is_coalesced():  # entries of one place count as their sum
            grad = parameter.grad = grad.coalesce()
        return _real(grad.values())
    if grad.layout != torch.strided:
        return _real(grad.values())
    shared = any(size > 1 and step == 0 for size, step in zip(grad.shape, grad.stride(), strict=True))
    if shared or grad.is_conj():
        grad = parameter.grad = grad.resolve_conj().clone(memory_format=torch.contiguous_format)
    return _real(grad)


def _real(tensor: Tensor) -> Tensor:
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


_Unpacked: TypeAlias = tuple[list[str] | None, list[Tensor]]


def scale(gradients: Gradients, coefficient: Tensor) -> None:
    """Multiply every gradient by one 0-dim tensor. For callers under ``no_grad``.

    On the CPU a coefficient of 1 costs nothing. On an accelerator nobody waits to find out, so the pass over the
    gradients is made, and leaves them as they are to the bit.
    """
    for members in gradients.groups:
        tensors = (
            gradients.tensors if len(members) == len(gradients.tensors) else [gradients.tensors[i] for i in members]
        )
        first = tensors[0]
        if first.device.type == "cpu" and float(on_host(coefficient.cpu())) == 1.0:
            continue
        if first.dtype in (torch.float16, torch.bfloat16):
            # A 16-bit copy of the factor would be off by up to 0.4%; this kernel multiplies in float32.
            seen = torch.zeros((), device=first.device)
            torch._amp_foreach_non_finite_check_and_unscale_(tensors, seen, coefficient.to(first.device))
        else:
            torch._foreach_mul_(tensors, coefficient.to(first))


def scale_each(gradients: Gradients, coefficients: Tensor) -> None:
    """Multiply each gradient by its own factor, ``[P]``; on the CPU those with a factor of 1 are left alone.

    For callers under ``no_grad``.
    """
    if all(t.device.type == "cpu" for t in gradients.tensors):
        factors = on_host(coefficients.cpu()).tolist()
        chosen = [i for i, factor in enumerate(factors) if factor != 1.0]
        if chosen:
            torch._foreach_mul_([gradients.tensors[i] for i in chosen], [factors[i] for i in chosen])
        return
    for tensor, factor in zip(gradients.tensors, coefficients, strict=True):
        multiply(tensor, factor)


def multiply(tensor: Tensor, factor: Tensor) -> None:
    """Multiply in place by a float32 tensor of as many dimensions, or of none."""
    if factor.dim() == 0:  # torch rounds a 0-dim factor to a 16-bit tensor's type before it multiplies
        tensor = tensor if tensor.dim() else tensor.view(1)
        factor = factor.view([1] * tensor.dim())
    tensor.mul_(factor.to(tensor.device))

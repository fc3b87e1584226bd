"""What one clip did: tensors that stay on the device until somebody reads them.

Shapes legend: P = parameters that have a gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class ClipInfo:
    """The result of a clip. Nothing here waits for the device until a value is read (``float(info.norm_before)``).

    Attributes:
        norm_before: global norm before the clip, 0-dim; float64 where the device has it.
        norm_after: global norm after it, 0-dim. Of a clipper that does not scale whole tensors (``Value``), NaN until
            the clip is applied.
        coefficient: the single factor of all gradients, 0-dim float32 in [0, 1]; of a clipper that treats tensors or
            elements differently, ``norm_after / norm_before``.
        clipped: whether anything was made smaller, 0-dim bool.
        non_finite: whether any gradient holds NaN or Inf, 0-dim bool; the gradients were then left as they were.
        norms: norm of each parameter's gradient before the clip, ``[P]``, in the order of the parameters.
        coefficients: the factor of each tensor, ``[P]`` float32, where it differs from tensor to tensor; else None.
    """

    norm_before: Tensor
    norm_after: Tensor
    coefficient: Tensor
    clipped: Tensor
    non_finite: Tensor
    norms: Tensor
    coefficients: Tensor | None = None
    _names: Callable[[], tuple[str, ...]] = field(default=tuple, repr=False)
    _plan: Any = field(default=None, repr=False)

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters' names, in the order of :attr:`norms`; ``parameters[i]`` where they were given without."""
        return self._names()

    @property
    def norms_after(self) -> Tensor:
        """Norm of each parameter's gradient after a clip that scales whole tensors, ``[P]``."""
        return self.norms * (self.coefficient if self.coefficients is None else self.coefficients)

    def bad_parameters(self) -> tuple[str, ...]:
        """Names of the parameters whose gradient holds NaN or Inf. Reads the norms, so it waits for the device."""
        bad = (~torch.isfinite(self.norms)).nonzero().flatten().tolist()
        return tuple(self.names[i] for i in bad)

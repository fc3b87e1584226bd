"""Clipping of parameters that are spread over ranks by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Literal

from steadygrad.clip.base import Clipper, WrappingClipper
from steadygrad.clip.gradients import Gradients
from steadygrad.clip.info import ClipInfo
from steadygrad.clip.sharding import Exchange
from steadygrad.errors import InputError

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class Sharded(WrappingClipper):
    """A clipper for parameters that the ranks of a process group share in a way that torch does not know.

    DTensor parameters (``fully_shard``, ``parallelize_module``) and DDP need none of this: every clipper takes them as
    they are. Every rank of the group has to make the call.

    Args:
        clipper: any clipper; ``AdaptiveUnit`` only with ``parts="stages"``.
        group: the ranks that share the parameters, as of ``torch.distributed.new_group``.
        parts: ``"shards"``: each rank passes the same parameters and holds a part of the entries of each;
            ``"stages"``: each rank passes other parameters, whole, as in a pipeline.
        replicated: of shards, the names (shell patterns allowed, ``"*.norm.*"``) of parameters that every rank holds
            whole, with the same gradient. Needs a module or ``(name, tensor)`` pairs.
        error_if_nonfinite: raise on every rank instead of reporting NaN or Inf.

    Raises:
        InputError: an option out of range; ``replicated`` with parameters that have no names, or with stages.

    Example:
        >>> import torch, torch.distributed as dist
        >>> from steadygrad.clip import GlobalNorm
        >>> dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        >>> weight = torch.zeros(2, requires_grad=True)
        >>> weight.grad = torch.tensor([3.0, 4.0])
        >>> info = Sharded(GlobalNorm(1.0), dist.group.WORLD)([weight])
        >>> round(float(info.norm_before), 4), round(float(info.norm_after), 4)
        (5.0, 1.0)
        >>> dist.destroy_process_group()
    """

    def __init__(
        self,
        clipper: Clipper,
        group: ProcessGroup,
        *,
        parts: Literal["shards", "stages"] = "shards",
        replicated: Sequence[str] = (),
        error_if_nonfinite: bool = False,
    ) -> None:
        super().__init__(clipper, error_if_nonfinite=error_if_nonfinite)
        if parts not in ("shards", "stages"):
            raise InputError(f"parts must be 'shards' or 'stages', got {parts!r}")
        if parts == "stages" and replicated:
            raise InputError("Stages hold each parameter once, so none is replicated; drop the option")
        self.group, self._parts = group, parts
        self._replicated = (replicated,) if isinstance(replicated, str) else tuple(replicated)

    def _measure(self, gradients: Gradients, factor: float) -> ClipInfo:
        return self.clipper._measure(self._marked(gradients), factor)

    def _apply(self, gradients: Gradients, info: ClipInfo) -> None:
        self.clipper._apply(self._marked(gradients), info)

    def _marked(self, gradients: Gradients) -> Gradients:
        """The same gradients, with what their norms need."""
        if self._parts == "stages":
            return replace(gradients, stages=self.group)
        if gradients.exchanges:
            raise InputError("Parameters are cut either by hand or as DTensor, but these are both; drop Sharded")
        exchange = Exchange(range(len(gradients.tensors)), self._counted(gradients), [self.group])
        return replace(gradients, exchanges=[exchange], by_hand=True)

    def _counted(self, gradients: Gradients) -> list[bool]:
        """Which parts count on this rank: of equal copies only the first rank's."""
        if not self._replicated or self.group.rank() == 0:
            return [True] * len(gradients.tensors)
        if not gradients.named:
            raise InputError(
                f"replicated={list(self._replicated)} goes by name, but the parameters came without names; "
                f"pass the model or model.named_parameters()"
            )
        return [not any(fnmatchcase(name, p) for p in self._replicated) for name in gradients.names()]

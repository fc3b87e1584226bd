"""The models of a run, and what tells them apart.

The names of ``named_parameters()`` tell where a tensor is as long as there is one model. Where there are several, the
variable of a model comes first: for models whose names clash (two GAN halves that each have a ``body``), and for plain
layers and ``nn.Sequential``, whose names say nothing (``weight``, ``0.weight``).
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn


@dataclass
class Root:
    """An outermost module, the variables that hold it (innermost first), and what its names begin with."""

    module: weakref.ref[nn.Module]
    variables: tuple[str, ...]
    prefix: str = ""


class Roots:
    """The models met so far, without keeping them alive."""

    def __init__(self) -> None:
        self._known: dict[int, Root] = {}

    def get(self, owner: nn.Module) -> Root | None:
        """The root that this module is."""
        found = self._known.get(id(owner))
        return found if found is not None and found.module() is owner else None

    def add(self, owner: nn.Module, variables: tuple[str, ...]) -> Root:
        """Take a model in."""
        self._known = {key: root for key, root in self._known.items() if root.module() is not None}
        root = self._known[id(owner)] = Root(weakref.ref(owner), variables)
        return root

    def living(self) -> Iterator[tuple[nn.Module, Root]]:
        """Models that still exist."""
        for root in list(self._known.values()):
            module = root.module()
            if module is not None:
                yield module, root

    def others(self, owner: nn.Module) -> list[tuple[nn.Module, Root]]:
        """Models beside this one: with parameters, and none of them in common with it."""
        own = {id(p) for p in owner.parameters()}
        beside = [(module, root, {id(p) for p in module.parameters()}) for module, root in self.living()]
        return [(module, root) for module, root, held in beside if own and held and not held & own]

    def variable(self, owner: nn.Module, root: Root) -> str:
        """A variable that holds this model and no other; "" if there is none."""
        shared = {name for _, other in self.others(owner) for name in other.variables}
        return next((name for name in root.variables if name not in shared), "")


def plain(owner: nn.Module) -> bool:
    """Whether the names in a model say nothing by themselves: those of one layer, or of numbered parts."""
    names = [name for name, _ in owner.named_parameters()]
    return all("." not in name for name in names) or any(name.partition(".")[0].isdigit() for name in names)


def clash(one: nn.Module, other: nn.Module) -> bool:
    """Whether two models have a parameter name in common."""
    names = {name for name, _ in one.named_parameters()}
    return any(name in names for name, _ in other.named_parameters())

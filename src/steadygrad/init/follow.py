"""Which activation follows each weight: seen in a run, else in a traced graph, else by the order of registration.

A run on a batch sees everything, functional activations too. Without a batch the model is traced symbolically
(``torch.fx``), which many models do not allow; what is left is the order in which modules were registered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils import parametrize
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from steadygrad.dryrun import Forward, calm, feed, random_state, undisturbed
from steadygrad.init.gains import LINEAR, Activation, function_activation, module_activation
from steadygrad.init.weights import Weight, weights

Origins = frozenset[str]
_NONE: Origins = frozenset()


@dataclass
class Following:
    """What follows each weight by name, how that was found out, and the order in which weights were met."""

    how: str
    after: dict[str, Activation] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)

    def meet(self, name: str) -> None:
        """A weight is used."""
        if name not in self.order:
            self.order.append(name)

    def activate(self, origins: Iterable[str], activation: Activation) -> None:
        """An activation acts on what these weights made; the first one counts."""
        for name in origins:
            self.after.setdefault(name, activation)


def following(
    model: nn.Module | Iterable[nn.Module], *, batch: Any = None, forward: Forward | None = None
) -> Following:
    """Find the activation behind every weight of a model.

    Args:
        model: a module; several modules are read in their order.
        batch: what to call the model on (see :func:`steadygrad.dryrun.feed`); None looks without running it.
        forward: how to call it, where that is not obvious.

    Returns:
        A :class:`Following`; a weight that it does not name is followed by no activation.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.GELU(), nn.Linear(8, 1))
        >>> found = following(net)
        >>> found.how, {name: str(act) for name, act in found.after.items()}
        ('graph', {'0.weight': 'gelu'})
    """
    if not isinstance(model, nn.Module):
        return _by_registration(model)
    if batch is not None:
        return _by_running(model, batch, forward)
    return _by_graph(model) or _by_registration(model)


def _by_registration(model: nn.Module | Iterable[nn.Module]) -> Following:
    found = Following("registration")
    roots = [model] if isinstance(model, nn.Module) else list(model)
    mine: dict[int, list[str]] = {}
    for weight in weights(roots[0] if isinstance(model, nn.Module) else roots, frozen=True):
        mine.setdefault(id(weight.module), []).append(weight.name)
    latest: list[str] = []
    for module in (m for root in roots for m in root.modules()):
        if id(module) in mine:
            latest = mine.pop(id(module))
            for name in latest:
                found.meet(name)
        activation = module_activation(module)
        if activation is not None:
            found.activate(latest, activation)
            latest = []
    return found


class _Tracer(fx.Tracer):
    """Keeps layers and activations whole, as they are torch's; looks into everything else."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_activation(m) is not None or super().is_leaf_module(m, module_qualified_name)


def _by_graph(model: nn.Module) -> Following | None:
    try:
        with random_state(model):
            graph = _Tracer().trace(model)
    except Exception:  # whatever a model does with a value that is none: this way to look is not for it
        return None
    found = Following("graph")
    every = weights(model, frozen=True)
    made: dict[fx.Node, Origins] = {}
    for node in graph.nodes:
        used, activation = _node(node, model, every)
        for name in used:
            found.meet(name)
        origins = _NONE.union(*(made[n] for n in node.all_input_nodes))
        if activation is not None:
            found.activate(origins, activation)
        made[node] = _NONE if activation is not None else frozenset(used) or origins
    return found


def _node(node: fx.Node, model: nn.Module, every: list[Weight]) -> tuple[list[str], Activation | None]:
    """The weights that a node of the graph multiplies by, and the activation that it is."""
    if node.op == "call_module":
        module = model.get_submodule(str(node.target))
        return [w.name for w in every if _owns(module, w)], module_activation(module)
    if node.op not in ("call_function", "call_method"):
        return [], None
    held = [_attribute(model, n) for n in node.all_input_nodes if n.op == "get_attr"]
    used = [w.name for w in every if any(w.tensor is value for value in held)]
    return used, function_activation(node.target, node.args, node.kwargs)


def _owns(module: nn.Module, weight: Weight) -> bool:
    return module is weight.module or any(p is weight.tensor for p in module.parameters(recurse=False))


def _attribute(model: nn.Module, node: fx.Node) -> Any:
    value: Any = model
    for part in str(node.target).split("."):
        value = getattr(value, part)
    return value


def _by_running(model: nn.Module, batch: Any, forward: Forward | None) -> Following:
    found = Following("run")
    with undisturbed(model), torch.no_grad(), parametrize.cached():
        calm(model)
        flow = Flow(weights(model, frozen=True), found)
        with flow:
            feed(model, batch, forward)
    return found


@dataclass(frozen=True, slots=True)
class Use:
    """A call of a function with weights among its arguments."""

    weights: tuple[Weight, ...]
    function: str
    args: tuple[Any, ...]
    call: Callable[[tuple[Any, ...]], Any]

    @property
    def is_product(self) -> bool:
        """Whether it multiplies by one weight, so that fans say what it does to the scale."""
        return self.function in _PRODUCTS and len(self.weights) == 1


class Flow(TorchFunctionMode):
    """Follows tensors from the weights that made them to the activation that acts on them, while a model runs.

    ``on_use`` is called in place of every function that computes with weights, in the order of execution; what it
    returns is the result.
    """

    def __init__(
        self,
        watched: Iterable[Weight],
        found: Following,
        on_use: Callable[[Use], Any] | None = None,
    ) -> None:
        super().__init__()
        self._weights = {id(w.tensor): w for w in watched}
        self._found = found
        self._on_use = on_use
        self._made: dict[int, tuple[Tensor, Origins]] = {}  # the tensor is held, so that its id is not given again

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        used = list({id(t): self._weights[id(t)] for t in inputs if id(t) in self._weights}.values())
        origins = _NONE.union(*(self._made[id(t)][1] for t in inputs if id(t) in self._made))
        activation = function_activation(func, args, kwargs)
        called = getattr(func, "__name__", "")
        if used and called in _LOOKS:
            return self._look(func(*args, **kwargs), used)
        if used and self._on_use is not None:
            out = self._on_use(Use(tuple(used), called, args, lambda changed: func(*changed, **kwargs)))
        else:
            out = func(*args, **kwargs)
        for weight in used:
            self._found.meet(weight.name)
        if activation is not None:
            self._found.activate(origins, activation)
        made = _NONE if activation is not None else frozenset(w.name for w in used) or origins
        for tensor in _outputs(out):
            self._made[id(tensor)] = (tensor, made)
        return out

    def _look(self, out: Any, used: list[Weight]) -> Any:
        """A weight is looked at, or turned: what shares its memory stands for it."""
        if len(used) == 1 and isinstance(out, Tensor) and out.data_ptr() == used[0].tensor.data_ptr():
            self._weights[id(out)] = used[0]
            self._made[id(out)] = (out, _NONE)
        return out


#: Functions that read or turn a tensor without computing with it.
_LOOKS = frozenset({
    "__get__", "dim", "size", "numel", "type", "to", "is_contiguous", "stride", "data_ptr", "detach", "t", "transpose",
    "permute", "view", "unsqueeze", "squeeze",
})  # fmt: skip
#: Functions that multiply by a weight.
_PRODUCTS = frozenset({
    "linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "matmul",
    "__matmul__", "mm", "addmm", "bmm", "einsum", "bilinear",
})  # fmt: skip


def _outputs(out: Any) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor) and leaf.is_floating_point())


def behind(found: Following, weight: Weight) -> Activation:
    """The activation behind a weight; ``linear`` where there is none."""
    return found.after.get(weight.name, LINEAR)

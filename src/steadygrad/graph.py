"""Facts read from the autograd graph of one loss: its depth, its shortcuts, and what the loss was fed.

The graph is only walked, never changed. It tells what no list of modules can: functional calls, residual additions,
weights used many times, parameters the loss does not depend on.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

#: Graphs beyond this are walked in part; the fact says so.
NODE_LIMIT = 50_000

_WEIGHT_OPS = (
    "Addmm",
    "Mm",
    "Bmm",
    "Addmv",
    "Mv",
    "Convolution",
    "Linear",
    "Baddbmm",
    "MkldnnRnn",
    "CudnnRnn",
    "Bilinear",
)
#: What a penalty on a parameter does with it. (A parameter that nothing else reads may be meant for that.)
_PENALTIES = ("Pow", "Abs", "Mul", "Sum", "Norm", "LinalgVectorNorm", "Dot", "View", "Stack", "Cat")
#: Operations that give a column which is meant to be one: ``x[:, None]``, ``x.amax(1, keepdim=True)``.
_KEPT_COLUMNS = ("Unsqueeze", "Sum", "Mean", "Amax", "Amin", "Max", "Min", "Logsumexp", "Norm", "Linalg")  # fmt: skip
_NORM_OPS = ("BatchNorm", "LayerNorm", "GroupNorm", "InstanceNorm", "RmsNorm")


@dataclass
class GraphFacts:
    """What one walk found. Distances count weight operations (matrix products, convolutions) from the loss."""

    nodes: int = 0
    truncated: bool = False
    ops: Counter[str] = field(default_factory=Counter)
    chain: list[str] = field(default_factory=list)  # operation names from the loss inwards, until it branches
    leaves: dict[int, Tensor] = field(default_factory=dict)  # id -> leaf tensor that requires grad
    shortest: dict[int, int] = field(default_factory=dict)  # leaf id -> fewest weight operations to the loss
    longest: dict[int, int] = field(default_factory=dict)
    uses: Counter[int] = field(default_factory=Counter)  # leaf id -> operations that read it
    readers: dict[int, str] = field(default_factory=dict)  # leaf id -> the operation that tells most of its use
    broadcast: str = ""  # a subtraction that pairs every row with every other, if the loss contains one
    norms: int = 0
    outermost: dict[str, Any] = field(default_factory=dict)  # of each kind of operation, the node nearest to the loss
    innermost: dict[str, Any] = field(default_factory=dict)  # ... and the one furthest from it


def op_name(node: Any) -> str:
    """``AddmmBackward0`` -> ``Addmm``."""
    return str(node.name()).split("Backward")[0]


def leaf_of(node: Any) -> Tensor | None:
    """The leaf that a node accumulates into; a script's own autograd functions may have a ``variable`` of any kind."""
    variable = getattr(node, "variable", None)
    return variable if isinstance(variable, Tensor) and op_name(node) == "torch::autograd::AccumulateGrad" else None


def walk(roots: Iterable[Tensor]) -> GraphFacts:
    """Walk the graph behind the given tensors."""
    facts = GraphFacts()
    starts = [t.grad_fn for t in roots if t.grad_fn is not None]
    order, inner = _topological(starts, facts)
    _distances(starts, order, inner, facts)
    facts.chain = _chain(starts)
    facts.broadcast = _broadcast(starts)
    return facts


def _topological(starts: list[Any], facts: GraphFacts) -> tuple[list[Any], dict[Any, list[Any]]]:
    """Nodes from the loss inwards, each after all that read it; and each node's inner neighbours."""
    inner: dict[Any, list[Any]] = {}
    readers: Counter[Any] = Counter()
    queue = deque(starts)
    seen = set(starts)
    while queue:
        node = queue.popleft()
        inner[node] = [n for n, _ in node.next_functions if n is not None]
        for following in inner[node]:
            readers[following] += 1
            if following not in seen:
                if len(seen) >= NODE_LIMIT:
                    facts.truncated = True
                    continue
                seen.add(following)
                queue.append(following)
    order, ready = [], deque(n for n in dict.fromkeys(starts) if not readers[n])
    while ready:
        node = ready.popleft()
        order.append(node)
        for following in inner.get(node, ()):
            readers[following] -= 1
            if readers[following] == 0 and following in inner:
                ready.append(following)
    facts.nodes = len(seen)
    return order, inner


def _distances(starts: list[Any], order: list[Any], inner: dict[Any, list[Any]], facts: GraphFacts) -> None:
    near: dict[Any, int] = dict.fromkeys(starts, 0)
    far: dict[Any, int] = dict.fromkeys(starts, 0)
    for node in order:
        name = op_name(node)
        facts.ops[name] += 1
        facts.outermost.setdefault(name, node)
        facts.innermost[name] = node
        facts.norms += any(norm in name for norm in _NORM_OPS)
        variable = leaf_of(node)
        if variable is not None:
            facts.leaves[id(variable)] = variable
            facts.shortest[id(variable)] = near[node]
            facts.longest[id(variable)] = far[node]
        step = int(name.startswith(_WEIGHT_OPS))
        for following in inner.get(node, ()):
            near[following] = min(near.get(following, 1 << 30), near[node] + step)
            far[following] = max(far.get(following, 0), far[node] + step)
            leaf = leaf_of(following)
            if leaf is not None:
                facts.uses[id(leaf)] += 1
                facts.readers[id(leaf)] = max(name, facts.readers.get(id(leaf), name), key=_telling)


def _telling(reader: str) -> int:
    """How much an operation that reads a parameter says of its use: a penalty on it, next to nothing."""
    return 0 if reader.startswith(_PENALTIES) else 1 if reader == "T" else 2


def _chain(starts: list[Any], limit: int = 8) -> list[str]:
    names: list[str] = []
    node = starts[0] if starts else None
    while node is not None and len(names) < limit:
        names.append(op_name(node))
        following = [n for n, _ in node.next_functions if n is not None and leaf_of(n) is None]
        node = following[0] if len(following) == 1 else None
    return names


def _broadcast(starts: list[Any], limit: int = 64) -> str:
    """``[32, 1] against [32]``: a network output of one column minus a vector gives a square, not a column.

    Looked for in what the script computes after its last layer, with branches (``torch.where``, a sum of terms).
    """
    queue, seen = deque(starts[:1]), set(starts[:1])
    while queue and len(seen) <= limit:
        node = queue.popleft()
        following = [n for n, _ in node.next_functions if n is not None]
        if len(following) == 1 and _squares_column(node, following[0]):
            return f"{list(_shape(following[0]))} against [{_shape(node)[0]}]"
        inner = [n for n in following if n not in seen and not op_name(node).startswith(_WEIGHT_OPS)]
        seen.update(inner)
        queue.extend(inner)
    return ""


def _squares_column(node: Any, inner: Any) -> bool:
    """A difference of ``[n, n]`` made of ``[n, 1]`` and of data; columns made for it on purpose are left alone."""
    out, before = _shape(node), _shape(inner)
    square = len(out) == 2 and out[0] == out[1] > 1 and before == (out[0], 1)
    return square and op_name(node) in ("Sub", "Rsub") and not op_name(inner).startswith(_KEPT_COLUMNS)


def _shape(node: Any) -> tuple[int, ...]:
    metadata = getattr(node, "_input_metadata", None)
    return tuple(int(d) for d in metadata[0].shape) if metadata else ()


def saved(node: Any, attribute: str) -> Any:
    """A tensor that an operation saved for its backward; None where it is gone or was changed in place since."""
    try:
        return getattr(node, attribute)
    except (RuntimeError, AttributeError):
        return None


def divisor(loss: Tensor) -> float:
    """By which number above 1 a loss was divided last of all, before any loss scale; 1 where it was not."""
    node = loss.grad_fn
    for _ in range(3):
        other = saved(node, "_saved_other") if node is not None and op_name(node) in ("Div", "Mul") else None
        if node is None or not isinstance(other, Tensor) or other.numel() != 1:
            break
        number = float(other)
        if op_name(node) == "Div" and number > 1:
            return number
        if op_name(node) == "Mul" and 0 < number < 1:
            return round(1 / number, 6)
        node = node.next_functions[0][0]
    return 1.0


def data_inputs(facts: GraphFacts) -> list[Tensor]:
    """Tensors that enter the first products as plain data, for scripts whose inputs pass through no module."""
    found = []
    for name, attribute in (("Mm", "_saved_self"), ("Addmm", "_saved_mat1"), ("Mv", "_saved_self")):
        node = facts.innermost.get(name)
        value = saved(node, attribute) if node is not None else None
        if isinstance(value, Tensor) and not value.requires_grad:
            found.append(value)
    return found

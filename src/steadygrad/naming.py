"""Names for what a script trains: the parameter table and the site table.

A name is what ``named_parameters()`` and ``named_modules()`` of the script's own model give. Where the model itself is
never called (only ``model.encoder`` is), its owner is looked for among the variables of the calling frames; a tensor
outside every module is named after the variable that holds it.
"""

from __future__ import annotations

import math
import os
import sys
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import FrameType

import torch
from torch import Tensor, nn

from steadygrad import stats
from steadygrad.records import ParameterInfo, SiteInfo

_OURS = os.path.dirname(__file__)
_FOREIGN = (_OURS, os.path.dirname(torch.__file__), "<", os.path.dirname(os.__file__))

ACTIVATION_TYPES = {
    "ReLU": "relu", "ReLU6": "relu", "LeakyReLU": "leaky_relu", "PReLU": "leaky_relu", "RReLU": "leaky_relu",
    "ELU": "elu", "SELU": "selu", "CELU": "elu", "GELU": "gelu", "SiLU": "silu", "Mish": "silu", "Softplus": "softplus",
    "Hardswish": "silu", "Sigmoid": "sigmoid", "Hardsigmoid": "sigmoid", "LogSigmoid": "sigmoid", "Tanh": "tanh",
    "Hardtanh": "tanh", "Softsign": "tanh", "Softmax": "softmax", "LogSoftmax": "softmax", "GLU": "sigmoid",
}  # fmt: skip
_KINDS: tuple[tuple[str, tuple[type, ...]], ...] = (
    ("linear", (nn.Linear, nn.Bilinear)),
    ("conv", (nn.modules.conv._ConvNd,)),
    ("recurrent", (nn.RNNBase, nn.RNNCellBase)),
    ("embedding", (nn.Embedding, nn.EmbeddingBag)),
    ("attention", (nn.MultiheadAttention,)),
    ("dropout", (nn.modules.dropout._DropoutNd,)),
    ("loss", (nn.modules.loss._Loss,)),
)


def user_frame(depth: int = 1) -> FrameType | None:
    """The innermost frame of the user's own code: not ours, not torch's, not the standard library's."""
    frame: FrameType | None = sys._getframe(depth)
    while frame is not None and frame.f_code.co_filename.startswith(_FOREIGN):
        if "site-packages" in frame.f_code.co_filename and not frame.f_code.co_filename.startswith(_FOREIGN):
            break
        frame = frame.f_back
    return frame


def module_kind(module: nn.Module) -> str:
    """The family of a module, for rules that depend on it."""
    for kind, types in _KINDS:
        if isinstance(module, types):
            return kind
    name = type(module).__name__
    if name in ACTIVATION_TYPES:
        return "activation"
    return "norm" if "Norm" in name and not list(module.children()) else "other"


def fan_in_of(module: nn.Module | None, tensor: Tensor) -> int:
    """Number of inputs that each output sums over; 0 for vectors. Grouped and transposed convolutions included."""
    if tensor.dim() < 2:
        return 0
    field = math.prod(tensor.shape[2:])
    if isinstance(module, nn.modules.conv._ConvTransposeNd):
        return max(1, tensor.shape[0] * field // (module.groups * math.prod(module.stride)))
    if module_kind(module) == "other" if module is not None else True:
        return int(tensor.shape[-2])  # a bare matrix is used as x @ w
    return int(tensor.shape[1] * field)


def parameter_role(module: nn.Module | None, leaf: str, tensor: Tensor) -> str:
    """weight, bias, norm, embedding, recurrent or other."""
    kind = module_kind(module) if module is not None else "other"
    if kind == "norm":
        return "norm"
    if kind == "embedding":
        return "embedding"
    if "weight_hh" in leaf:
        return "recurrent"
    if "bias" in leaf or tensor.dim() < 2:
        return "bias" if "bias" in leaf or tensor.dim() == 1 else "other"
    if "emb" in leaf or leaf.startswith("pos"):
        return "embedding"
    return "weight"


class Registry:
    """Gives every parameter and module site an index and a name, once, without keeping models alive."""

    def __init__(self, on_parameters: Callable[[list[ParameterInfo]], None], on_sites: Callable[[list[SiteInfo]], None]):
        self.parameters: list[ParameterInfo] = []
        self.sites: list[SiteInfo] = []
        self._on_parameters = on_parameters
        self._on_sites = on_sites
        self._tensor_index: dict[int, tuple[weakref.ref[Tensor], int]] = {}
        self._module_name: dict[int, tuple[weakref.ref[nn.Module], str]] = {}
        self._site_index: dict[tuple[int, str], int] = {}
        self._roots: dict[int, weakref.ref[nn.Module]] = {}
        self._live_sites: dict[tuple[int, str], weakref.ref[nn.Module]] = {}

    # -- modules ------------------------------------------------------------------------------------------------

    def knows(self, module: nn.Module) -> bool:
        """Whether the module's name has been settled."""
        entry = self._module_name.get(id(module))
        return entry is not None and entry[0]() is module

    def add_root(self, module: nn.Module, frame: FrameType | None) -> None:
        """Register an outermost module with everything in it, under the largest module that owns it."""
        owner, variable = find_owner(module, frame)
        prefix = self._prefix(owner, variable)
        self._roots[id(owner)] = weakref.ref(owner)
        for name, child in owner.named_modules(remove_duplicate=True):
            self._module_name[id(child)] = (weakref.ref(child), prefix + name if name else prefix.rstrip("."))
        known = len(self.parameters)
        for name, parameter in owner.named_parameters():
            if self.index_of(parameter) is None:
                holder, _, leaf = name.rpartition(".")
                self._add(prefix + name, prefix + holder, leaf, parameter, owner.get_submodule(holder))
        if len(self.parameters) != known:
            self._measure_new(known)
            self._on_parameters(self.parameters)

    def refresh(self) -> None:
        """Look at the known models again: the script may have replaced a layer."""
        for ref in list(self._roots.values()):
            root = ref()
            if root is not None:
                self.add_root(root, None)

    def _prefix(self, owner: nn.Module, variable: str) -> str:
        """Names are plain for one model; a further living model with clashing names gets its variable's name."""
        names = {name for name, _ in owner.named_parameters()}
        others = [r() for key, r in self._roots.items() if key != id(owner)]
        for other in others:
            if other is not None and names & {name for name, _ in other.named_parameters()}:
                return variable + "." if variable else f"{type(owner).__name__}."
        return ""

    def name_of(self, module: nn.Module) -> str:
        """Dotted name, or the class name for a module outside every known root."""
        entry = self._module_name.get(id(module))
        return entry[1] if entry and entry[0]() is module else type(module).__name__

    def site(self, module: nn.Module, function: str = "") -> int:
        """Index of a module, or of a functional activation called directly inside it."""
        key = (id(module), function)
        ref = self._live_sites.get(key)
        if ref is not None and ref() is module:
            return self._site_index[key]
        index = len(self.sites)
        name, kind, activation = self.name_of(module), module_kind(module), ""
        if function:
            name, kind, activation = f"{name}:{function}" if name else function, "activation", function.split("#")[0]
        elif kind == "activation":
            activation = ACTIVATION_TYPES[type(module).__name__]
        held = [] if function else [self.index_of(p) for p in module.parameters(recurse=False)]
        params = tuple(i for i in held if i is not None)
        self.sites.append(SiteInfo(index, name, function or type(module).__name__, kind, activation, params))
        self._site_index[key] = index
        self._live_sites[key] = weakref.ref(module)
        self._on_sites(self.sites)
        return index

    # -- parameters ---------------------------------------------------------------------------------------------

    def index_of(self, parameter: Tensor) -> int | None:
        """Row of a parameter, or None when it has not been seen."""
        entry = self._tensor_index.get(id(parameter))
        return entry[1] if entry is not None and entry[0]() is parameter else None

    def tensor(self, index: int) -> Tensor | None:
        """The living parameter of a row."""
        for ref, row in self._tensor_index.values():
            if row == index:
                return ref()
        return None

    def living(self) -> Iterator[tuple[int, Tensor]]:
        """Rows whose parameter still exists."""
        for ref, row in list(self._tensor_index.values()):
            parameter = ref()
            if parameter is not None:
                yield row, parameter

    def add_loose(self, parameters: list[Tensor], frame: FrameType | None) -> None:
        """Register tensors that belong to no known module, named after the variables that hold them."""
        known = len(self.parameters)
        for parameter in parameters:
            if self.index_of(parameter) is None:
                name = self._unregistered_name(parameter) or variable_name(parameter, frame)
                name = name or f"parameter_{len(self.parameters)}"
                self._add(name, "", name, parameter, None)
        if len(self.parameters) != known:
            self._measure_new(known)
            self._on_parameters(self.parameters)

    def _unregistered_name(self, parameter: Tensor) -> str:
        """``blocks.0.weight`` for a module kept in a plain list or dict, where ``named_parameters()`` does not see it."""
        for ref, prefix in list(self._module_name.values()):
            owner = ref()
            for attribute, value in list(vars(owner).items()) if owner is not None else ():
                if attribute.startswith("_") or not isinstance(value, list | tuple | dict):
                    continue
                for key, child in value.items() if isinstance(value, dict) else enumerate(value):
                    path = ".".join(str(part) for part in (prefix, attribute, key) if part != "")
                    if child is parameter:
                        return path
                    if isinstance(child, nn.Module):
                        for name, held in child.named_parameters():
                            if held is parameter:
                                return f"{path}.{name}"
        return ""

    def assign(self, parameters: list[Tensor], stream: int, weight_decays: list[float]) -> None:
        """Note which optimizer trains which parameters, and with what weight decay."""
        for parameter, decay in zip(parameters, weight_decays, strict=True):
            index = self.index_of(parameter)
            if index is not None:
                self.parameters[index] = replace(
                    self.parameters[index], optimizer=stream, weight_decay=decay, trainable=parameter.requires_grad
                )
        self._on_parameters(self.parameters)

    def _add(self, name: str, module_name: str, leaf: str, parameter: Tensor, module: nn.Module | None) -> None:
        index = len(self.parameters)
        self._tensor_index[id(parameter)] = (weakref.ref(parameter), index)
        self.parameters.append(
            ParameterInfo(
                index=index,
                name=name,
                shape=tuple(parameter.shape),
                dtype=str(parameter.dtype).removeprefix("torch."),
                role=parameter_role(module, leaf, parameter),
                module=module_name.rstrip("."),
                module_type=type(module).__name__ if module is not None else "",
                trainable=parameter.requires_grad,
                fan_in=fan_in_of(module, parameter),
            )
        )

    def _measure_new(self, start: int) -> None:
        rows = [(row, p) for row, p in self.living() if row >= start and p.device.type != "meta" and p.numel()]
        lazy = nn.parameter.UninitializedTensorMixin
        rows = [(row, p) for row, p in rows if not isinstance(p, lazy)]
        if not rows:
            return
        norms = stats.moments([p for _, p in rows])[:, 1].tolist()
        for (row, p), norm in zip(rows, norms, strict=True):
            self.parameters[row] = replace(self.parameters[row], init_rms=norm / math.sqrt(p.numel()))


def frame_variables(frame: FrameType | None, levels: int = 8) -> Iterator[tuple[str, object]]:
    """Variables visible from a frame outwards: locals of the user's frames, then the globals of each."""
    seen_globals: list[dict[str, object]] = []
    for _ in range(levels):
        if frame is None:
            break
        if not frame.f_code.co_filename.startswith(_FOREIGN):
            yield from list(frame.f_locals.items())
            if frame.f_globals not in seen_globals[:0] and all(g is not frame.f_globals for g in seen_globals):
                seen_globals.append(frame.f_globals)
        frame = frame.f_back
    for scope in seen_globals:
        yield from list(scope.items())


def find_owner(module: nn.Module, frame: FrameType | None) -> tuple[nn.Module, str]:
    """The largest module in reach that contains ``module``, and the variable it is held in."""
    best, best_name, best_size = module, "", -1
    for name, value in frame_variables(frame):
        if not isinstance(value, nn.Module):
            continue
        members = list(value.modules())
        if len(members) > best_size and any(m is module for m in members):
            best, best_name, best_size = value, name, len(members)
    return best, best_name


def variable_name(tensor: Tensor, frame: FrameType | None) -> str:
    """The variable (or list element, or dict entry) that holds the tensor, as the user would write it."""
    for name, value in frame_variables(frame):
        if value is tensor:
            return name
        if isinstance(value, list | tuple) and len(value) < 1000:
            for i, element in enumerate(value):
                if element is tensor:
                    return f"{name}[{i}]"
        elif isinstance(value, dict) and len(value) < 1000:
            for key, element in value.items():
                if element is tensor:
                    return f"{name}[{key!r}]"
        elif hasattr(value, "__dict__") and not isinstance(value, type | nn.Module) and not callable(value):
            for key, element in list(vars(value).items()):
                if element is tensor:
                    return f"{name}.{key}"
    return ""

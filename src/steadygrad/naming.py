"""Names for what a script trains: the parameter table and the site table.

A name is what ``named_parameters()`` and ``named_modules()`` of the script's own model give, after the model's variable
where that alone does not tell which of several models is meant. Where the model itself is never called (only
``model.encoder`` is), its owner is looked for among the variables of the calling frames; a tensor outside every module
is named after the variable that holds it.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import FrameType

from torch import Tensor, nn
from torch.nn.parameter import UninitializedTensorMixin  # type: ignore[attr-defined]

from steadygrad import stats
from steadygrad.frames import find_owner, frame_modules, variable_name, variables_of
from steadygrad.kinds import ACTIVATION_TYPES, fan_in_of, module_kind, parameter_role
from steadygrad.records import ParameterInfo, SiteInfo
from steadygrad.roots import Roots, clash, plain

#: Tables longer than this give the rows of what no longer exists to its like: models may be built a thousand times.
FULL = 4096
#: How often the variables in reach are searched for the module that a tensor belongs to.
_SEARCHES = 64


class Registry:
    """Gives every parameter and module site an index and a name, once, without keeping models alive."""

    def __init__(
        self, on_parameters: Callable[[list[ParameterInfo]], None], on_sites: Callable[[list[SiteInfo]], None]
    ):
        self._forget_all()
        #: Whether functional activations are looked for: switched off once a model is seen to use none.
        self.watch_functions = True
        #: Whether parameters are spread over processes.
        self.sharded = False
        self._on_parameters = on_parameters
        self._on_sites = on_sites
        self._searches = self._bare = 0

    def _forget_all(self) -> None:
        self.parameters: list[ParameterInfo] = []
        self.sites: list[SiteInfo] = []
        self._row: dict[int, int] = {}  # id of a parameter -> its row
        self._tensors: list[weakref.ref[Tensor]] = []  # row -> parameter
        self._rows_named: dict[str, int] = {}
        self._module_name: dict[int, tuple[weakref.ref[nn.Module], str]] = {}
        self._site_index: dict[tuple[int, str], int] = {}
        self._site_modules: list[weakref.ref[nn.Module]] = []  # site -> module
        self._sites_named: dict[tuple[str, str], list[int]] = {}
        self._roots = Roots()

    # -- modules ------------------------------------------------------------------------------------------------

    def knows(self, module: nn.Module) -> bool:
        """Whether the module's name has been settled."""
        entry = self._module_name.get(id(module))
        return entry is not None and entry[0]() is module

    def add_root(self, module: nn.Module, frame: FrameType | None) -> bool:
        """Register an outermost module with everything in it, under the largest module that owns it.

        Returns whether it was: not a module without parameters that no variable holds.
        """
        bare = next(module.parameters(), None) is None  # a loss or an activation, perhaps made anew at every step
        self._bare += bare
        if bare and self._bare > _SEARCHES:
            return False
        self.watch_functions = True
        owner, variable = find_owner(module, frame)
        if bare and not variable:
            return False
        root = self._roots.get(owner)
        if root is None:
            variables = tuple(dict.fromkeys([variable, *variables_of(owner, frame)])) if variable else ()
            variables = tuple(name for name in variables if name != "self")  # which every model is, in its own methods
            root = self._roots.add(owner, variables)
            root.prefix = self._prefix(owner, next(iter(variables), ""), self._tell_apart(owner))
        prefix = root.prefix
        self._name_modules(owner, prefix)
        self._add_all(owner, prefix)
        return True

    def _name_modules(self, owner: nn.Module, prefix: str) -> None:
        if len(self._module_name) > FULL:
            self._module_name = {key: entry for key, entry in self._module_name.items() if entry[0]() is not None}
        for name, child in owner.named_modules(remove_duplicate=True):
            self._module_name[id(child)] = (weakref.ref(child), prefix + name if name else prefix.rstrip("."))

    def _add_all(self, owner: nn.Module, prefix: str) -> None:
        added, modules = [], dict(owner.named_modules(remove_duplicate=False))
        model = prefix.rstrip(".")
        for name, parameter in owner.named_parameters():
            lazy = isinstance(parameter, UninitializedTensorMixin)
            if not lazy and self.index_of(parameter) is None:
                holder = name.rpartition(".")[0]
                module = modules.get(holder, owner)
                added.append(self._add(prefix + name, parameter, module, holder=prefix + holder, model=model))
        self._publish(added)

    def refresh(self) -> None:
        """Look at the known models again: the script may have replaced a layer, or a lazy one has met its data."""
        for root, _ in list(self._roots.living()):
            self.add_root(root, None)

    def start_anew(self, trained: list[Tensor]) -> None:
        """Forget all models but those that hold some of these parameters. Only while nothing has been recorded."""
        wanted, known = {id(p) for p in trained}, list(self._roots.living())
        kept = [(module, root) for module, root in known if any(id(p) in wanted for p in module.parameters())]
        if len(kept) == len(known) or not self.parameters:
            return
        self._forget_all()
        self._on_parameters(self.parameters)
        self._on_sites(self.sites)
        for module, before in kept:
            root = self._roots.add(module, before.variables)
            root.prefix = self._prefix(module, next(iter(before.variables), ""), self._tell_apart(module))
            self.add_root(module, None)

    def _tell_apart(self, owner: nn.Module) -> str:
        """The variable that tells a new model from others, if it must; the others get theirs if they must.

        Beside a frozen one (a teacher, a copy) they need none: what is found is never its fault.
        """
        root, others = self._roots.get(owner), self._roots.others(owner)
        assert root is not None
        for module, other in others if any(p.requires_grad for p in owner.parameters()) else ():
            variable = self._roots.variable(module, other)
            if not other.prefix and variable and (plain(module) or clash(module, owner)):
                self._rename(module, variable + ".")
                other.prefix = variable + "."
        unclear = others and (plain(owner) or any(clash(owner, module) for module, _ in others))
        return self._roots.variable(owner, root) if unclear else ""

    def _prefix(self, owner: nn.Module, variable: str, telling: str) -> str:
        """Names are plain for one model; one of several may need its variable's, and one of a list has it anyway."""
        if variable.endswith("]"):
            return variable + "."
        names = [name for name, _ in owner.named_parameters()]
        kind = type(owner).__name__
        held = [f"{name}." for name in (telling, variable) if name]
        choices = [*([] if telling else [""]), *held, kind + ".", *(f"{kind}_{i}." for i in range(2, 100))]
        return next((prefix for prefix in choices if not any(self._taken(prefix + name) for name in names)), kind + ".")

    def _rename(self, owner: nn.Module, prefix: str) -> None:
        """Put a prefix before all names of a model that had none."""
        for name, parameter in owner.named_parameters():
            row = self.index_of(parameter)
            if row is not None and self.parameters[row].name == name:
                info = self.parameters[row]
                del self._rows_named[name]
                self._rows_named[prefix + name] = row
                module = (prefix + info.module).rstrip(".")
                self.parameters[row] = replace(info, name=prefix + name, module=module, model=prefix.rstrip("."))
        self._name_modules(owner, prefix)
        held = {id(module) for module in owner.modules()}
        for (key, function), index in self._site_index.items():
            module_of_site = self._site_modules[index]()
            if key in held and module_of_site is not None and id(module_of_site) == key:
                self._rename_site(index, self._site_name(self.name_of(module_of_site), function))
        self._on_parameters(self.parameters)
        self._on_sites(self.sites)

    def _rename_site(self, index: int, name: str) -> None:
        site = self.sites[index]
        self._sites_named[site.name, site.type].remove(index)
        self._sites_named.setdefault((name, site.type), []).append(index)
        self.sites[index] = replace(site, name=name)

    @staticmethod
    def _site_name(module: str, function: str) -> str:
        return f"{module}:{function}" if module and function else module or function

    def _taken(self, name: str) -> bool:
        row = self._rows_named.get(name)
        return row is not None and self._tensors[row]() is not None

    def name_of(self, module: nn.Module) -> str:
        """Dotted name, or the class name for a module outside every known root."""
        entry = self._module_name.get(id(module))
        return entry[1] if entry and entry[0]() is module else type(module).__name__

    def site(self, module: nn.Module, function: str = "") -> int:
        """Index of a module, or of a functional activation called directly inside it."""
        key = (id(module), function)
        index = self._site_index.get(key)
        if index is not None and self._site_modules[index]() is module:
            return index
        name, kind, activation = self.name_of(module), module_kind(module), ""
        if function:
            name, kind, activation = self._site_name(name, function), "activation", function
        elif kind == "activation":
            activation = ACTIVATION_TYPES[type(module).__name__]
        activation = activation.partition("#")[0]
        label = function or type(module).__name__
        index = self._vacant_site(module, name, label)
        if index is None:
            index = len(self.sites)
            held = [] if function else [self.index_of(p) for p in module.parameters(recurse=False)]
            params = tuple(i for i in held if i is not None)
            self.sites.append(SiteInfo(index, name, label, kind, activation, params))
            self._site_modules.append(weakref.ref(module))
            self._sites_named.setdefault((name, label), []).append(index)
            self._on_sites(self.sites)
        self._site_modules[index] = weakref.ref(module)
        self._site_index[key] = index
        return index

    def _vacant_site(self, module: nn.Module, name: str, label: str) -> int | None:
        """The row of a like module that is gone: some scripts make their activations anew at every step."""
        if self.knows(module) and len(self.sites) < FULL:
            return None
        rows = self._sites_named.get((name, label), ())
        return next((row for row in rows if self._site_modules[row]() is None), None)

    # -- parameters ---------------------------------------------------------------------------------------------

    def index_of(self, parameter: Tensor) -> int | None:
        """Row of a parameter, or None when it has not been seen."""
        row = self._row.get(id(parameter))
        return row if row is not None and self._tensors[row]() is parameter else None

    def reference(self, row: int) -> weakref.ref[Tensor]:
        """The parameter of a row, without keeping it alive."""
        return self._tensors[row]

    def living(self) -> Iterator[tuple[int, Tensor]]:
        """Rows whose parameter still exists."""
        for row, ref in enumerate(list(self._tensors)):
            parameter = ref()
            if parameter is not None:
                yield row, parameter

    def add_loose(self, parameters: list[Tensor], frame: FrameType | None) -> None:
        """Register what is not known yet: the modules in reach that hold it, else under the variable that does."""
        unknown = [p for p in parameters if self.index_of(p) is None]
        if unknown:
            self.refresh()
            self._add_owners(unknown, frame)
            unknown = [p for p in unknown if self.index_of(p) is None]
        added = []
        for parameter in unknown:
            if not isinstance(parameter, UninitializedTensorMixin):
                name = self._unregistered_name(parameter) or variable_name(parameter, frame)
                name = name or f"parameter_{len(self.parameters)}"
                added.append(self._add(name, parameter, None))
        self._publish(added)

    def _unregistered_name(self, parameter: Tensor) -> str:
        """``blocks.0.weight``: in a module kept in a plain list or dict, which ``named_parameters()`` does not see."""
        for ref, prefix in list(self._module_name.values()):
            owner = ref()
            for attribute, value in list(vars(owner).items()) if owner is not None else ():
                if attribute.startswith("_") or not isinstance(value, list | tuple | dict):
                    continue
                for key, child in list(value.items()) if isinstance(value, dict) else enumerate(value):
                    path = ".".join(str(part) for part in (prefix, attribute, key) if part != "")
                    if child is parameter:
                        return path
                    inner = child.named_parameters() if isinstance(child, nn.Module) else ()
                    for name, held in inner:
                        if held is parameter:
                            return f"{path}.{name}"
        return ""

    def _add_owners(self, unknown: list[Tensor], frame: FrameType | None) -> None:
        if self._searches > _SEARCHES:
            return
        self._searches += 1
        wanted = {id(p) for p in unknown}
        for _, module in list(frame_modules(frame)):
            if not self.knows(module) and any(id(p) in wanted for p in module.parameters()):
                self.add_root(module, frame)

    def assign(self, parameters: list[Tensor], stream: int, weight_decays: list[float]) -> None:
        """Note which optimizer trains which parameters, and with what weight decay."""
        changed = False
        for parameter, decay in zip(parameters, weight_decays, strict=True):
            index = self.index_of(parameter)
            if index is not None:
                old = self.parameters[index]
                new = replace(old, optimizer=stream, weight_decay=decay, trainable=parameter.requires_grad)
                changed |= new != old
                self.parameters[index] = new
        if changed:
            self._on_parameters(self.parameters)

    def _add(
        self,
        name: str,
        parameter: Tensor,
        module: nn.Module | None,
        *,
        holder: str = "",
        model: str = "",
    ) -> tuple[int, Tensor] | None:
        """The parameter's new row; None where it takes over the row of a tensor that the script replaced."""
        old = self._vacant_row(name, parameter, module)
        if old is not None:
            self._tensors[old] = weakref.ref(parameter)
            self._row[id(parameter)] = old
            return None
        index = len(self.parameters)
        self._row[id(parameter)] = self._rows_named[name] = index
        self._tensors.append(weakref.ref(parameter))
        info = ParameterInfo(
            index=index,
            name=name,
            shape=tuple(parameter.shape),
            dtype=str(parameter.dtype).removeprefix("torch."),
            role=parameter_role(module, name.rpartition(".")[2] if module is not None else name, parameter),
            module=holder.rstrip("."),
            module_type=type(module).__name__ if module is not None else "",
            trainable=parameter.requires_grad,
            fan_in=fan_in_of(module, parameter),
            model=model,
        )
        self.parameters.append(info)
        return index, parameter

    def _vacant_row(self, name: str, parameter: Tensor, module: nn.Module | None) -> int | None:
        row = self._rows_named.get(name)
        if row is None or self.parameters[row].shape != tuple(parameter.shape):
            return None
        if module is None:  # ``w = (w - rate * g).requires_grad_()``: the variable's tensor is a new one at every step
            return row if not self.parameters[row].module_type else None
        return row if len(self.parameters) >= FULL and self._tensors[row]() is None else None

    def _publish(self, added: list[tuple[int, Tensor] | None]) -> None:
        rows = [entry for entry in added if entry is not None]
        self.sharded = self.sharded or any(stats.sharded(p) for _, p in rows)
        parts = [(row, stats.local(p)) for row, p in rows]
        real = [(row, p) for row, p in parts if not p.is_meta and p.numel()]
        norms = stats.moments([p for _, p in real])[:, 1].tolist() if real else []
        for (row, p), norm in zip(real, norms, strict=True):
            self.parameters[row] = replace(self.parameters[row], init_rms=norm / math.sqrt(p.numel()))
        if len(self._row) > 2 * len(self.parameters) + FULL:
            self._row = {id(p): row for row, p in self.living()}
        if rows:
            self._on_parameters(self.parameters)

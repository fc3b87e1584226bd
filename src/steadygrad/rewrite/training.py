"""The parts of a training loop as they are written: optimizers, backward passes, steps, clips, schedules."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import libcst as cst

from steadygrad.rewrite.hints import Hints, split_place
from steadygrad.rewrite.names import Names, argument, dotted, method, receiver
from steadygrad.rewrite.script import Refused, Script

_SCHEDULE = re.compile(r"sched|warm", re.IGNORECASE)
_CLIPS = ("clip_grad_norm_", "clip_grad_value_", "clip_grad_norm")


@dataclass(frozen=True)
class Built:
    """An optimizer where it is made: its class, the variable it is kept in (may be empty), and where that is set."""

    call: cst.Call
    name: str
    type: str
    kept: cst.CSTNode


@dataclass(frozen=True)
class Step:
    """A line that updates: ``optimizer.step()`` or ``scaler.step(optimizer)``."""

    call: cst.Call
    optimizer: str
    scaler: str = ""
    closure: str = ""


class Training:
    """Finds the parts of the loop, with the lines a run has seen where a name alone does not tell."""

    def __init__(self, script: Script, names: Names, hints: Hints, path: str) -> None:
        self._script, self._names = script, names
        self._file = path.replace("\\", "/").rpartition("/")[2]
        self._seen = self._lines(hints, "optimizer")
        self._elsewhere = [p for p in hints.sources.get("optimizer", ()) if split_place(p)[0] != self._file]
        self.schedulers = set(self._made("torch.optim.lr_scheduler."))
        self.scalers = {name for name in self._assigned() if self._is_scaler(name)}
        self.optimizers = list(self._optimizers())
        self.steps = list(self._steps())
        self.backwards = [call for call in script.find(cst.Call) if method(call) in ("backward", "manual_backward")]

    # -- optimizers ---------------------------------------------------------------------------------------------

    def _lines(self, hints: Hints, what: str) -> set[int]:
        pairs = map(split_place, hints.sources.get(what, ()))
        return {line for name, line in pairs if name == self._file}

    def _optimizers(self) -> Iterator[Built]:
        taken: set[int] = set()
        for call in self._script.find(cst.Call):
            name = self._names.of(call.func)
            known = name.startswith("torch.optim.") and "lr_scheduler" not in name
            line = self._script.line(call)
            seen = line in self._seen and line not in taken and self._is_given_parameters(call)
            if (known and name.rpartition(".")[2][:1].isupper()) or seen:
                taken.add(line)
                outer = self._returned_to(call)
                yield Built(call, self._kept_in(outer), name.rpartition(".")[2] or dotted(call.func), outer)

    def _returned_to(self, call: cst.Call) -> cst.Call:
        """The only call of the function that returns the optimizer, else the call itself."""
        function = self._script.function(call)
        if function is None or not isinstance(self._script.parent(call), cst.Return):
            return call
        outer = [c for c in self._script.find(cst.Call) if dotted(c.func) == function.name.value]
        return outer[0] if len(outer) == 1 else call

    def _is_given_parameters(self, call: cst.Call) -> bool:
        return bool(call.args) and ("param" in self._script.text(call.args[0]) or argument(call, "lr") is not None)

    def _kept_in(self, call: cst.CSTNode) -> str:
        """The variable that a value is assigned to directly."""
        above = self._script.parent(call)
        if isinstance(above, cst.Assign) and len(above.targets) == 1:
            return self._script.text(above.targets[0].target)
        return self._script.text(above.target) if isinstance(above, cst.AnnAssign) else ""

    def need_optimizers(self) -> list[Built]:
        """The optimizers that are built in this file."""
        if not self.optimizers:
            where = f"; the run saw one built at {self._elsewhere[0]}" if self._elsewhere else ""
            raise Refused(f"no optimizer is built in this file{where}")
        return self.optimizers

    # -- steps --------------------------------------------------------------------------------------------------

    def _assigned(self) -> dict[str, cst.BaseExpression]:
        found = {}
        for assign in self._script.find(cst.Assign):
            for target in assign.targets:
                found[self._script.text(target.target)] = assign.value
        return found

    def _made(self, prefix: str) -> Iterator[str]:
        for name, value in self._assigned().items():
            if isinstance(value, cst.Call) and self._names.of(value.func).startswith(prefix):
                yield name

    def _is_scaler(self, name: str) -> bool:
        value = self._assigned()[name]
        values = [value, value.body, value.orelse] if isinstance(value, cst.IfExp) else [value]
        return any(isinstance(v, cst.Call) and dotted(v.func).endswith("GradScaler") for v in values)

    def _steps(self) -> Iterator[Step]:
        calls = [call for call in self._script.find(cst.Call) if method(call) == "step"]
        found = [step for call in calls if (step := self._step(call)) is not None]
        named = {built.name for built in self.optimizers}
        certain = [s for s in found if s.optimizer in named or s.scaler or "opt" in s.optimizer.lower()]
        yield from certain or [s for s in found if self._follows_backward(s.call)]

    def _step(self, call: cst.Call) -> Step | None:
        source = self._script.text(receiver(call))
        if source in self.schedulers or _SCHEDULE.search(source):
            return None
        if (source in self.scalers or "scaler" in source.lower()) and call.args:
            return Step(call, self._script.text(call.args[0].value), scaler=source)
        closure = argument(call, "closure", 0)
        if closure is not None and not isinstance(closure.value, cst.Name | cst.Lambda):
            return None
        return Step(call, source, closure=self._script.text(closure.value) if closure is not None else "")

    def _follows_backward(self, call: cst.Call) -> bool:
        function = self._script.function(call)
        return any(
            method(other) == "backward" and self._script.function(other) is function
            for other in self._script.find(cst.Call)
        )

    def need_steps(self) -> list[Step]:
        """The lines that update."""
        if not self.steps:
            raise Refused("no optimizer step is written in this file (a trainer may take it)")
        return self.steps

    def backward_of(self, step: Step) -> cst.Call:
        """The backward pass before a step: in its closure, else the nearest one above in the same function."""
        script = self._script
        if step.closure:
            inside = [b for b in self.backwards if getattr(script.function(b), "name", None) is not None
                      and dotted(getattr(script.function(b), "name", None)) == step.closure]  # fmt: skip
        else:
            line, function = script.line(step.call), script.function(step.call)
            inside = [b for b in self.backwards if script.function(b) is function and script.line(b) <= line]
        if not inside:
            raise Refused("the backward pass of this step was not found", script.line(step.call))
        return inside[-1]

    # -- what belongs to an optimizer ---------------------------------------------------------------------------

    def parameters(self, step: Step) -> str:
        """How to write all parameters of a step's optimizer where the step is taken."""
        built = next((b for b in self.optimizers if b.name and b.name == step.optimizer), None)
        given = built.call.args[0].value if built is not None and built.call.args else None
        if built is not None and given is not None and self._is_visible(given, built.call, step.call):
            return self._script.text(given)
        return f'[p for group in {step.optimizer}.param_groups for p in group["params"]]'

    def _is_visible(self, given: cst.BaseExpression, built: cst.CSTNode, step: cst.CSTNode) -> bool:
        """Whether ``model.parameters()`` means the same at the step: the model's name must be in reach there."""
        if not (isinstance(given, cst.Call) and method(given) == "parameters" and not given.args):
            return False
        first = dotted(receiver(given)).partition(".")[0]
        home, place = self._script.function(built), self._script.function(step)
        if first == "self":
            owners = [self._script.enclosing(node, cst.ClassDef) for node in (built, step)]
            return owners[0] is owners[1]
        return bool(first) and home is place

    def clips(self, *names: str) -> list[cst.Call]:
        """Calls that clip gradients."""
        wanted = names or _CLIPS
        return [c for c in self._script.find(cst.Call) if dotted(c.func).rpartition(".")[2] in wanted]

    def is_unscaled(self, step: Step) -> bool:
        """Whether the script unscales this optimizer's gradients itself."""
        return any(
            method(c) == "unscale_" and c.args and self._script.text(c.args[0].value) == step.optimizer
            for c in self._script.find(cst.Call)
        )

    def schedule_steps(self) -> list[cst.Call]:
        """The lines at which schedulers advance."""
        calls = [call for call in self._script.find(cst.Call) if method(call) == "step"]
        texts = [(call, self._script.text(receiver(call))) for call in calls]
        return [call for call, source in texts if source in self.schedulers or _SCHEDULE.search(source)]

    def hand_set_rates(self) -> list[cst.Assign]:
        """Assignments such as ``group["lr"] = ...``."""
        return [a for a in self._script.find(cst.Assign) if _is_rate(a.targets[0].target)]

    def updates(self) -> list[cst.CSTNode]:
        """Statements that update a tensor by its ``.grad`` without an optimizer."""
        found: list[cst.CSTNode] = []
        for node in self._script.nodes:
            if isinstance(node, cst.AugAssign):
                mine = isinstance(node.operator, cst.SubtractAssign | cst.AddAssign) and _reads_grad(node.value)
            elif isinstance(node, cst.Assign):
                mine = isinstance(node.value, cst.BinaryOperation) and _reads_grad(node.value)
                mine = mine and dotted(node.targets[0].target).removesuffix(".data") in _grad_owners(node.value)
            else:
                call = node.value if isinstance(node, cst.Expr) else None
                mine = method(call) in ("sub_", "add_", "copy_") and _reads_grad(call) if call is not None else False
                mine = mine and not dotted(receiver(call)).endswith(".grad") if mine and call is not None else False
            if mine:
                found.append(node)
        return found


def _is_rate(target: cst.BaseExpression) -> bool:
    if not isinstance(target, cst.Subscript) or len(target.slice) != 1:
        return False
    index = target.slice[0].slice
    return isinstance(index, cst.Index) and isinstance(index.value, cst.SimpleString) and index.value.raw_value == "lr"


def _reads_grad(node: cst.CSTNode) -> bool:
    return bool(_grad_owners(node))


def _grad_owners(node: cst.CSTNode) -> set[str]:
    """The tensors whose ``.grad`` is read in an expression."""
    found = set()
    stack = [node]
    while stack:
        part = stack.pop()
        if isinstance(part, cst.Attribute) and part.attr.value == "grad":
            found.add(dotted(part.value))
        stack += part.children
    return found

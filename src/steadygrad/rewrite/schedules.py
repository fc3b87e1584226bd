"""Schedules of the learning rate: a ramp, a decay, or none."""

from __future__ import annotations

import libcst as cst

from steadygrad.rewrite.constants import number
from steadygrad.rewrite.names import argument, dotted, receiver
from steadygrad.rewrite.script import Refused
from steadygrad.rewrite.task import Task
from steadygrad.rewrite.training import Built, Step

#: Schedulers whose next rate does not build on the last one: a ramp beside them would be overwritten.
_CLOSED = ("OneCycleLR", "CyclicLR", "CosineAnnealingWarmRestarts", "LambdaLR", "SequentialLR", "ChainedScheduler")


def warmup(task: Task) -> None:
    """A linear ramp up to the script's own rate."""
    steps = round(task.positive(100))
    if task.training.hand_set_rates():
        return _ramp_by_hand(task, steps)
    own = list(task.names.calls(*_CLOSED))
    if own:
        return _ramp_in_lambda(task, own, steps)
    linear = task.names.spell("torch.optim.lr_scheduler.LinearLR")
    ramp = f"{linear}({{}}, start_factor=1 / {steps}, total_iters={max(1, steps - 1)})"
    return _add_schedule(task, "warmup", ramp, f"the rate ramps up over {steps} steps")


def decay_schedule(task: Task) -> None:
    """Half a cosine down to a hundredth of the script's own rate, which is then kept."""
    steps = round(task.positive(task.hints.steps or 1000))
    there = [*task.training.schedule_steps(), *task.training.hand_set_rates()]
    if there:
        raise Refused("the script has a schedule already: let that one decay", task.script.line(there[0]))
    cos, pi = task.names.spell("math.cos"), task.names.spell("math.pi")
    shape = f"0.505 + 0.495 * {cos}({pi} * min(1.0, t / {steps}))"
    call = f"{task.names.spell('torch.optim.lr_scheduler.LambdaLR')}({{}}, lambda t: {shape})"
    _add_schedule(task, "decay", call, f"the rate falls along a cosine of {steps} steps")


def _add_schedule(task: Task, wish: str, call: str, words: str) -> None:
    """Build a scheduler after each optimizer, and advance it after each of its steps."""
    for built in task.training.need_optimizers():
        if not built.name:
            raise Refused("the optimizer is not kept in a variable here", task.script.line(built.call))
        name = task.names.fresh(f"{wish}_{_tail(built.name)}" if len(task.training.optimizers) > 1 else wish)
        mine = [s for s in task.training.steps if s.optimizer == built.name and _reaches(task, built, s)]
        task.script.after(built.kept, f"{name} = {call.format(built.name)}", *_hooked(task, built, name, mine))
        for step in mine:
            advance(task, step, f"{name}.step()")
        task.say(words, built.call)


def _tail(name: str) -> str:
    """``opt`` of ``self.opt``."""
    return name.rpartition(".")[2]


def _hooked(task: Task, built: Built, name: str, mine: list[Step]) -> list[str]:
    """Where the steps are taken out of sight, the optimizer itself advances the schedule."""
    return [] if mine else [f"{built.name}.register_step_post_hook(lambda *_: {name}.step())"]


def _reaches(task: Task, built: Built, step: Step) -> bool:
    """Whether a variable made beside the optimizer can be read at the step."""
    home, place = task.script.function(built.kept), task.script.function(step.call)
    return home is place or (home is None and place is not None and "." not in built.name)


def advance(task: Task, step: Step, code: str) -> None:
    """Put code after a step, and after the scaler's update where there is one."""
    if task.script.enclosing(step.call, cst.Lambda) is not None:
        raise Refused("the step is taken inside a lambda", task.script.line(step.call))
    task.script.after(step.call, code)


def _ramp_by_hand(task: Task, steps: int) -> None:
    """``group["lr"] = ...`` at every step: multiplied by the ramp, with the loop's own counter."""
    for assign in task.training.hand_set_rates():
        counters = [c for loop in task.script.loops(assign) if (c := _counter(loop)) is not None]
        if not counters:
            raise Refused("the rate is set by hand, and no counter of steps was found", task.script.line(assign))
        name, start = counters[0]
        t = name if start == "1" else f"{name} + 1"
        ramp = f"min(1.0, {f'({t})' if '+' in t else t} / {steps})"
        task.script.replace(assign.value, _times(task, assign.value, ramp))
        task.say(f"the rate ramps up over {steps} steps", assign)


def _counter(loop: cst.For | cst.While) -> tuple[str, str] | None:
    """The variable that counts a loop's turns, and where it begins."""
    if not isinstance(loop, cst.For) or not isinstance(loop.iter, cst.Call):
        return None
    call = dotted(loop.iter.func)
    if call in ("range", "trange") and isinstance(loop.target, cst.Name):
        start = number(loop.iter.args[0].value) if len(loop.iter.args) > 1 else 0.0
        return (loop.target.value, f"{start:g}") if start in (0.0, 1.0) else None
    if call == "enumerate" and isinstance(loop.target, cst.Tuple) and len(loop.iter.args) == 1:
        first = loop.target.elements[0].value
        return (first.value, "0") if isinstance(first, cst.Name) else None
    return None


def _ramp_in_lambda(task: Task, own: list[cst.Call], steps: int) -> None:
    """A schedule of the script's own as a function of the step: the ramp is multiplied into it."""
    for call in own:
        shape = argument(call, "lr_lambda", 1)
        if task.names.short(call.func) != "LambdaLR" or shape is None:
            raise Refused(
                f"{task.names.short(call.func)} sets the rate itself: give it the ramp", task.script.line(call)
            )
        if not _is_stepped_with(task):
            raise Refused("the schedule does not advance at every step", task.script.line(call))
        function = _function_of(task, shape.value)
        if function is None:
            raise Refused("the function of this schedule was not found", task.script.line(call))
        counter, value = function
        task.script.replace(value, _times(task, value, f"min(1.0, ({counter} + 1) / {steps})"))
        task.say(f"the rate ramps up over {steps} steps", value)


def _times(task: Task, value: cst.BaseExpression, ramp: str) -> str:
    return ramp if number(value) == 1.0 else f"{task.script.factor(value)} * {ramp}"


def _is_stepped_with(task: Task) -> bool:
    blocks = [task.script.block(task.script.statement(s.call)) for s in task.training.steps]
    return any(task.script.block(task.script.statement(c)) in blocks for c in task.training.schedule_steps())


def _function_of(task: Task, shape: cst.BaseExpression) -> tuple[str, cst.BaseExpression] | None:
    """A function's parameter and the one value that it returns."""
    if isinstance(shape, cst.Lambda) and shape.params.params:
        return shape.params.params[0].name.value, shape.body
    functions = [f for f in task.script.find(cst.FunctionDef) if f.name.value == dotted(shape)]
    for function in functions[:1]:
        returns = [r.value for r in task.script.find(cst.Return, function) if r.value is not None]
        if len(returns) == 1 and len(function.params.params) == 1:
            return function.params.params[0].name.value, returns[0]
    return None


def constant_lr(task: Task) -> None:
    """The rate as the optimizer was built with it: the lines that advance schedules are taken out.

    So is the line that builds a schedule that nothing else reads: built, LambdaLR has changed the rate already.
    """
    steps, set_by_hand = task.training.schedule_steps(), task.training.hand_set_rates()
    if set_by_hand:
        raise Refused("the rate is set by hand: leave this assignment out", task.script.line(set_by_hand[0]))
    if not steps:
        raise Refused("no schedule is advanced in this file")
    own = list(task.names.calls(*_CLOSED))
    if own and task.names.short(own[0].func) != "LambdaLR":
        raise Refused(
            f"{task.names.short(own[0].func)} changes the rate as soon as it is built", task.script.line(own[0])
        )
    for call in steps:
        task.say(f"{task.script.text(receiver(call))} no longer advances", call)
        task.script.delete(call)
    built = _only_advanced(task, steps)
    if built is not None:
        task.script.delete(built)


def _only_advanced(task: Task, steps: list[cst.Call]) -> cst.Assign | None:
    """Where the one schedule of a script is built, if it is read nowhere but where it advances."""
    names = {task.script.text(receiver(call)) for call in steps}
    calls = [c for c in task.script.find(cst.Call) if task.names.of(c.func).startswith("torch.optim.lr_scheduler.")]
    above = task.script.parent(calls[0]) if len(calls) == 1 else None
    if not isinstance(above, cst.Assign) or len(above.targets) != 1 or len(names) != 1:
        return None
    chains = (n for n in task.script.nodes if isinstance(n, cst.Name | cst.Attribute))
    read = [n for n in chains if dotted(n) in names and not _is_last(task, n)]
    return above if dotted(above.targets[0].target) in names and len(read) == len(steps) + 1 else None


def _is_last(task: Task, node: cst.CSTNode) -> bool:
    """The ``b`` in ``a.b``."""
    above = task.script.parent(node)
    return isinstance(above, cst.Attribute) and above.attr is node

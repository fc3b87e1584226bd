"""Clipping and steps left out."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from steadygrad.rewrite.constants import number
from steadygrad.rewrite.names import argument, dotted, method, receiver
from steadygrad.rewrite.script import Refused
from steadygrad.rewrite.task import Task, write
from steadygrad.rewrite.training import Step

_NORM = ("clip_grad_norm_", "clip_grad_norm")
_VALUE = ("clip_grad_value_",)
#: Norms that an adaptive threshold looks back on, and how many it needs.
_WINDOW, _ENOUGH = 100, 10


def clip_norm(task: Task) -> None:
    """Clip the global norm right before each update."""
    _clip(task, "clip_grad_norm_", "max_norm", task.positive(1.0), _NORM)


def clip_value(task: Task) -> None:
    """Clamp every gradient entry right before each update."""
    _clip(task, "clip_grad_value_", "clip_value", task.positive(1.0), _VALUE)


def _clip(task: Task, function: str, keyword: str, limit: float, own: tuple[str, ...]) -> None:
    existing = task.training.clips(*own)
    if existing:
        for call in existing:
            _threshold(task, call, limit)
        return
    name = task.names.spell(f"torch.nn.utils.{function}")
    for place, parameters in before_updates(task):
        task.script.before(place, f"{name}({parameters}, {keyword}={write(limit)})")
        task.say(f"gradients are clipped by {function}, {keyword}={write(limit)}", place)


def _threshold(task: Task, call: cst.Call, limit: float) -> None:
    given = argument(call, "max_norm", 1) or argument(call, "clip_value", 1)
    if given is None:
        raise Refused("the threshold of this clip was not found", task.script.line(call))
    task.change(given.value, lambda old: limit, write(limit), "clip threshold")


def before_updates(task: Task) -> Iterator[tuple[cst.CSTNode, str]]:
    """The statement before which gradients are complete and not yet used, and how to write the parameters there."""
    training = task.training
    if not training.optimizers and not training.steps and training.updates():
        yield _first_update(task), _hand_updated(task)
        return
    done: set[str] = set()
    for step in training.need_steps():
        if step.closure:
            yield _after_backward(task, step), training.parameters(step)
            continue
        if step.scaler and not training.is_unscaled(step) and step.optimizer not in done:
            task.script.before(step.call, f"{step.scaler}.unscale_({step.optimizer})")
            task.say("gradients are unscaled first", step.call)
        done.add(step.optimizer)
        yield step.call, training.parameters(step)


def _after_backward(task: Task, step: Step) -> cst.CSTNode:
    """In a closure, the statement that follows the backward pass: what it returns, as a rule."""
    backward = task.script.statement(task.training.backward_of(step))
    block = task.script.block(backward)
    rows = list(block.body) if isinstance(block, cst.IndentedBlock) else []
    here = [i for i, row in enumerate(rows) if row is task.script.parent(backward)]
    following = rows[here[0] + 1] if here and here[0] + 1 < len(rows) else None
    if following is None:
        raise Refused("nothing follows the backward pass in the closure", task.script.line(backward))
    return following.body[0] if isinstance(following, cst.SimpleStatementLine) else following


def _first_update(task: Task) -> cst.CSTNode:
    """The statement that begins a script's own update: its no_grad block or its loop."""
    first: cst.CSTNode = task.training.updates()[0]
    for above in task.script.ancestors(first):
        if isinstance(above, cst.For | cst.While | cst.FunctionDef):
            if isinstance(above, cst.For) and _walks_parameters(above):
                first = above
                continue
            break
        if isinstance(above, cst.With):
            first = above
    return first


def _walks_parameters(loop: cst.For) -> bool:
    """``for p in parameters`` rather than the training loop."""
    return isinstance(loop.target, cst.Name) and not (
        isinstance(loop.iter, cst.Call) and dotted(loop.iter.func) in ("range", "enumerate", "trange")
    )


def _hand_updated(task: Task) -> str:
    """The tensors that a script updates itself."""
    updates = task.training.updates()
    owners = list(dict.fromkeys(o for update in updates for o in _owners(update)))
    loop = next((above for above in task.script.ancestors(updates[0]) if isinstance(above, cst.For)), None)
    if loop is not None and owners == [dotted(loop.target)]:
        return task.script.text(loop.iter)
    if not owners or not all(owners) or any(task.script.enclosing(u, cst.For) is not loop for u in updates):
        raise Refused("the tensors of this update were not found", task.script.line(updates[0]))
    return f"[{', '.join(owners)}]"


def _owners(update: cst.CSTNode) -> Iterator[str]:
    stack = [update]
    while stack:
        node = stack.pop()
        if isinstance(node, cst.Attribute) and node.attr.value == "grad":
            yield dotted(node.value)
        stack += node.children


# -- the script's own clip --------------------------------------------------------------------------------------


def loosen_clip(task: Task) -> None:
    """Another threshold for the clip that is there; without a value, none."""
    limit = float("inf") if task.spec.value in ("", "off") else task.positive(1.0)
    existing = task.training.clips()
    for call in existing:
        _threshold(task, call, limit)
    by_hand = [] if existing else list(_thresholds_by_hand(task))
    for node in by_hand:
        task.change(node, lambda old: limit, write(limit), "clip threshold")
    if not existing and not by_hand:
        raise Refused("no clip was found in this file")


def _thresholds_by_hand(task: Task) -> Iterator[cst.BaseExpression]:
    """``if norm > limit: g.mul_(limit / norm)`` and ``p.grad.clamp_(-limit, limit)``."""
    for comparison in task.script.find(cst.Comparison):
        limit = comparison.comparisons[0].comparator
        holder = task.script.function(comparison) or task.script.enclosing(comparison, cst.For)
        larger = isinstance(comparison.comparisons[0].operator, cst.GreaterThan | cst.GreaterThanEqual)
        if larger and holder is not None and ".grad" in task.script.text(holder) and _is_divided(task, limit, holder):
            yield limit
    for call in task.script.find(cst.Call):
        if method(call) in ("clamp_", "clip_") and dotted(receiver(call)).endswith((".grad", ".grad.data")):
            yield from (arg.value for arg in call.args if number(arg.value) is None or (number(arg.value) or 0) > 0)


def _is_divided(task: Task, limit: cst.BaseExpression, holder: cst.CSTNode) -> bool:
    text = task.script.text(limit)
    divisions = (b for b in task.script.find(cst.BinaryOperation, holder) if isinstance(b.operator, cst.Divide))
    return any(task.script.text(b.left) == text for b in divisions)


# -- what looks back on recent norms ----------------------------------------------------------------------------


def _look_back(task: Task, place: cst.CSTNode) -> str:
    """A window of recent norms, made before the outermost loop around the update."""
    name, deque = task.names.fresh("recent_norms"), task.names.spell("collections.deque")
    loops = task.script.loops(place)
    owner = task.script.enclosing(place, cst.ClassDef)
    home = loops[-1] if loops else owner or task.script.function(place)
    if home is None:
        raise Refused("the update is in no loop", task.script.line(place))
    task.script.before(home, f"{name} = {deque}(maxlen={_WINDOW})")
    return name


def clip_adaptive(task: Task) -> None:
    """Clip to the median of the recent norms, times a factor."""
    factor = task.positive(1.0)
    if task.training.clips():
        raise Refused("the script clips already: loosen or replace that clip",
                      task.script.line(task.training.clips()[0]))  # fmt: skip
    clip, median = task.names.spell("torch.nn.utils.clip_grad_norm_"), task.names.spell("statistics.median")
    for place, parameters in before_updates(task):
        recent = _look_back(task, place)
        times = "" if factor == 1.0 else f"{factor:g} * "
        limit = f'{times}{median}({recent}) if len({recent}) >= {_ENOUGH} else float("inf")'
        norm, bound = task.names.fresh("grad_norm"), task.names.fresh("limit")
        task.script.before(
            place,
            f"{bound} = {limit}",
            f"{norm} = float({clip}({parameters}, {bound}))",
            f'if {norm} < float("inf"):',
            f"{task.script.indent}{recent}.append({norm})",
        )
        task.say(f"gradients are clipped to {times}the median of their last {_WINDOW} norms", place)


def _own_clip(task: Task, step: Step) -> cst.CSTNode | None:
    """The script's clip before a step, which would hide how large its gradient was."""
    block, line = task.script.block(task.script.statement(step.call)), task.script.line(step.call)
    beside = [call for call in task.training.clips() if task.script.block(task.script.statement(call)) is block]
    return next((call for call in beside if task.script.line(call) < line), None)


def skip_bad_step(task: Task) -> None:
    """Leave out steps whose gradient is not finite, or far above the recent ones."""
    factor = task.positive(10.0)
    steps = task.training.need_steps()
    if any(step.closure for step in steps):
        raise Refused("a step with a closure cannot be left out", task.script.line(steps[0].call))
    norm_of, median = task.names.spell("torch.nn.utils.get_total_norm"), task.names.spell("statistics.median")
    for step, (update, parameters) in zip(steps, list(before_updates(task)), strict=True):
        place = _own_clip(task, step) or update
        recent, norm, bound = _look_back(task, place), task.names.fresh("grad_norm"), task.names.fresh("limit")
        given = f"[p.grad for p in {parameters} if p.grad is not None]"
        if parameters.startswith("["):
            given = parameters.replace("[p for", "[p.grad for").removesuffix("]") + " if p.grad is not None]"
        task.script.before(
            place,
            f"{norm} = float({norm_of}({given}))",
            f'{bound} = {factor:g} * {median}({recent}) if len({recent}) >= {_ENOUGH} else float("inf")',
            f'if {norm} < float("inf"):',
            f"{task.script.indent}{recent}.append({norm})",
        )
        task.script.under(step.call, f'if {norm} < float("inf") and {norm} <= {bound}:')
        task.say(
            f"steps with a gradient norm above {factor:g} times the median of the last {_WINDOW} are left out", place
        )

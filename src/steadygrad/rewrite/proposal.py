"""Remedies written into a script: the front of the package."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from steadygrad.records import RemedySpec
from steadygrad.rewrite import (
    activation,
    attaching,
    clipping,
    initial,
    inputs,
    losses,
    lsuv,
    normalization,
    numerics,
    plumbing,
    rate,
    regularization,
    residual,
    schedules,
)
from steadygrad.rewrite.hints import Hints
from steadygrad.rewrite.script import Refused
from steadygrad.rewrite.task import Task

REMEDIES: dict[str, Callable[[Task], None]] = {
    "clip-norm": clipping.clip_norm,
    "clip-value": clipping.clip_value,
    "clip-adaptive": clipping.clip_adaptive,
    "lower-lr": rate.lower_lr,
    "raise-lr": rate.raise_lr,
    "warmup": schedules.warmup,
    "decay-schedule": schedules.decay_schedule,
    "constant-lr": schedules.constant_lr,
    "line-search": rate.line_search,
    "reinit-xavier": initial.reinit_xavier,
    "reinit-kaiming": initial.reinit_kaiming,
    "reinit-orthogonal": initial.reinit_orthogonal,
    "reinit-lsuv": lsuv.reinit_lsuv,
    "swap-activation": activation.swap_activation,
    "add-normalization": normalization.add_normalization,
    "add-residual": residual.add_residual,
    "standardize-input": inputs.standardize_input,
    "skip-bad-step": clipping.skip_bad_step,
    "zero-grad": plumbing.zero_grad,
    "full-precision": numerics.full_precision,
    "loss-on-logits": losses.loss_on_logits,
    "mean-reduction": losses.mean_reduction,
    "match-shapes": losses.match_shapes,
    "guard-operation": numerics.guard_operation,
    "adaptive-optimizer": rate.adaptive_optimizer,
    "l2-regularization": regularization.l2_regularization,
    "l1-regularization": regularization.l1_regularization,
    "reduce-weight-decay": regularization.reduce_weight_decay,
    "replace-batchnorm": normalization.replace_batchnorm,
    "loosen-clip": clipping.loosen_clip,
    "attach-parameters": attaching.attach_parameters,
}


@dataclass(frozen=True, slots=True)
class Unsupported:
    """A remedy that could not be written in safely, and where to do it by hand."""

    spec: RemedySpec
    reason: str
    place: str = ""  # file:line


@dataclass(frozen=True, slots=True)
class Rewrite:
    """A script with remedies written in.

    Attributes:
        source: the whole new text; the old one where nothing could be done.
        diff: the change as a unified diff, empty where there is none.
        lines: numbers of the new or changed lines, in the new text.
        notes: what was changed, one sentence each.
        unsupported: remedies that were not written in, with the reason.
    """

    source: str
    diff: str
    lines: tuple[int, ...]
    notes: tuple[str, ...]
    unsupported: tuple[Unsupported, ...]

    @property
    def complete(self) -> bool:
        """Whether every remedy was written in."""
        return not self.unsupported


def propose(source: str, path: str, specs: Sequence[RemedySpec], hints: Hints | None = None) -> Rewrite:
    """Write remedies into a script, as a person would: few lines, in plain PyTorch, all else untouched.

    A remedy is refused where the text does not show for certain what to change.

    Args:
        source: the script.
        path: where it lies; its base name is compared with the places that hints and specs give.
        specs: the remedies, written in one after the other.
        hints: what a run of it knows, see :func:`hints_of`.

    Raises:
        InputError: the source is not valid Python, or a remedy has a value that it does not take.

    >>> script = "import torch\\nw = torch.nn.Linear(2, 1)\\nopt = torch.optim.SGD(w.parameters(), lr=0.5)  # fast\\n"
    >>> print(propose(script, "train.py", [RemedySpec("lower-lr", "0.05")]).source.splitlines()[-1])
    opt = torch.optim.SGD(w.parameters(), lr=0.05)  # fast
    """
    hints = hints or Hints()
    text, notes, unsupported = source, list[str](), list[Unsupported]()
    for spec in specs:
        try:
            new, said = _one(text, path, spec, hints)
        except Refused as refusal:
            place = f"{os.path.basename(path)}:{refusal.line}" if refusal.line else ""
            unsupported.append(Unsupported(spec, refusal.reason, place))
            continue
        hints = hints.moved(path, _line_map(text, new))
        text, notes = new, [*notes, *said]
    diff = "".join(difflib.unified_diff(*_lines(source, text), f"a/{path}", f"b/{path}")) if text != source else ""
    return Rewrite(text, diff, _changed_lines(source, text), tuple(notes), tuple(unsupported))


def _one(source: str, path: str, spec: RemedySpec, hints: Hints) -> tuple[str, list[str]]:
    write = REMEDIES.get(spec.code)
    if write is None:
        raise Refused("this remedy has no form in code")
    task = Task(source, path, spec, hints)
    write(task)
    new = task.script.changed()
    if new == source:
        raise Refused("the script is as the remedy would make it")
    try:
        compile(new.encode(), path, "exec", dont_inherit=True)  # as a file, which may begin with a byte order mark
    except SyntaxError as error:  # a bug of ours, that must not reach the user's file
        raise Refused(f"the change would not have been valid Python ({error.msg})", error.lineno or 0) from error
    return new, task.said


def _lines(old: str, new: str) -> tuple[list[str], list[str]]:
    return old.splitlines(keepends=True), new.splitlines(keepends=True)


def _changed_lines(old: str, new: str) -> tuple[int, ...]:
    matcher = difflib.SequenceMatcher(None, *_lines(old, new), autojunk=False)
    return tuple(i + 1 for tag, _, _, j1, j2 in matcher.get_opcodes() if tag != "equal" for i in range(j1, j2))


def _line_map(old: str, new: str) -> Callable[[int], int]:
    """Where a line of the old text is in the new one."""
    codes = difflib.SequenceMatcher(None, *_lines(old, new), autojunk=False).get_opcodes()

    def new_line(line: int) -> int:
        for _, i1, i2, j1, j2 in codes:
            if i1 < line <= i2:
                return min(j1 + line - i1, max(j2, j1 + 1))
        return line

    return new_line

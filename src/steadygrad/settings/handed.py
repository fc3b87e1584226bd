"""Values that a script hands to a package which trains for it: ``TrainingArguments(learning_rate=5e-5)``.

There the call that builds the optimizer, clips or calls ``backward`` is a line of the package. What the user can change
is a keyword argument of their own file.
"""

from __future__ import annotations

import ast

from steadygrad.settings.following import resolve
from steadygrad.settings.lines import criterion_line, drawn_line, half_line
from steadygrad.settings.scopes import Scope, called

#: What trainers call a value, by what a finding asks for.
WORDS = {
    "lr": ("lr", "learning_rate", "lr0", "base_lr", "init_lr", "max_lr"),
    "weight_decay": ("weight_decay",),
    "max_norm": ("max_norm", "max_grad_norm", "gradient_clip_val", "clip_grad_norm", "grad_clip", "gradient_clipping"),
    "clip_value": ("clip_value", "gradient_clip_val", "clip_grad_value"),
}
_ASKED = {"optimizer": ("lr", "weight_decay"), "clip": ("max_norm", "clip_value")}
_CALLS = {"backward": ("backward",), "clip": ("clip_grad_norm_", "clip_grad_value_", "clip_gradients")}
_BESIDE_BACKWARD = {"criterion": criterion_line, "weights": drawn_line, "half": half_line}


def is_wrapped(what: str, scope: Scope) -> bool:
    """Whether the present line itself asks for it, of an object that wraps torch: ``accelerator.backward(loss)``."""
    return any(called(call) in _CALLS.get(what, ()) for call in scope.calls_at(scope.line))


def handed_over(what: str, scope: Scope) -> dict[str, str]:
    """``file:line`` of each such value, by its name in a call of torch's."""
    if what == "backward":
        return {name: line(scope) for name, line in _BESIDE_BACKWARD.items()}
    return {name: _keyword(scope, WORDS[name]) for name in _ASKED[what]}


def _keyword(scope: Scope, words: tuple[str, ...]) -> str:
    """Where the file's keyword arguments of such a name get their value; "" where that is more than one place."""
    given = [n.value for n in ast.walk(scope.tree) if isinstance(n, ast.keyword) and n.arg in words]
    found = {resolve(scope.at(value), value, 0) or scope.where(value) for value in given}
    return found.pop() if len(found) == 1 else ""

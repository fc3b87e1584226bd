"""Learning from a model's first training forward which of its calls are hidden and which make its output.

That first forward runs as the script wrote it and its update is left out; from the second on the remedy is in place.
So no forward is run twice, no random number is drawn and nothing is written, and the weights that the remedied model
starts from are those that the script made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from steadygrad.calls import first_tensor
from steadygrad.frames import user_frame
from steadygrad.interventions.stage import Stage

#: Which call of a forward it is: the module, the line, and how often that line has run with it.
Site = tuple[Hashable, ...]


@dataclass
class Script:
    """What was learned about one root model."""

    learned: bool = False  # ... and in force, from the next forward on
    ended: bool = False
    last: Site | None = None
    outputs: set[Site] = field(default_factory=set)  # sites whose result is what the model returns
    order: list[Site] = field(default_factory=list)
    repeats: Counter[Site] = field(default_factory=Counter)  # in the running forward
    _kept: list[tuple[Site, Tensor]] = field(default_factory=list)

    def keep(self, site: Site, out: Any) -> None:
        """A call made in the rehearsal."""
        self.order.append(site)
        self.last = site
        if isinstance(out, Tensor):
            self._kept.append((site, out))

    def end(self, result: Any) -> None:
        """The rehearsal is over."""
        returned = {t.data_ptr() for t in tensors_in(result) if t.numel()}
        self.outputs = {site for site, out in self._kept if out.numel() and out.data_ptr() in returned}
        self._kept.clear()
        self.ended = True


class Rehearsal:
    """Scripts of all root models. A remedy asks for the running model's and keeps calls until it is learned."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._scripts: WeakKeyDictionary[nn.Module, Script] = WeakKeyDictionary()
        stage.watch_steps()  # which leaves the rehearsal's update out
        stage.on_root(self._begins)
        stage.on_input(self._resets)
        stage.after_root(self._ended)

    @property
    def script(self) -> Script | None:
        """The running model's; None outside of models, and where it has never been trained."""
        root = self._stage.root
        return self._scripts.get(root) if root is not None else None

    def site(self, *what: Hashable) -> Site:
        """Name the running call: what it is, the user's line, and its turn."""
        script = self.script
        frame = user_frame(3)
        line = (frame.f_code.co_filename, frame.f_lineno) if frame is not None else ("", 0)
        site = (*what, *line)
        turn = 0
        if script is not None:
            turn = script.repeats[site]
            script.repeats[site] += 1
        return (*site, turn)

    def _begins(self, model: nn.Module) -> None:
        if model not in self._scripts:
            self._scripts[model] = Script()
            self._stage.leave_out_update = True
        script = self._scripts[model]
        script.learned = script.ended

    def _resets(self, model: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
        if model in self._scripts:
            self._scripts[model].repeats.clear()
        return args, kwargs

    def _ended(self, model: nn.Module, out: Any) -> None:
        script = self._scripts.get(model)
        if script is not None and not script.ended:
            script.end(out)


def tensors_in(value: Any) -> list[Tensor]:
    """Every tensor of a nested output."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [tensor for item in value for tensor in tensors_in(item)]
    first = first_tensor(value)
    return [first] if first is not None else []

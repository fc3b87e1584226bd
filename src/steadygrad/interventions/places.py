"""Which modules, calls or lines a remedy's place means."""

from __future__ import annotations

import os

from torch import nn

from steadygrad.frames import user_frame


def chosen(model: nn.Module, place: str) -> list[nn.Module]:
    """Every module of a model, or only the place's own and those inside it.

    Places are dotted names as findings give them: of the model, or of an owner of it (``net.0`` where the model that
    runs is ``net``), of a module or of one of its parameters.
    """
    if not place:
        return list(model.modules())
    return [module for name, module in model.named_modules() if inside(name, place)]


def inside(name: str, place: str) -> bool:
    """Whether the module called ``name`` is the place, or inside it, or holds the parameter it names."""
    wanted = place.split(":", maxsplit=1)[0]
    for known in (wanted, wanted.rpartition(".")[0] if wanted.rpartition(".")[2] in _LEAVES else wanted):
        tail = known.partition(".")[2]
        for candidate in {known, tail} - {""}:
            if name == candidate or name.startswith(candidate + "."):
                return True
    return False


_LEAVES = ("weight", "bias")


def is_line(place: str) -> bool:
    """Whether a place is ``file:line``."""
    path, _, line = place.rpartition(":")
    return bool(path) and line.isdigit()


def at_line(place: str, depth: int = 2) -> bool:
    """Whether the user's line that is running is the place; a place that is no line means every line."""
    path, _, line = place.rpartition(":")
    if not is_line(place):
        return True
    frame = user_frame(depth)
    if frame is None:
        return False
    return frame.f_lineno == int(line) and os.path.basename(frame.f_code.co_filename) == os.path.basename(path)

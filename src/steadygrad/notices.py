"""Where clippers and steppers say what they do, so that an observer need not measure it again.

Lists of listeners, empty unless a run is observed. A listener must not raise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: Called with a clip's parameters, its threshold (NaN where it has no single one) and its result: the clip is about to
#: be applied. One that is only measured is nobody's business.
clip_measured: list[Callable[[list[Any], float, Any], None]] = []
#: Called with the reason when an optimizer step is not taken; and with whether its hooks ran all the same, because an
#: accelerator decided: then it is known late, after the next backward pass as a rule.
step_skipped: list[Callable[[str, bool], None]] = []


def tell_skipped(reason: str, *, recorded: bool = False) -> None:
    """Tell every listener of :data:`step_skipped`."""
    for tell in step_skipped:
        tell(reason, recorded)

"""Where clippers and steppers say what they did, so that an observer need not measure it again.

Lists of listeners, empty unless a run is observed. A listener must not raise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: Called with a clip's parameters, its threshold (NaN where it has no single one) and its result, before the scaling.
clip_measured: list[Callable[[list[Any], float, Any], None]] = []
#: Called with the reason when an optimizer step is not taken.
step_skipped: list[Callable[[str], None]] = []

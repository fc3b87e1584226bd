"""What a trial tells its parent while it runs: one JSON object per line, through an inherited file descriptor."""

from __future__ import annotations

import json
import math
import os
import time
from typing import Any

from steadygrad.records import StepRecord

_FLUSH_SECONDS = 0.05


class Progress:
    """Sends steps and the result to whoever started this process.

    Lines are ``{"step", "stream", "loss"}`` for each step, ``{"remedy", "note"}`` once a remedy was applied or refused,
    and ``{"end": {...}}`` last. NaN and infinities are the strings "nan", "inf" and "-inf". Steps are sent a few times
    a second, all at once. If nobody reads any more the process ends: its parent is gone.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lines: list[str] = []
        self._sent = 0.0
        self._process = os.getpid()
        os.set_inheritable(descriptor, False)  # what the script starts must not hold the pipe open

    def step(self, record: StepRecord) -> None:
        """A step of the script."""
        self._lines.append(_line({"step": record.step, "stream": record.stream, "loss": record.loss}))
        if time.monotonic() - self._sent > _FLUSH_SECONDS:
            self.flush()

    def remedy(self, spec: str, note: str) -> None:
        """A remedy was applied, or could not be; ``note`` says which and why."""
        self._lines.append(_line({"remedy": spec, "note": note}))

    def end(self, **result: Any) -> None:
        """The script has ended, with this result."""
        self._lines.append(_line({"end": result}))
        self.flush()

    def flush(self) -> None:
        """Send what has gathered."""
        if os.getpid() != self._process:  # a fork of the script
            return
        text, self._lines, self._sent = "".join(self._lines).encode(), [], time.monotonic()
        try:
            while text:
                text = text[os.write(self._descriptor, text) :]
        except OSError:
            os._exit(1)


def _line(message: dict[str, Any]) -> str:
    plain = {k: str(v) if isinstance(v, float) and not math.isfinite(v) else v for k, v in message.items()}
    return json.dumps(plain, default=str) + "\n"
